"""What all enclosures of one volunteer share: its directories, launchers, user ids and the like."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from syndicate.domain.errors import NotClean
from syndicate.sandbox import skeleton
from syndicate.sandbox.cgroups import ControlGroups
from syndicate.sandbox.confine.discard import discard
from syndicate.sandbox.disk import Disks
from syndicate.sandbox.interface import SourceRules
from syndicate.sandbox.launching import IHostReactor
from syndicate.sandbox.orders import Identity, Walls
from syndicate.sandbox.sources import Sources
from syndicate.sandbox.spares import Launchers
from syndicate.sandbox.uids import Uids

T = TypeVar("T")


def tag_of(name: str, state: Path) -> str:
    """Name a volunteer so that no other on the host is named so: two labs may both have a
    ``volunteer-1``, but no two daemons share a state directory.
    """
    digest = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()
    return f"{name}-{digest[:8]}"


#: The manager has let the source in by its site's rules; here only what no site allows is refused.
RULES = SourceRules(unpacked=64 << 30)


@attrs.define
class Host:
    """The volunteer's part of this host."""

    reactor: IHostReactor
    state: Path
    launchers: Launchers
    groups: ControlGroups
    uids: Uids
    disks: Disks
    sources: Sources
    mode: Literal["root", "user"] = "root"
    resolv_conf: Path | None = None
    #: The lowest layer of every job's root, once `provide_skeleton` has made it.
    skeleton: Path = Path("/nonexistent")
    #: Where skeletons are that other volunteers on this machine use too; None: they have their own.
    shared_skeletons: Path | None = None
    walls: Walls = attrs.field(factory=lambda: Walls(seccomp=False, scope=False))
    _clearing: dict[Path, Deferred[None]] = attrs.field(factory=dict)
    #: What could not be removed, and why.
    _stuck: dict[Path, str] = attrs.field(factory=dict)

    @classmethod
    def at(
        cls,
        reactor: IHostReactor,
        state: Path,
        name: str,
        uids: tuple[int, int],
        resolv_conf: Path | None,
        other_groups: Callable[[], tuple[Path, ...]],
        shared_skeletons: Path | None = None,
    ) -> Host:
        """Lay out the state directory."""
        state = state.resolve()
        groups = ControlGroups(tag_of(name, state), others=other_groups)
        launchers = Launchers(reactor, groups)
        return cls(
            reactor=reactor,
            state=state,
            launchers=launchers,
            groups=groups,
            uids=Uids(*uids),
            disks=Disks(reactor, state / "templates"),
            sources=Sources(launchers, state / "sources", RULES),
            resolv_conf=resolv_conf,
            shared_skeletons=shared_skeletons,
        )

    @property
    def jobs(self) -> Path:
        """Where enclosures are."""
        return self.state / "jobs"

    @property
    def trash(self) -> Path:
        """Where things are moved to that are to be removed."""
        return self.state / "trash"

    def make_directories(self) -> None:
        """Make what is not there yet. Jobs' users may pass through, and see nothing."""
        self.state.mkdir(parents=True, exist_ok=True)
        for name in ("jobs", "sources", "templates", "trash"):
            (self.state / name).mkdir(mode=0o711, exist_ok=True)

    def provide_skeleton(self) -> None:
        """Make the skeleton, or take the one that another volunteer has made; blocks."""
        shared = self.shared_skeletons
        place = shared or self.state / "skeletons"
        self.skeleton = skeleton.provide(place, shared=shared is not None)

    def old_groups(self) -> list[Path]:
        """Control groups of this volunteer that its launchers of now are not in, nor its later
        ones will be made in; innermost first.
        """
        used = self.launchers.groups | self.groups.homes
        return [path for path in self.groups.leftovers() if path not in used]

    def identity(self, uid: int) -> Identity:
        """How to become that user."""
        return {"mode": self.mode, "uid": uid}

    def clear(self, path: Path) -> None:
        """Move something out of the way at once, and remove it in a thread; see `cleared`."""
        rubbish = self.trash / os.urandom(8).hex()
        path.rename(rubbish)
        self._discard(rubbish)

    def _discard(self, rubbish: Path) -> None:
        def over(result: object) -> None:
            del self._clearing[rubbish]
            if isinstance(result, Failure):
                self._stuck[rubbish] = result.getErrorMessage()

        self._clearing[rubbish] = self.in_thread(discard, str(rubbish)).addBoth(over)

    async def cleared(self) -> None:
        """Wait until all that was cleared away is removed.

        :raises NotClean: when something cannot be removed. It is tried again the next time.
        """
        stuck, self._stuck = self._stuck, {}
        for rubbish in stuck:
            self._discard(rubbish)
        for work in list(self._clearing.values()):
            await work
        if self._stuck:
            problems = "; ".join(f"{path}: {why}" for path, why in self._stuck.items())
            raise NotClean(f"What a job left behind cannot be removed. Look at {problems}.")

    def in_thread(self, work: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Do something that may block."""
        pool = self.reactor.getThreadPool()
        return deferToThreadPool(self.reactor, pool, work, *arguments)
