"""Control groups: the caps on memory and on the number of processes.

Linux has two hierarchies of them, and hosts with both. Each controller is looked for in the second
version first, then in the first. What is found is tried, as being shown is not being allowed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import attrs
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorFDSet

from syndicate.domain.job import Limits

_CONTROLLERS = ("memory", "pids")


class _Mount(NamedTuple):
    """One mounted hierarchy."""

    version: int
    #: The part of the hierarchy that is shown at the mount point.
    shown: str
    point: Path
    controllers: frozenset[str]


@attrs.frozen
class Hierarchy:
    """Where groups are made, and which controllers work there."""

    version: int
    #: The directory of this volunteer; each run has one of its own in it.
    home: Path
    controllers: frozenset[str]


@attrs.define(eq=False)
class Group:
    """The control groups of one launcher and all that it starts: a directory in each hierarchy.

    A launcher joins while it waits for its order: moving a process into a group makes the kernel
    wait for all processors, some ten milliseconds, and during that time nobody can fork.
    """

    #: The directories.
    places: dict[Path, Hierarchy] = attrs.field(factory=dict)

    @property
    def paths(self) -> list[str]:
        """The directories that a process has to join."""
        return [str(path) for path in self.places]

    def set(self, limits: Limits) -> None:
        """Cap what is in the groups from now on."""
        for path, hierarchy in self.places.items():
            for name, value in _settings(hierarchy, limits):
                (path / name).write_text(value)

    def out_of_memory(self) -> bool:
        """Whether a process was killed as the memory cap was hit."""
        for path, hierarchy in self.places.items():
            if "memory" in hierarchy.controllers:
                name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
                return _count(path / name, "oom_kill") > 0
        return False

    def watch(self, when_out: Callable[[], None], reactor: IReactorFDSet) -> OomWatch | None:
        """Be told at once when memory runs out. In the second version the kernel itself kills the
        whole group then, so there is nothing to be told.
        """
        for path, hierarchy in self.places.items():
            if "memory" in hierarchy.controllers and hierarchy.version == 1:
                return OomWatch(path, when_out, reactor)
        return None

    def remove(self) -> list[Path]:
        """Remove the directories.

        :returns: those that are still in use; try again a little later.
        """
        return [path for path in self.places if not remove_group(path)]


def remove_group(path: Path) -> bool:
    """Remove a group; false while it is in use."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


class OomWatch(FileDescriptor):
    """A reader of the event that a version-1 group fires when its memory is used up."""

    def __init__(self, group: Path, when_out: Callable[[], None], reactor: IReactorFDSet) -> None:
        super().__init__(reactor)
        self._when_out = when_out
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(group / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            (group / "cgroup.event_control").write_text(f"{self._event} {control}")
        except OSError:
            os.close(self._event)
            raise
        finally:
            os.close(control)
        self.startReading()

    def fileno(self) -> int:
        return self._event

    def doRead(self) -> None:
        os.eventfd_read(self._event)
        # It also fires when the group is removed; by then nobody listens any more.
        self._when_out()

    def close(self) -> None:
        """Listen no more."""
        if self._event >= 0:
            self.stopReading()
            os.close(self._event)
            self._event = -1


class ControlGroups:
    """The control groups of one volunteer.

    :param tag: names this volunteer among all on the host.
    """

    def __init__(self, tag: str, hierarchies: tuple[Hierarchy, ...] = ()) -> None:
        self._name = f"syndicate-{tag}"
        self._hierarchies = hierarchies

    @property
    def controllers(self) -> frozenset[str]:
        """What can be capped: of ``memory`` and ``pids``."""
        return frozenset().union(*(hierarchy.controllers for hierarchy in self._hierarchies))

    def find(self) -> list[str]:
        """Find out what this host has and lets us use.

        :returns: sentences on what is missing.
        """
        found: dict[Path, Hierarchy] = {}
        remarks = []
        own = _own_groups(Path("/proc/self/cgroup").read_text())
        mounts = sorted(_mounts(), key=lambda mount: -mount.version)
        for controller in _CONTROLLERS:
            problems = []
            for mount in mounts:
                if controller not in mount.controllers:
                    continue
                try:
                    home = _home(mount, own, self._name)
                    _try(home, mount.version, controller)
                except OSError as error:
                    problems.append(f"{error.strerror}: {error.filename}")
                    continue
                so_far = found[home].controllers if home in found else frozenset()
                found[home] = Hierarchy(mount.version, home, so_far | {controller})
                break
            else:
                why = "; ".join(problems) or "the kernel has no such control group mounted"
                remarks.append(
                    f"The {controller} of a job cannot be capped by a control group ({why}): run "
                    "the volunteer as root, or with Delegate=yes in its systemd unit."
                )
        self._hierarchies = tuple(found.values())
        return remarks

    def make(self) -> Group:
        """Make the groups of a launcher, without any caps."""
        group = Group()
        name = os.urandom(6).hex()
        for hierarchy in self._hierarchies:
            (hierarchy.home / name).mkdir()
            group.places[hierarchy.home / name] = hierarchy
        return group

    def leftovers(self) -> Iterator[Path]:
        """The groups of this volunteer that exist, wherever they were made, innermost first."""
        for mount in _mounts():
            for directory, _, _ in os.walk(mount.point, topdown=False):
                path = Path(directory)
                if self._name in path.relative_to(mount.point).parts:
                    yield path

    def close(self) -> None:
        """Remove the volunteer's own directories."""
        for hierarchy in self._hierarchies:
            try:
                hierarchy.home.rmdir()
            except OSError:
                continue  # the sweep of the next start sees to it


def _settings(hierarchy: Hierarchy, limits: Limits) -> Iterator[tuple[str, str]]:
    memory, pids = str(limits.memory), str(limits.pids + 2)  # our own: launcher and init
    if "pids" in hierarchy.controllers:
        yield "pids.max", pids
    if "memory" in hierarchy.controllers:
        if hierarchy.version == 2:
            yield "memory.max", memory
            yield "memory.oom.group", "1"
            if _has_swap():
                yield "memory.swap.max", "0"
        else:
            yield "memory.limit_in_bytes", memory
            if _has_swap():
                yield "memory.memsw.limit_in_bytes", memory


def _has_swap() -> bool:
    return len(Path("/proc/swaps").read_text().splitlines()) > 1


def _processes(group: Path) -> set[int]:
    try:
        return {int(line) for line in (group / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def _count(file: Path, key: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)


def _mounts() -> Iterator[_Mount]:
    """The hierarchies that are mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        shown, point = fields.split(" ")[3:5]
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup":
            yield _Mount(1, shown, Path(point), frozenset(options.split(",")))
        elif kind == "cgroup2":
            try:
                controllers = (Path(point) / "cgroup.controllers").read_text().split()
            except OSError:
                continue
            yield _Mount(2, shown, Path(point), frozenset(controllers))


def _own_groups(text: str) -> Mapping[str, str]:
    """The path of our own group by controller; the second version has the key ``''``."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _home(mount: _Mount, own: Mapping[str, str], name: str) -> Path:
    """The directory to make groups in, made if need be.

    In the first version it is at the root, where the daemon's own caps do not count for its jobs.
    In the second only the part of the tree that was given to the daemon is its to change.
    """
    if mount.version == 1:
        home = mount.point / name
        home.mkdir(exist_ok=True)
        return home
    beneath = os.path.relpath(own.get("", "/"), mount.shown)
    base = mount.point if beneath.startswith("..") else mount.point / beneath
    if base.name == f"{name}-daemon":  # an earlier look has moved us already
        base = base.parent
    if base != mount.point:
        _make_room(base, name)
    _enable(base)
    home = base / name
    home.mkdir(exist_ok=True)
    _enable(home)
    return home


def _make_room(base: Path, name: str) -> None:
    """Move who is in a group into one beneath it: only groups without processes may pass
    controllers on to others.
    """
    inner = base / f"{name}-daemon"
    inner.mkdir(exist_ok=True)
    for pid in _processes(base):
        try:
            (inner / "cgroup.procs").write_text(str(pid))
        except ProcessLookupError:
            continue


def _enable(group: Path) -> None:
    control = group / "cgroup.subtree_control"
    enabled = control.read_text().split()
    for controller in _CONTROLLERS:
        if controller not in enabled:
            try:
                control.write_text(f"+{controller}")
            except OSError:
                continue  # `_try` tells whether it works


def _try(home: Path, version: int, controller: str) -> None:
    """Make a group and set a cap.

    :raises OSError: where that is not possible.
    """
    trial = home / "trial"
    trial.mkdir(exist_ok=True)
    try:
        limits = Limits()
        for name, value in _settings(Hierarchy(version, home, frozenset({controller})), limits):
            (trial / name).write_text(value)
    finally:
        trial.rmdir()
