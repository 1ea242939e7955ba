"""What labs may have left behind, and how it is taken away."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from syndicate.domain.errors import Corrupt, Unavailable
from syndicate.lab import neighbours, network, processes, state
from syndicate.lab.disks import unmount_skeletons
from syndicate.lab.network import Claim
from syndicate.lab.processes import NAMESPACES, Identity, Spaces

_OURS = re.compile(r"syn-\d+-")


def claims_of(directory: Path) -> list[Claim]:
    """The numbers that are taken for the lab in this directory."""
    return [claim for claim in network.claims() if claim.directory == directory]


def sweep(claim: Claim) -> None:
    """Take away everything that belongs to a number, and give it back; under the machine's lock."""
    # A daemon that was started but not yet written down is found in its namespace.
    spaces = Spaces.named(network.namespaces(claim))
    end_all(spaces)
    network.remove(claim)
    end_all(spaces)  # nobody can enter any more, but somebody may just have entered
    if not network.claims():
        neighbours.restore(claim.limits)


def end_all(spaces: Spaces) -> None:
    """Kill everything that is in network namespaces, whoever started it."""
    while left := spaces.processes():
        _thaw(left)
        processes.end(left, 0)


def _thaw(left: Iterable[Identity]) -> None:
    """What a fault has frozen may not die before it is let go on."""
    from syndicate.sandbox.leftovers import thaw

    thaw(identity.pid for identity in left)


def sweep_orphans(say: Callable[[str], None]) -> None:
    """Take away labs whose files are gone; under the machine's lock."""
    for claim in network.claims():
        if not is_owned(claim):
            say(f"Taking away what is left of a lab that has no files any more ({claim.bridge}).")
            sweep(claim)
            if claim.directory is not None:
                unmount_skeletons(claim.directory)


def is_owned(claim: Claim) -> bool:
    """Whether the files of the lab that a number was taken for are there."""
    if claim.directory is None:
        return False
    try:
        description = state.read(claim.directory)
    except Corrupt:
        return True  # its user may still want to look at it
    return description is not None and description.index == claim.index


def count_namespaces() -> int:
    """How many hosts all labs of this machine have together."""
    return sum(map(bool, map(_OURS.match, os.listdir(NAMESPACES)))) if NAMESPACES.is_dir() else 0


def clear_sandboxes(volunteers: Mapping[str, Path]) -> None:
    """Take away what jobs of volunteers that were killed have left: mounts, loop devices and
    control groups. Their processes must have ended.

    :param volunteers: state directories by name.
    :raises Unavailable: something cannot be taken away.
    """
    from syndicate.sandbox.leftovers import detach_loops, unmount_all

    try:
        for directory in volunteers.values():
            unmount_all(directory)
            detach_loops(directory)
        if present := group_names():
            _clear_groups(volunteers, present)
    except OSError as error:
        raise Unavailable(
            f"{error.filename or 'Something'} that jobs have left cannot be taken away:"
            f" {error.strerror}. Look for what uses it, then run the command again."
        ) from error


def _clear_groups(volunteers: Mapping[str, Path], present: Collection[str]) -> None:
    # Volunteers that ended in order have left none; and this takes Twisted with it.
    from syndicate.network import groups as network_groups
    from syndicate.sandbox.cgroups import ControlGroups
    from syndicate.sandbox.host import tag_of

    for name, directory in volunteers.items():
        tag = tag_of(name, directory)
        if f"syndicate-{tag}" in present:
            for path in ControlGroups(tag).leftovers():
                _remove_group(path)
        if f"syndicate-{tag}-network" in present:
            for path in _below(network_groups.place(tag)):
                _remove_group(path)


def group_names() -> set[str]:
    """The names of all control groups that look like a volunteer's."""
    found = set()
    for _, names, _ in os.walk("/sys/fs/cgroup"):
        found |= {name for name in names if name.startswith("syndicate-")}
    return found


def _below(group: Path) -> list[Path]:
    """A group and all below it, innermost first."""
    return [Path(directory) for directory, _, _ in os.walk(group, topdown=False)]


def _remove_group(path: Path) -> None:
    # A group is in use for a moment after its last process was killed.
    deadline = time.monotonic() + 5
    while path.exists():
        try:
            path.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
