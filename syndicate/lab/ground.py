"""The ground that a lab stands on: its directory, and what of it is outside of that."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from syndicate.domain.errors import Corrupt
from syndicate.lab import leftovers, processes, state
from syndicate.lab.crew import identity_of
from syndicate.lab.disks import Disks, unmount_skeletons
from syndicate.lab.lock import whole_machine

#: Seconds that daemons get to end by themselves.
GRACE = 8.0


def make(directory: Path) -> None:
    """Make the directory of a lab, unless it is there."""
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if "SUDO_UID" in os.environ and os.geteuid() == 0:
        # They belong to the one who called sudo, so that his command line can read them.
        owner = int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1"))
        for path in new:
            os.chown(path, *owner)


def clear_away(directory: Path, *, keep: bool) -> None:
    """End what runs and take the network away; then the files too, unless they are kept and are
    those of a lab that was whole once.
    """
    with contextlib.suppress(Corrupt):
        if (description := state.read(directory)) is not None:
            daemons = [each for h in description.hosts.values() if (each := identity_of(h))]
            processes.end(daemons, GRACE)
    with whole_machine():
        for claim in leftovers.claims_of(directory):
            leftovers.sweep(claim)
    states = {path.parent.name: path for path in directory.glob("v*/state")}
    if states:
        leftovers.clear_sandboxes(states)
    unmount_skeletons(directory)
    if not keep:
        Disks(directory).unmount()
    _keep_or_clear(directory, keep=keep)


def _keep_or_clear(directory: Path, *, keep: bool) -> None:
    with contextlib.suppress(Corrupt):
        description = state.read(directory)
        if keep and description is not None and description.stage in ("up", "kept"):
            description.stage = "kept"
            state.write(directory, description)
            return
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove(directory: Path) -> None:
    """Remove the directory, and those of all labs where it was the last."""
    shutil.rmtree(directory)
    if directory.parent == state.labs_directory():
        with contextlib.suppress(OSError):  # something else is in it
            directory.parent.rmdir()
            if directory.parent.parent.name == "syndicate":
                directory.parent.parent.rmdir()
