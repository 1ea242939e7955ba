"""A volunteer whose guard lets out what it should block, and says that all is well.

Run with the words for ``twistd``. With it a test shows that it would notice.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs
from twisted.scripts.twistd import run

from syndicate.domain.fault import Links
from syndicate.lab.daemons import RealDaemons
from syndicate.lab.state import Host
from syndicate.network.guard import NftGuard


class LeakyDaemons(RealDaemons):
    """The real ones, but for some volunteers."""

    def __init__(self) -> None:
        #: Names of the hosts whose volunteers leak, from their next start on.
        self.leaks: set[str] = set()

    def command(self, directory: Path, host: Host) -> list[str]:
        python, twistd, *words = super().command(directory, host)
        return [python, __file__ if host.name in self.leaks else twistd, *words]


def _leak() -> None:
    apply = NftGuard._apply

    async def leave_open(self: NftGuard, links: Links) -> Any:
        return await apply(self, attrs.evolve(links, blocked=()))

    async def believe(self: NftGuard, links: Links) -> Any:
        return ()

    NftGuard._apply = leave_open  # type: ignore[method-assign]
    NftGuard._verify = believe  # type: ignore[method-assign]


if __name__ == "__main__":
    _leak()
    sys.argv[0] = "twistd"
    run()
