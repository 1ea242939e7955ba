"""Daemons that kill themselves, as ``kill -9`` would, in the midst of a fault.

Run with the words for ``twistd``. Where to die is told by a file ``halt`` in the directory that it
was started in, with the name of one of `POINTS`; it is taken away first, so that the next start
goes on.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.scripts.twistd import run

from syndicate.lab.daemons import RealDaemons
from syndicate.lab.state import Host
from syndicate.manager.fault_orders import FaultOrders
from syndicate.network.guard import NftGuard
from syndicate.sandbox.enclosure import Enclosure
from syndicate.sandbox.run import Run
from syndicate.volunteer.hurt import Hurt

#: By name: whose method, and whether to die before or after it.
POINTS: dict[str, tuple[type, str, bool]] = {
    "before a kill": (Run, "kill", True),
    "after a kill, before its proof": (Hurt, "_kill", False),
    "with half of a disk wiped": (Enclosure, "_make_disk", True),
    "after a wipe, before the start": (Enclosure, "_wipe", False),
    "after a start, before its proof": (Hurt, "_revive", False),
    "after a pause, before its proof": (Hurt, "_pause", False),
    "after a cut, before its proof": (NftGuard, "_apply", False),
    "after the proof of a cut": (NftGuard, "_verify", False),
    # Of the manager.
    "with a fault written down, before its orders": (FaultOrders, "carry_out", True),
    "with a fault done, before its answer": (FaultOrders, "carry_out", False),
}


class HaltingDaemons(RealDaemons):
    """The real ones, which look for where they are to die."""

    def command(self, directory: Path, host: Host) -> list[str]:
        python, _, *words = super().command(directory, host)
        return [python, __file__, *words]


def _halt(point: str, place: Path) -> None:
    if place.exists() and place.read_text() == point:
        place.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _wrapped(method: Callable[..., Any], point: str, *, before: bool, place: Path) -> Any:
    if before:

        @functools.wraps(method)
        def halting(*args: Any, **kw: Any) -> Any:
            _halt(point, place)
            return method(*args, **kw)

        return halting

    @functools.wraps(method)
    async def halting_after(*args: Any, **kw: Any) -> Any:
        result = await method(*args, **kw)
        _halt(point, place)
        return result

    return halting_after


def _prepare(place: Path) -> None:
    for point, (owner, name, before) in POINTS.items():
        method = _wrapped(getattr(owner, name), point, before=before, place=place)
        setattr(owner, name, method)


if __name__ == "__main__":
    _prepare(Path("halt").absolute())
    sys.argv[0] = "twistd"
    run()
