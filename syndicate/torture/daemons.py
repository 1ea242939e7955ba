"""The daemons of a torture: the real ones, on small disks."""

from __future__ import annotations

from pathlib import Path

import attrs

from syndicate.lab.daemons import IDaemons, RealDaemons
from syndicate.lab.disks import Disks, mounted
from syndicate.lab.state import Description, Host

#: Sooner than by default a silent volunteer is given up, so that a minute sees it happen.
LIVENESS = """\
[liveness]
ping = "1s"
deadline = "5s"
grace = "6s"
"""


@attrs.define
class OnSmallDisks:
    """The daemons of a torture: the real ones, their state on small disks, their manager of
    little patience.
    """

    disks: Disks
    _daemons: IDaemons = attrs.field(factory=RealDaemons)

    def furnish(self, directory: Path, description: Description) -> None:
        """See `IDaemons.furnish`."""
        there = mounted(directory)
        lacking = [name for name in description.hosts if self.disks.place(name) not in there]
        self.disks.mount(lacking)
        self._daemons.furnish(directory, description)
        with (directory / "manager/manager.toml").open("a") as file:
            file.write(LIVENESS)

    def command(self, directory: Path, host: Host) -> list[str]:
        """See `IDaemons.command`."""
        return self._daemons.command(directory, host)

    def ready(self, description: Description) -> list[str]:
        """See `IDaemons.ready`."""
        return list(self._daemons.ready(description))
