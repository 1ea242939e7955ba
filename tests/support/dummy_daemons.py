"""Something simpler in the place of the daemons, for tests of the lab's own work.

Run as a program it brings a lab up and is killed in the midst of it::

    python -m tests.support.dummy_daemons DIRECTORY NAME POINT
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

import attrs

from syndicate.lab.cluster import Lab
from syndicate.lab.state import Description, Host

#: Where a maker may die: before anything is in the directory's namespaces, after one and after all
#: daemons were started, and with a daemon started that is not written down.
POINTS = ("furnish", "first daemon", "second daemon", "ready")


@attrs.define
class Sleepers:
    """Every host runs ``sleep``, and is ready at once."""

    #: At which the process kills itself, if any; see `POINTS`.
    dies_at: str = ""
    argv: tuple[str, ...] = ("sleep", "600")
    #: Who gets ready; None for all.
    gets_ready: tuple[str, ...] | None = None
    _started: int = 0

    def furnish(self, directory: Path, description: Description) -> None:
        self._die("furnish")

    def command(self, directory: Path, host: Host) -> list[str]:
        self._started += 1
        if self._started > 1:
            self._die("first daemon" if self._started == 2 else "second daemon")
        return list(self.argv)

    def ready(self, description: Description) -> Collection[str]:
        self._die("ready")
        return description.hosts.keys() if self.gets_ready is None else self.gets_ready

    def _die(self, point: str) -> None:
        if self.dies_at == point:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    place, name, point = sys.argv[1:]
    Lab(name, Path(place), daemons=Sleepers(point)).up(8)
