"""The volunteer: registers at start, runs one machine of one job at a time, cleans up."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from syndicate.blobs.interface import IBlobStore, IBlobTransfer
from syndicate.client.interface import IHandle
from syndicate.domain.errors import NotClean
from syndicate.domain.fault import ON_LINKS
from syndicate.domain.job import Limits
from syndicate.domain.volunteer import Facts
from syndicate.network.interface import Doors, INetworkFaults, NetworkFacts
from syndicate.sandbox.interface import ISandbox, SandboxFacts
from syndicate.volunteer.asking import Asking
from syndicate.volunteer.bench import Bench, Door
from syndicate.volunteer.heartbeat import Heartbeat
from syndicate.volunteer.obeying import Obeying
from syndicate.volunteer.outbox import Outbox
from syndicate.volunteer.part import PartInHand
from syndicate.volunteer.ports import PORTS
from syndicate.volunteer.post import Post
from syndicate.volunteer.tidying import AfterJob, Tidying
from syndicate.wire.interface import (
    MOST_UNACKED,
    PROTOCOL,
    Ask,
    FaultDone,
    FaultOrder,
    Hello,
    IManager,
    IWorker,
    Part,
    PrepareOrder,
    Released,
    Welcome,
)

log = Logger()


class Dialler(Protocol):
    """Keeps a connection to the manager."""

    def start(self) -> None:
        """Dial, now and after every loss."""

    def stop(self) -> Deferred[None]:
        """Hang up and dial no more."""


@attrs.define(eq=False)
class Session:
    """The bearer token of the present connection, for whoever speaks HTTPS with the manager."""

    token: str = attrs.field(default="", repr=False)


@attrs.frozen
class Inside:
    """What a volunteer looks like from inside, for its console."""

    part: PartInHand | None
    facts: Facts | None
    #: Why it can take no job; empty if it can.
    unfit: str
    linked: bool
    boot: str
    term: int


async def _no_doors() -> Doors:
    return Doors()


@implementer(IWorker)
@attrs.define(eq=False)
class Volunteer(Service):
    """The volunteer's service; everything it stands on is given to it.

    :param facts: tells of the host, once the sandbox has said what it can do.
    :param dialler: makes the connection for this worker.
    :param cache_size: bytes of sources kept for later jobs.
    """

    _clock: IReactorTime
    _name: str
    _facts: Callable[[SandboxFacts, NetworkFacts], Facts]
    _sandbox: ISandbox
    _cache: IBlobStore
    _transfer: IBlobTransfer
    _session: Session
    _spool: Path
    _make_dialler: Callable[[IWorker], Dialler]
    _cache_size: int
    _network: INetworkFaults
    _make_door: Callable[[Path, int, IHandle, Limits], Door]
    _timeline: Callable[[], float] = time.monotonic
    #: Calls what waits for the disk.
    _aside: Callable[..., Deferred[Any]] = deferToThread
    _after_job: AfterJob | None = attrs.field(default=None, kw_only=True)
    #: Tells of the cluster's own ports, which jobs are kept from.
    _doors: Callable[[], Awaitable[Doors]] = attrs.field(default=_no_doors, kw_only=True)
    _boot: str = attrs.field(init=False, factory=lambda: uuid.uuid4().hex)
    _known: Facts | None = attrs.field(init=False, default=None)
    _dialler: Dialler | None = attrs.field(init=False, default=None)
    _manager: IManager | None = attrs.field(init=False, default=None)
    _outbox: Outbox = attrs.field(init=False)
    _post: Post = attrs.field(init=False)
    _asking: Asking = attrs.field(init=False)
    _tidying: Tidying = attrs.field(init=False)
    _obeying: Obeying = attrs.field(init=False)
    _heartbeat: Heartbeat = attrs.field(init=False)
    #: Users that jobs run as, and nobody else.
    _uids: tuple[int, int] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._outbox = Outbox(self._spool.with_name("outbox"), self._aside)
        self._post = Post(self._clock, self._outbox)
        self._asking = Asking(self._clock, self._post)
        self._tidying = Tidying(self._clock, self._after_job, self._post.say_clean)
        self._obeying = Obeying(
            self._name,
            self._bench,
            self._cache_size,
            self._outbox,
            self._tidying,
            self._post.say_clean,
        )
        self._heartbeat = Heartbeat(self._clock)

    async def open(self) -> None:
        """Sweep what a crashed predecessor left, and see what this host can do.

        :raises SandboxFailed: jobs cannot be confined here; the message says what to do.
        """
        await self._network.sweep()
        paths = await self._network.probe()
        probed = await self._sandbox.probe()
        self._uids = probed.uids
        told_by = PORTS[await self._close_ports()]
        probed = attrs.evolve(
            probed,
            enforced=(*probed.enforced, *told_by.enforced),
            remarks=(*probed.remarks, *told_by.remarks),
        )
        self._known = self._facts(probed, paths)
        for remark in probed.remarks:
            log.warn("{remark}", remark=remark)
        try:
            swept = await self._sandbox.sweep()
        except NotClean as error:
            self._tidying.failed(str(error), self._sweep)
        else:
            if swept:
                log.warn("{count} leftovers of a former run were removed.", count=swept)
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._spool.iterdir():
            left.unlink()
        shutil.rmtree(self._spool.with_name("doors"), ignore_errors=True)
        self._outbox.load()
        self._dialler = self._make_dialler(self)
        self._dialler.start()

    def look(self) -> Inside:
        """How it is now."""
        return Inside(
            self._obeying.part,
            self._known,
            self._tidying.unfit,
            self._manager is not None,
            self._boot,
            self._outbox.term,
        )

    async def _close_ports(self) -> str:
        """Keep jobs from the ports of now; see `INetworkFaults.shut`."""
        doors = await self._doors()
        return await self._network.shut(attrs.evolve(doors, uids=self._uids))

    def stopService(self) -> Deferred[None]:
        """Kill what runs, remove it, and hang up."""
        super().stopService()
        return Deferred.fromCoroutine(self._close())

    async def _sweep(self) -> None:
        await self._network.sweep()
        await self._sandbox.sweep()

    async def _close(self) -> None:
        self._heartbeat.stop()
        await self._tidying.stop()
        self._post.close()
        if self._obeying.part is not None:
            await self._obeying.part.stop()
        if self._dialler is not None:
            await self._dialler.stop()
        await self._transfer.close()
        await self._cache.close()
        await self._sandbox.close()
        await self._network.close()

    # For the wire.

    def hello(self) -> Hello:
        """See `IWorker.hello`."""
        assert self._known is not None, "opened before it dials"
        part, outbox, tidying = self._obeying.part, self._outbox, self._tidying
        return Hello(
            PROTOCOL,
            self._name,
            self._boot,
            self._known,
            None if part is None else part.holding,
            tidying.problem,
            tidying.busy,
            outbox.term,
            None if part is None else part.stage,
            0 if part is None else part.count,
            outbox.reports[:MOST_UNACKED],
            outbox.gave_back,
        )

    def welcomed(self, welcome: Welcome, manager: IManager) -> None:
        """See `IWorker.welcomed`."""
        if welcome.term < self._outbox.term:
            log.error(
                "A manager of term {theirs} is not obeyed: {mine} has begun. Is an old manager "
                "running beside the present one, or on an old copy of its state? Stop it; a backup "
                "is brought back by syndicate-manager restore alone.",
                theirs=welcome.term,
                mine=self._outbox.term,
            )
            manager.drop()
            return
        log.info("Registered with the manager of {cluster}.", cluster=welcome.cluster)
        self._manager, self._session.token = manager, welcome.session
        self._outbox.obey(welcome.term)
        self._heartbeat.start(manager, welcome.ping, welcome.deadline)
        self._post.connected(manager)
        for sha256, size in welcome.keep:
            self._transfer.download(sha256, size, self._cache).addErrback(
                lambda failure: log.warn(
                    "A source to be kept could not be fetched: {why}",
                    why=failure.getErrorMessage(),
                )
            )
        if welcome.release:
            Deferred.fromCoroutine(self._obeying.give_back()).addErrback(
                lambda failure: log.failure("an unwanted part could not be given back", failure)
            )

    def parted(self, reason: str) -> None:
        """See `IWorker.parted`."""
        # At our own stop the link ends because we hang up.
        if self._manager is not None and self.running:
            log.warn("The manager is gone: {reason} What runs goes on.", reason=reason)
        self._manager = None
        self._post.parted()
        self._heartbeat.stop()

    def prepare(self, order: PrepareOrder) -> Deferred[None]:
        """See `IVolunteer.prepare`."""
        return Deferred.fromCoroutine(self._obeying.prepare(order))

    def start(self, part: Part) -> Deferred[None]:
        """See `IVolunteer.start`."""
        return Deferred.fromCoroutine(self._obeying.start(part))

    def now(self) -> float:
        """See `IWorker.now`."""
        return self._timeline()

    def inflict(self, order: FaultOrder) -> Deferred[FaultDone]:
        """See `IVolunteer.inflict`."""
        return Deferred.fromCoroutine(self._obeying.inflict(order))

    def release(self, part: Part) -> Deferred[Released]:
        """See `IVolunteer.release`."""
        return Deferred.fromCoroutine(self._obeying.release(part))

    def _bench(self) -> Bench:
        return Bench(
            self._clock,
            self._sandbox,
            self._cache,
            self._transfer,
            self._spool,
            self._post.report,
            self._ask,
            self._network,
            self._close_ports,
            bool(self._known and set(self._known.faults) & {kind.value for kind in ON_LINKS}),
            self._make_door,
            self._spool.with_name("doors"),
            self._timeline,
        )

    def _ask(self, ask: Ask) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._asking.ask(ask))
