"""One prepared place, and what may be done with it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, DeferredLock, TimeoutError, fail
from twisted.internet.task import deferLater
from zope.interface import implementer

from syndicate import mounts
from syndicate.domain.errors import Conflict, InvalidSource, NotClean, TooLarge
from syndicate.domain.job import Limits
from syndicate.sandbox import leftovers
from syndicate.sandbox.confine.looking import count
from syndicate.sandbox.hierarchies import ACCOUNT
from syndicate.sandbox.host import Host
from syndicate.sandbox.interface import Collected, IEnclosure, IRun, Output, Plot
from syndicate.sandbox.orders import CollectOrder, LookOrder, Place, RunOrder
from syndicate.sandbox.run import Run
from syndicate.sandbox.skeleton import make_identity
from syndicate.sandbox.sources import Tree

#: What every program finds in its environment unless the caller says otherwise.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
}
#: How many processes of the job's user are ours: the first of its namespace, and where that user
#: is known in a namespace only, the launcher too.
_OURS = {"root": 1, "user": 2}
#: Bytes of memory that collecting may take at least.
_COLLECTOR = 256 << 20
#: How many processes more a resource limit lets through than the control group does.
_SPARE = 16
#: Seconds that processes may take to die once they were killed.
DYING = 20.0
#: Seconds between two looks whether all is gone.
_LOOK = 0.01


@implementer(IEnclosure)
@attrs.define(eq=False)
class Enclosure:
    """A directory with the job's disk, beside its unpacked source and its user id."""

    plot: Plot
    _host: Host
    _uid: int
    #: Called once nothing is left.
    _when_gone: Callable[[Enclosure], None]
    #: The unpacked source, as soon as it is.
    tree: Tree | None = None
    _image: Path | None = None
    _run: Run | None = None
    _starts: int = 0
    #: The control groups of its runs so far.
    _groups: list[Path] = attrs.field(factory=list)
    _destroyed: bool = False
    _doomed: bool = False
    #: Held by whatever works on the disk.
    _lock: DeferredLock = attrs.field(factory=DeferredLock)

    @property
    def uid(self) -> int:
        """See `IEnclosure.uid`; as the host knows it."""
        return self._uid if self._host.mode == "root" else os.geteuid()

    @property
    def _directory(self) -> Path:
        return self._host.jobs / self.plot.key

    @property
    def _source(self) -> Path:
        assert self.tree is not None
        return self.tree.path

    async def lay_out(self) -> None:
        """Make the directory and what belongs into it."""
        self._directory.mkdir(mode=0o711)
        (self._directory / "root").mkdir()
        make_identity(
            self._directory / "identity",
            self._uid,
            self.plot.hosts,
            self.plot.hostname,
            self._host.resolv_conf,
            owned=self._host.mode == "root",
            mount_points=[where for _, where in self.plot.shares],
        )
        await self._make_disk()

    async def _make_disk(self) -> None:
        limits = self.plot.limits
        self._image = await self._host.disks.make(
            self._directory / "disk", limits.disk, limits.inodes
        )

    def start(self, argv: Sequence[str], env: Mapping[str, str], output: Output) -> Deferred[IRun]:
        return Deferred.fromCoroutine(self._start(argv, env, output))

    async def _start(self, argv: Sequence[str], env: Mapping[str, str], output: Output) -> IRun:
        await self._lock.acquire()
        try:
            self._check_idle()
            run = Run(self._host.reactor, self.plot.limits, output, self._over)
            run.begin(self._host.launchers, self._run_order(argv, env))
            self._run = run
            self._groups += run.groups
            self._starts += 1
        finally:
            self._lock.release()
        await run.executed
        if self._starts > 1:  # who kills and revives may go on so; not all machines of a job do
            self._host.launchers.hasten()
        return run

    def _check_idle(self) -> None:
        if self._doomed:
            raise Conflict(f"The place of {self.plot.key} is being removed.")
        if self._run is not None:
            raise Conflict(f"A program still runs in the place of {self.plot.key}; kill it first.")

    def _over(self) -> None:
        self._run = None

    def _rlimits(self) -> dict[str, int]:
        limits, controllers = self.plot.limits, self._host.groups.controllers
        # A control group tells when it was hit, so where there is one it is to be hit first.
        spare = _SPARE if "pids" in controllers else 0
        rlimits = {
            "CORE": 0,
            "FSIZE": limits.disk,
            "NOFILE": limits.files,
            "NPROC": limits.pids + _OURS[self._host.mode] + spare,
        }
        if ACCOUNT not in controllers:  # which at least caps each process
            rlimits["CPU"] = math.ceil(limits.cpu)
        return rlimits

    def _run_order(self, argv: Sequence[str], env: Mapping[str, str]) -> RunOrder:
        lower = [self._source, self._directory / "identity", self._host.skeleton]
        return {
            "action": "run",
            "identity": self._host.identity(self._uid),
            "place": self._place(lower, furnished=True),
            "hostname": self.plot.hostname,
            "walls": self._host.walls,
            "rlimits": self._rlimits(),
            "argv": list(argv),
            "env": {**ENVIRONMENT, **env},
            "linger": self.plot.linger,
        }

    def _place(self, lower: list[Path], furnished: bool) -> Place:
        return {
            "root": str(self._directory / "root"),
            "lower": [str(path) for path in lower],
            "disk": str(self._directory / "disk"),
            "image": str(self._image) if self._image else None,
            "furnished": furnished,
            "shares": [(str(shown), where) for shown, where in self.plot.shares * furnished],
        }

    def collect(self, patterns: Sequence[str], destination: Path) -> Deferred[Collected]:
        if os.path.lexists(destination):  # and is not to be lost when something goes wrong
            return fail(Conflict(f"The outputs cannot be written to {destination}: it is there."))
        return Deferred.fromCoroutine(self._collect(patterns, destination))

    async def _collect(self, patterns: Sequence[str], destination: Path) -> Collected:
        order: CollectOrder = {
            "action": "collect",
            "identity": self._host.identity(self._uid),
            # The source and what the job made of it; nothing that only the machine brought.
            "place": self._place([self._source], furnished=False),
            "patterns": list(patterns),
            "destination": str(destination),
            "limit": self.plot.limits.disk,
        }
        size = 0
        await self._lock.acquire()
        try:
            self._check_idle()
            done = await self._host.launchers.perform(order, limits=self._of_collector())
            size = done.numbers[0]
        except InvalidSource as error:
            raise TooLarge(error.message) from error
        finally:
            self._lock.release()
            if not size:
                with suppress(FileNotFoundError):
                    os.unlink(destination)
        return Collected(size, tuple(done.data.decode("utf-8", "replace").splitlines()))

    def _of_collector(self) -> Limits:
        """As the job's machine, with what the collector itself needs."""
        limits = self.plot.limits
        return attrs.evolve(
            limits, memory=max(limits.memory, _COLLECTOR), cores=max(limits.cores, 1.0)
        )

    def wipe(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._wipe())

    async def _wipe(self) -> None:
        await self._lock.acquire()
        try:
            self._check_idle()
            self._throw_disk_away()
            await self._make_disk()
        finally:
            self._lock.release()

    def written(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self._written())

    async def _written(self) -> int:
        await self._lock.acquire()
        try:
            self._check_idle()
            place = self._place([], furnished=False)
            if not self._image:
                return await self._host.in_thread(count, place["disk"])
            if self._host.disks.is_untouched(self._image):
                return 0
            identity = self._host.identity(self._uid)
            order: LookOrder = {"action": "look", "identity": identity, "place": place}
            return (await self._host.launchers.perform(order)).numbers[0]
        finally:
            self._lock.release()

    def _throw_disk_away(self) -> None:
        disk = self._image or self._directory / "disk"
        self._host.clear(disk)

    def destroy(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._destroy())

    async def _destroy(self) -> None:
        self._doomed = True
        await self._kill()
        await self._lock.acquire()
        try:
            if self._destroyed:
                return
            if self._directory.exists():
                self._host.clear(self._directory)
            await self._prove_clean()
            self._destroyed = True
        finally:
            self._lock.release()
        self._host.uids.release(self._uid)
        if self.tree:
            for path in self._host.sources.give_back(self.tree):
                self._host.clear(path)
        self._when_gone(self)

    async def _kill(self) -> None:
        if self._run is None:
            return
        try:
            await self._run.kill().addTimeout(DYING, self._host.reactor)
        except TimeoutError as error:
            raise NotClean(
                f"The processes of {self.plot.key} did not end within {DYING:g} s of being killed: "
                f"{self._remains()}."
            ) from error

    async def _prove_clean(self) -> None:
        """Look until nothing is left.

        :raises NotClean: when something does not go.
        """
        end = self._host.reactor.seconds() + DYING
        await self._host.cleared()
        while remains := self._remains():
            if self._host.reactor.seconds() > end:
                raise NotClean(f"{self.plot.key} left something behind: {remains}.")
            await deferLater(self._host.reactor, _LOOK)

    def _remains(self) -> str:
        """What is left of it, in words."""
        found = []
        if self._host.mode == "root":
            pids = leftovers.strays({self._uid}, self._host.state)
            found += [f"process {pid} of user {self._uid}" for pid in sorted(pids)]
        found += [f"a mount at {mount.point}" for mount in mounts.below(self._directory)]
        found += [f"the control group {path}" for path in self._groups if path.exists()]
        if self._directory.exists():
            found.append(f"the directory {self._directory}")
        return ", ".join(found)
