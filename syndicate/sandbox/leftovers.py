"""Proving that nothing of a job is left, and removing what a crashed daemon has left."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from syndicate.sandbox.cgroups import processes_in
from syndicate.sandbox.confine import syscalls
from syndicate.sandbox.hierarchies import FREEZE
from syndicate.sandbox.uids import alive, processes_of

_LOOP_CLR_FD = 0x4C01


def mounts_below(directory: Path) -> list[str]:
    """What is mounted at or below a directory, in our mount namespace, innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if point == str(directory) or point.startswith(f"{directory}/"):
            found.append(point)
    return sorted(found, reverse=True)


def strays(uids: Collection[int], state: Path) -> set[int]:
    """Processes of these users that are this volunteer's.

    Those of a user id that something else on the host has as well, against all advice, are not:
    they have no place below our state directory, but one of their own.
    """
    own_namespace = os.stat("/proc/self/ns/mnt").st_ino
    found = set()
    for pid in processes_of(uids):
        try:
            elsewhere = os.stat(f"/proc/{pid}/ns/mnt").st_ino != own_namespace
            if elsewhere and str(state) not in Path(f"/proc/{pid}/mountinfo").read_text():
                continue
        except OSError:
            pass  # it is ending, or hides: then it counts
        if alive(pid):
            found.add(pid)
    return found


def loops_below(directory: Path) -> Iterator[Path]:
    """Loop devices whose image lies below a directory, or did so when it was removed."""
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            image = file.read_text()
        except OSError:
            continue
        if image.startswith(f"{directory}/"):
            yield Path("/dev") / file.parts[3]


def kill_all(pids: set[int]) -> int:
    """Kill processes; returns how many there were to kill."""
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            continue
    return killed


def unmount_all(directory: Path) -> int:
    """Unmount what is below a directory; returns how many mounts there were. The directory itself
    may be a mount of the operator's.
    """
    points = [point for point in mounts_below(directory) if point != str(directory)]
    for point in points:
        syscalls.unmount(point)
    return len(points)


def detach_loops(directory: Path) -> int:
    """Free the loop devices of a directory; returns how many there were."""
    devices = list(loops_below(directory))
    for path in devices:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CLR_FD)
        except OSError as error:
            if error.errno != errno.ENXIO:  # free already
                raise
        finally:
            os.close(device)
    return len(devices)


def thawed_in(groups: Iterable[Path]) -> set[int]:
    """The processes in control groups, without ourselves; what was frozen goes on, as it may have
    to before it can die.
    """
    found: set[int] = set()
    for path in groups:
        found |= processes_in(path)
        for name, _, thaw in FREEZE.values():
            if (path / name).exists():
                (path / name).write_text(thaw)
    return found - {os.getpid()}
