"""What the parts of a volunteer work with: its clock, its rooms, and its ways to the manager."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from syndicate.blobs.interface import IBlobStore, IBlobTransfer
from syndicate.client.interface import IHandle
from syndicate.domain.job import Limits
from syndicate.network.interface import INetworkFaults
from syndicate.sandbox.interface import ISandbox
from syndicate.wire.interface import Ask, EndReport


class Door(Protocol):
    """What a client knocks on."""

    def open(self) -> Deferred[None]:
        """Let it be knocked on."""

    def close(self) -> Deferred[None]:
        """End everything, and remove its sockets."""


@attrs.frozen
class Bench:
    """What every part works with."""

    clock: IReactorTime
    sandbox: ISandbox
    cache: IBlobStore
    transfer: IBlobTransfer
    #: Where spools and outputs lie until the manager has them.
    spool: Path
    #: Brings a report to the manager; waits, for ever if need be, until it is stored.
    report: Callable[[EndReport], Awaitable[None]]
    #: Brings a client's request to the manager.
    ask: Callable[[Ask], Deferred[Any]]
    network: INetworkFaults
    #: Keeps jobs from the ports of manager and volunteers, wherever these are now.
    close_ports: Callable[[], Awaitable[object]]
    #: Whether packets can be guarded on this host.
    guarded: bool
    #: Opens the door of a client: its directory, the user that may use it, what is behind it.
    make_door: Callable[[Path, int, IHandle, Limits], Door]
    #: Where doors are, and what else clients find beside them; each machine's is below it.
    doors: Path
    timeline: Callable[[], float]
