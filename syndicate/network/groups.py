"""The control group, of the second version, by which a volunteer's jobs are known to the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path

from syndicate.network.interface import group_root

#: What a prober is in: below the group, as it is no process of the job.
PROBER = "prober"


def place(volunteer: str) -> Path:
    """Where the group of a volunteer is.

    :param volunteer: its `syndicate.network.rules.tag`.
    :raises FileNotFoundError: this host has no control groups of the second version.
    """
    return group_root() / f"syndicate-{volunteer}-network"


def make(group: Path) -> None:
    """Make it.

    :raises OSError: where that is not possible.
    """
    for path in (group, group / PROBER):
        path.mkdir(exist_ok=True)


def depth(group: Path) -> int:
    """How deep it is below the root of what we see of the hierarchy."""
    return len(group.relative_to(group_root()).parts)


def remove(group: Path) -> bool:
    """Remove it with those below it; false while one of them is in use."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
    return True


def empty(group: Path) -> None:
    """Kill what is in it and below it."""
    if (group / "cgroup.kill").exists():
        (group / "cgroup.kill").write_text("1")
        return
    for directory, _, _ in os.walk(group):  # before Linux 5.14
        for pid in (Path(directory) / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
