"""The library for benchmark clients, ``import syndicate.client``; see `syndicate.client.sync`.

Nothing is imported before it is asked for: the daemons, which need other modules of this room, do
not load the library, nor does the library load Twisted.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from syndicate.client.sync import Client as Client
    from syndicate.client.sync import Fault as Fault
    from syndicate.client.sync import Machine as Machine
    from syndicate.client.sync import SyndicateError as SyndicateError
    from syndicate.client.sync import connect as connect


def __getattr__(name: str) -> Any:
    # Other small letters are modules of this room.
    if name != "connect" and not name[:1].isupper():
        raise AttributeError(name)
    import importlib

    return getattr(importlib.import_module("syndicate.client.sync"), name)
