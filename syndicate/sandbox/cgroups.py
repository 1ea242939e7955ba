"""Control groups: what all that a launcher starts may use, has used, and whether it is frozen."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING

import attrs

from syndicate.domain.job import Limits
from syndicate.sandbox.hierarchies import (
    ACCOUNT,
    FREEZE,
    FREEZER,
    Hierarchy,
    apply,
    find,
    mounts,
    used,
)

if TYPE_CHECKING:
    # The lab clears groups away, and does without Twisted.
    from twisted.internet.interfaces import IReactorFDSet

    from syndicate.sandbox.oom import OomWatch


@attrs.define(eq=False)
class Group:
    """The control groups of one launcher and all that it starts: a directory in each hierarchy.

    A launcher joins while it waits for its order: moving a process into a group makes the kernel
    wait for all processors, some ten milliseconds, and during that time nobody can fork.
    """

    #: The directories.
    places: dict[Path, Hierarchy] = attrs.field(factory=dict)
    #: Groups of others that are joined as well.
    others: tuple[Path, ...] = ()
    #: Whether it was frozen, and not thawed since.
    frozen: bool = False

    @property
    def paths(self) -> list[str]:
        """The directories that a process has to join."""
        return [str(path) for path in (*self.others, *self.places)]

    def set(self, limits: Limits) -> None:
        """Cap what is in the groups from now on."""
        for path, hierarchy in self.places.items():
            apply(path, hierarchy, limits)

    def out_of_memory(self) -> bool:
        """Whether a process was killed as the memory cap was hit."""
        for path, hierarchy in self.places.items():
            if "memory" in hierarchy.controllers:
                name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
                return _count(path / name, "oom_kill") > 0
        return False

    def short_of_processes(self) -> bool:
        """Whether a process could not be made as the cap was hit."""
        return any(
            _count(path / "pids.events", "max") > 0
            for path, hierarchy in self.places.items()
            if "pids" in hierarchy.controllers
        )

    def processor_time(self) -> float | None:
        """Seconds that all in the groups have used so far; None where nobody counts."""
        for path, hierarchy in self.places.items():
            if ACCOUNT in hierarchy.controllers:
                try:
                    return used(path, hierarchy.version)
                except OSError:  # it has ended, and the group is gone
                    return None
        return None

    def watch(self, when_out: Callable[[], None], reactor: IReactorFDSet) -> OomWatch | None:
        """Be told at once when memory runs out. In the second version the kernel itself kills the
        whole group then, so there is nothing to be told.
        """
        for path, hierarchy in self.places.items():
            if "memory" in hierarchy.controllers and hierarchy.version == 1:
                from syndicate.sandbox.oom import OomWatch

                return OomWatch(path, when_out, reactor)
        return None

    @property
    def can_freeze(self) -> bool:
        """Whether there is a freezer."""
        return self._freezer is not None

    def freeze(self) -> None:
        """Have all that is in the groups stand still; it takes some milliseconds, and in the first
        version may have to be asked for again. Nothing happens where nothing is left.
        """
        self.frozen = True
        self._set_freezer(1)

    def thaw(self) -> None:
        """Have it go on."""
        if self.frozen:
            self._set_freezer(2)
        self.frozen = False

    def stands_still(self) -> bool:
        """Whether the kernel says that everything is frozen."""
        if self._freezer is None:
            return False
        path, version = self._freezer
        if version == 2:
            return _count(path / "cgroup.events", "frozen") == 1
        try:
            return (path / "freezer.state").read_text().strip() == "FROZEN"
        except OSError:
            return False

    def kill(self) -> None:
        """Kill all that is in the groups, although it is frozen."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        # In the first version what is frozen dies only as it thaws, but before it does anything.
        self.thaw()

    def processes(self) -> frozenset[int]:
        """The processes in the groups that live, by their numbers on the host."""
        return frozenset().union(*map(processes_in, self.places))

    @property
    def _freezer(self) -> tuple[Path, int] | None:
        for path, hierarchy in self.places.items():
            if FREEZER in hierarchy.controllers:
                return path, hierarchy.version
        return None

    def _set_freezer(self, word: int) -> None:
        assert self._freezer is not None
        path, version = self._freezer
        try:
            (path / FREEZE[version][0]).write_text(FREEZE[version][word])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # it was removed meanwhile
                raise

    def remove(self) -> list[Path]:
        """Remove the directories.

        :returns: those that are still in use; try again a little later.
        """
        return [path for path in self.places if not remove_group(path)]


def processes_in(group: Path) -> set[int]:
    """The processes in a control group."""
    try:
        return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


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


class ControlGroups:
    """The control groups of one volunteer.

    :param tag: names this volunteer among all on the host.
    :param others: tells of groups that somebody else makes and removes, and that all our processes
        have to be in; asked by `find`.
    """

    def __init__(
        self,
        tag: str,
        hierarchies: tuple[Hierarchy, ...] = (),
        others: Callable[[], tuple[Path, ...]] = tuple,
    ) -> None:
        self._name = f"syndicate-{tag}"
        self._hierarchies = hierarchies
        self._tell_others = others
        self._others: tuple[Path, ...] = ()

    @property
    def controllers(self) -> frozenset[str]:
        """What can be used: of ``memory``, ``pids``, ``cpu``, ``cpuacct`` and ``freezer``."""
        return frozenset().union(*(hierarchy.controllers for hierarchy in self._hierarchies))

    @property
    def homes(self) -> frozenset[Path]:
        """The directories that `make` makes groups in, once `find` has found them."""
        return frozenset(hierarchy.home for hierarchy in self._hierarchies)

    def find(self) -> list[str]:
        """Find out what this host has and lets us use.

        :returns: sentences on what is missing.
        """
        others = self._tell_others()
        self._hierarchies, remarks = find(self._name, others)
        # Who is in a group is in those around it too.
        homes = [hierarchy.home for hierarchy in self._hierarchies]
        self._others = tuple(
            group for group in others if not any(home.is_relative_to(group) for home in homes)
        )
        return remarks

    def make(self) -> Group:
        """Make the groups of a launcher, without any caps."""
        group = Group(others=self._others)
        name = os.urandom(6).hex()
        for hierarchy in self._hierarchies:
            (hierarchy.home / name).mkdir()
            group.places[hierarchy.home / name] = hierarchy
        return group

    def leftovers(self) -> Iterator[Path]:
        """The groups of this volunteer that exist, wherever they were made, innermost first."""
        for mount in mounts():
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


def _count(file: Path, key: str) -> int:
    """A number of a file of lines ``key number``."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)
