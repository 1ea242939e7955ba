"""Proving that nothing of a job is left, and removing what a crashed daemon has left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from syndicate import mounts
from syndicate.sandbox import cgroups, hierarchies
from syndicate.sandbox.confine import syscalls
from syndicate.sandbox.hierarchies import FREEZE, FREEZER
from syndicate.sandbox.uids import alive, processes_of

_LOOP_CLR_FD = 0x4C01


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
            if elsewhere and not any(mount.concerns(state) for mount in mounts.mounts(pid)):
                continue
        except OSError:
            pass  # it is ending, or hides: then it counts
        if alive(pid):
            found.add(pid)
    return found


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
    found = [mount for mount in mounts.below(directory) if mount.point != directory]
    for mount in found:
        syscalls.unmount(str(mount.point))
    return len(found)


def detach_loops(directory: Path) -> int:
    """Free the loop devices of a directory; returns how many there were."""
    devices = list(mounts.loops_below(directory))
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


def processes_in(groups: Iterable[Path]) -> set[int]:
    """The processes in control groups, without ourselves."""
    return set().union(*map(cgroups.processes_in, groups)) - {os.getpid()}


def thaw(pids: Iterable[int]) -> None:
    """Let those processes of jobs go on that are frozen. In the first version of control groups
    what was killed while it is frozen dies only then, and before it does anything else.
    """
    freezers = [
        mount
        for mount in hierarchies.mounts()
        if mount.version == 1 and FREEZER in mount.controllers
    ]
    for path in {path for pid in pids for path in _freezer_groups(pid)}:
        for mount in freezers:
            group = mount.point / os.path.relpath(path, mount.shown)
            with contextlib.suppress(FileNotFoundError):
                name, _, go_on = FREEZE[1]
                (group / name).write_text(go_on)


def _freezer_groups(pid: int) -> Iterator[str]:
    """The group of ours that a process can be frozen by, if there is one."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if FREEZER in controllers.split(",") and "/syndicate-" in path:
            yield path
