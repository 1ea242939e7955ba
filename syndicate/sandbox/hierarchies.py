"""Finding the hierarchies of control groups that this host has and lets us use.

Linux has two versions of them, and hosts with both. Each controller is looked for in the second
version first, then in the first. What is found is tried, as being shown is not being allowed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import attrs

from syndicate.domain.job import Limits
from syndicate.mounts import mounts as all_mounts

#: What is to be capped, by controller, and the limit that it enforces.
CAPS = {"memory": "memory", "pids": "pids", "cpu": "cores"}
#: What counts processor time: every group of the second version does, controllers or none.
ACCOUNT = "cpuacct"
#: The limit that needs that.
COUNTED = "cpu"
#: What is used beside: every group of the second version can be frozen, controllers or none.
FREEZER = "freezer"
#: By version: the file to write to, and what freezes and what thaws.
FREEZE = {1: ("freezer.state", "FROZEN", "THAWED"), 2: ("cgroup.freeze", "1", "0")}
#: What every group of the second version has.
_ALWAYS = (FREEZER, ACCOUNT)
#: Said where there is not one. ``ip netns exec`` mounts /sys anew, and nothing in it.
_NONE = (
    "The memory, processes and cores of a job cannot be capped by control groups, nor its "
    "processor time counted, nor can it be paused: none are mounted where the volunteer sees them. "
    "Mount them (mount -t cgroup2 none /sys/fs/cgroup); if it was started by 'ip netns exec NAME', "
    "which hides them, start it by 'nsenter --net=/run/netns/NAME' instead."
)
#: Microseconds of the spans in which the processor time of all processes is capped.
_PERIOD = 100_000
#: Of the processes in a group two are ours: the launcher, and the first one of its namespace.
_OURS = 2


@attrs.frozen
class Hierarchy:
    """Where groups are made, and which controllers work there."""

    #: 1 or 2.
    version: int
    #: The directory of this volunteer; each launcher has one of its own in it.
    home: Path
    controllers: frozenset[str]


class Mount(NamedTuple):
    """One mounted hierarchy."""

    version: int
    #: The part of the hierarchy that is shown at the mount point.
    shown: str
    point: Path
    controllers: frozenset[str]


def find(name: str, around: Collection[Path] = ()) -> tuple[tuple[Hierarchy, ...], list[str]]:
    """Make a volunteer's directory of that name wherever a controller can be used.

    :param around: groups of others that all processes are to be in. In the second version each
        process is in one group only, and in those around that: so ours is made in theirs.
    :returns: what was found, and sentences on what is missing.
    """
    found: dict[Path, Hierarchy] = {}
    remarks = []
    mounted = sorted(mounts(), key=lambda mount: -mount.version)
    if not mounted:
        return (), [_NONE]
    for controller in (*CAPS, FREEZER, ACCOUNT):
        problems = []
        for home, version in _homes(mounted, controller, name, around):
            try:
                _try(home, version, controller)
            except OSError as error:
                problems.append(f"{error.strerror}: {error.filename}")
                continue
            so_far = found[home].controllers if home in found else frozenset()
            found[home] = Hierarchy(version, home, so_far | {controller})
            break
        else:
            why = "; ".join(problems) or "the kernel has no such control group mounted"
            remarks.append(f"{_lack(controller)} ({why}): {_remedy(mounted, controller)}.")
    return tuple(found.values()), remarks


def _remedy(mounted: Collection[Mount], controller: str) -> str:
    if not any(controller in mount.controllers for mount in mounted):
        return "mount one that has it, or have it let through into the container"
    if os.geteuid() == 0:
        return (
            "let the volunteer write to the control groups that it sees (a container often has "
            "them read-only), or give it one of its own by Delegate=yes in its systemd unit"
        )
    return "run the volunteer as root, or with Delegate=yes in its systemd unit"


def _lack(controller: str) -> str:
    if controller == FREEZER:
        return "Jobs cannot be paused by a control group"
    if controller == ACCOUNT:
        return "The processor time of a job cannot be counted by a control group"
    return f"The {CAPS[controller]} of a job cannot be capped by a control group"


def mounts() -> Iterator[Mount]:
    """The hierarchies that are mounted."""
    for point, shown, kind, _, options in all_mounts():
        if kind == "cgroup":
            yield Mount(1, shown, point, frozenset(options.split(",")))
        elif kind == "cgroup2":
            try:
                controllers = (point / "cgroup.controllers").read_text().split()
            except OSError:
                continue
            yield Mount(2, shown, point, frozenset({*controllers, *_ALWAYS}))


def apply(path: Path, hierarchy: Hierarchy, limits: Limits) -> None:
    """Cap what is in a group.

    :raises OSError: when the kernel does not take it.
    """
    settings: dict[str, object] = {}
    if "pids" in hierarchy.controllers:
        settings["pids.max"] = limits.pids + _OURS
    if "memory" in hierarchy.controllers and hierarchy.version == 2:
        settings |= {"memory.max": limits.memory, "memory.oom.group": 1, "memory.swap.max": 0}
    elif "memory" in hierarchy.controllers:
        settings["memory.limit_in_bytes"] = limits.memory
        settings["memory.memsw.limit_in_bytes"] = limits.memory
    if "cpu" in hierarchy.controllers:
        quota = round(limits.cores * _PERIOD) if limits.cores < (os.cpu_count() or 1) else None
        if hierarchy.version == 2:
            settings["cpu.max"] = f"{quota or 'max'} {_PERIOD}"
        else:
            settings |= {"cpu.cfs_period_us": _PERIOD, "cpu.cfs_quota_us": quota or -1}
    for name, value in settings.items():
        if "sw" not in name or (path / name).exists():  # a kernel may not count swap
            (path / name).write_text(str(value))


def used(path: Path, version: int) -> float:
    """The seconds of processor time that all in a group have used so far.

    :raises OSError: it is not counted there.
    """
    if version == 1:
        return int((path / "cpuacct.usage").read_text()) / 1e9
    words = (path / "cpu.stat").read_text().split()
    return int(words[words.index("usage_usec") + 1]) / 1e6


def _homes(
    mounted: list[Mount], controller: str, name: str, around: Collection[Path]
) -> Iterator[tuple[Path, int]]:
    """Where the volunteer's directory could be, the best place first."""
    for mount in mounted:
        if controller not in mount.controllers:
            continue
        theirs = [group for group in around if group.is_relative_to(mount.point)]
        if theirs:
            yield theirs[0] / name, mount.version
            continue
        if mount.version == 2 and (base := _given(mount, name)):
            yield base / name, 2
        # At the root the daemon's own caps do not count for its jobs.
        yield mount.point / name, mount.version


def _given(mount: Mount, name: str) -> Path | None:
    """The group of the second version that was given to this daemon, if one was: the one that we
    are alone in.

    Only a group without processes may pass controllers on, so we move into one beneath it.
    """
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    beneath = os.path.relpath(own, mount.shown)
    if beneath == "." or beneath.startswith(".."):
        return None
    group = mount.point / beneath
    if group.name == f"{name}-daemon":  # an earlier look has moved us already
        return group.parent
    try:
        if (group / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            return None
        inner = group / f"{name}-daemon"
        inner.mkdir(exist_ok=True)
        (inner / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None
    return group


def _try(home: Path, version: int, controller: str) -> None:
    """Make the directory, and in it a group with a cap.

    :raises OSError: where that is not possible.
    """
    passed_on = version == 2 and controller not in _ALWAYS
    if passed_on:
        _pass_on(home.parent, controller)
    home.mkdir(exist_ok=True)
    if passed_on:
        _pass_on(home, controller)
    trial = home / "trial"
    trial.mkdir(exist_ok=True)
    try:
        apply(trial, Hierarchy(version, home, frozenset({controller})), Limits())
        if controller == ACCOUNT:
            used(trial, version)
        if controller == FREEZER:
            (trial / FREEZE[version][0]).write_text(FREEZE[version][2])
    finally:
        trial.rmdir()


def _pass_on(group: Path, controller: str) -> None:
    if controller not in (group / "cgroup.controllers").read_text().split():
        _pass_on(group.parent, controller)  # at the latest above the root there is no such file
    control = group / "cgroup.subtree_control"
    if controller not in control.read_text().split():
        control.write_text(f"+{controller}")
