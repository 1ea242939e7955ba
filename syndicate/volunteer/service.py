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
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from syndicate.blobs.interface import IBlobStore, IBlobTransfer
from syndicate.client.interface import IHandle
from syndicate.domain.errors import Conflict, Fenced, NotClean, SyndicateError
from syndicate.domain.fault import ON_LINKS
from syndicate.domain.job import Limits
from syndicate.domain.volunteer import Facts
from syndicate.network.interface import GROUP, USER, Doors, INetworkFaults, NetworkFacts
from syndicate.sandbox.interface import ISandbox, SandboxFacts
from syndicate.volunteer.asking import Asking
from syndicate.volunteer.bench import Bench, Door
from syndicate.volunteer.outbox import Outbox
from syndicate.volunteer.part import PartInHand
from syndicate.volunteer.post import Post
from syndicate.volunteer.tidying import AfterJob, Tidying
from syndicate.wire.interface import (
    PROTOCOL,
    Ask,
    FaultDone,
    FaultOrder,
    GivenBack,
    Hello,
    Holding,
    IManager,
    IWorker,
    Part,
    PrepareOrder,
    Released,
    Welcome,
)

log = Logger()


@attrs.frozen
class _Ports:
    """What is said of how jobs are kept from the daemons' ports."""

    enforced: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


_PORTS = {
    GROUP: _Ports(("ports",)),
    USER: _Ports(
        ("ports-by-user",),
        (
            "Jobs are kept from the ports of manager and volunteers by the users that they run as; "
            "a job that listens at such a port of this host is not reached from here. By control "
            "group it would be: mount those of version 2, and leave [network] match alone.",
        ),
    ),
    "": _Ports(
        (),
        (
            "Jobs are not kept from the ports of manager and volunteers: neither by control group "
            "nor by user can anything be done to their packets here.",
        ),
    ),
}

#: Most reports that go with a hello; the others follow it.
MOST_UNACKED = 100


class Dialler(Protocol):
    """Keeps a connection to the manager."""

    def start(self) -> None:
        """Dial, now and after every loss."""

    def stop(self) -> Deferred[None]:
        """Hang up and dial no more."""


@attrs.define(eq=False)
class Session:
    """The bearer token of the present connection, for whoever speaks HTTPS with the manager."""

    token: str = ""


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
    _part: PartInHand | None = attrs.field(init=False, default=None)
    _tidying: Tidying = attrs.field(init=False)
    #: Users that jobs run as, and nobody else.
    _uids: tuple[int, int] | None = attrs.field(init=False, default=None)
    _pulse: IDelayedCall | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._outbox = Outbox(self._spool.with_name("outbox"), self._aside)
        self._post = Post(self._clock, self._outbox)
        self._asking = Asking(self._clock, self._post)
        self._tidying = Tidying(self._clock, self._after_job, self._say_clean)

    async def open(self) -> None:
        """Sweep what a crashed predecessor left, and see what this host can do.

        :raises SandboxFailed: jobs cannot be confined here; the message says what to do.
        """
        await self._network.sweep()
        paths = await self._network.probe()
        probed = await self._sandbox.probe()
        self._uids = probed.uids
        told_by = _PORTS[await self._close_ports()]
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
        self._spool.mkdir(parents=True, exist_ok=True)
        for left in self._spool.iterdir():
            left.unlink()
        shutil.rmtree(self._spool.with_name("doors"), ignore_errors=True)
        self._outbox.load()
        self._dialler = self._make_dialler(self)
        self._dialler.start()

    def look(self) -> Inside:
        """How it is now."""
        linked = self._manager is not None
        unfit = self._tidying.unfit
        return Inside(self._part, self._known, unfit, linked, self._boot, self._outbox.term)

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
        self._stop_pulse()
        await self._tidying.stop()
        self._post.close()
        if self._part is not None:
            await self._part.stop()
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
        part, outbox, tidying = self._part, self._outbox, self._tidying
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
                "A manager of term {theirs} is not obeyed: {mine} has begun.",
                theirs=welcome.term,
                mine=self._outbox.term,
            )
            manager.drop()
            return
        log.info("Registered with the manager of {cluster}.", cluster=welcome.cluster)
        self._manager, self._session.token = manager, welcome.session
        self._outbox.obey(welcome.term)
        self._beat(manager, welcome)
        self._post.connected(manager)
        for sha256, size in welcome.keep:
            self._transfer.download(sha256, size, self._cache).addErrback(
                lambda failure: log.warn(
                    "A source to be kept could not be fetched: {why}",
                    why=failure.getErrorMessage(),
                )
            )
        if welcome.release and self._part is not None:
            Deferred.fromCoroutine(self._give_back(self._part)).addErrback(
                lambda failure: log.failure("an unwanted part could not be given back", failure)
            )

    def parted(self, reason: str) -> None:
        """See `IWorker.parted`."""
        # At our own stop the link ends because we hang up.
        if self._manager is not None and self.running:
            log.warn("The manager is gone: {reason} What runs goes on.", reason=reason)
        self._manager = None
        self._post.parted()
        self._stop_pulse()

    def prepare(self, order: PrepareOrder) -> Deferred[None]:
        """See `IVolunteer.prepare`."""
        return Deferred.fromCoroutine(self._prepare(order))

    def start(self, part: Part) -> Deferred[None]:
        """See `IVolunteer.start`."""
        return Deferred.fromCoroutine(self._start(part))

    def now(self) -> float:
        """See `IWorker.now`."""
        return self._timeline()

    def inflict(self, order: FaultOrder) -> Deferred[FaultDone]:
        """See `IVolunteer.inflict`."""
        return Deferred.fromCoroutine(self._inflict(order))

    def release(self, part: Part) -> Deferred[Released]:
        """See `IVolunteer.release`."""
        return Deferred.fromCoroutine(self._release(part))

    async def _prepare(self, order: PrepareOrder) -> None:
        self._obey(order.part)
        if self._tidying.unfit:
            raise NotClean(self._tidying.unfit)
        if self._part is None:
            # Whoever gives the next part has stored that the last one was given back.
            self._outbox.forget_given()
            self._part = PartInHand(order, self._bench())
            needed = frozenset((order.sha256,))
            await self._cache.sweep(lambda: needed, self._cache_size)
        await self._held(order.part).prepare()

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

    async def _start(self, part: Part) -> None:
        self._obey(part)
        await self._held(part).start()

    async def _inflict(self, order: FaultOrder) -> FaultDone:
        self._obey(order.part)
        return await self._held(order.part).inflict(order)

    async def _release(self, part: Part) -> Released:
        self._obey(part)
        if self._part is None or self._part.holding != _holding(part):
            if self._tidying.problem:
                raise NotClean(self._tidying.problem)
            # The order came twice.
            return attrs.evolve(self._given_before(part), later=self._tidying.busy)
        released = await self._remove(self._part)
        return attrs.evolve(released, later=self._tidying.follow(_holding(part)))

    def _given_before(self, part: Part) -> Released:
        before = self._outbox.gave_back
        mine = before is not None and _holding(before.part) == _holding(part)
        return before.released if before is not None and mine else Released()

    def _obey(self, part: Part) -> None:
        term = self._outbox.term
        if part.term < term:
            raise Fenced(f"The order is of term {part.term}, but {term} has begun.")
        self._outbox.obey(part.term)

    def _held(self, part: Part) -> PartInHand:
        if self._part is None or self._part.holding != _holding(part):
            mine = "nothing" if self._part is None else f"job {self._part.holding.job}"
            raise Conflict(f"{self._name} has {mine} in hand, not job {part.job}; release it.")
        return self._part

    async def _remove(self, part: PartInHand) -> Released:
        unclean, released = "", Released()
        try:
            released = await part.release()
        except NotClean as error:
            unclean = str(error)
            self._tidying.failed(unclean, part.remove, part.holding)
            raise
        finally:
            if self._part is part:
                await self._outbox.give_back(GivenBack(part.order.part, released, unclean))
                self._part = None
        return released

    async def _give_back(self, part: PartInHand) -> None:
        """The manager wants this part no more: remove it and say so."""
        unclean = ""
        try:
            await self._remove(part)
        except NotClean as error:
            unclean = str(error)
        if unclean or not self._tidying.follow(part.holding):
            await self._say_clean(unclean)

    async def _say_clean(self, unclean: str) -> None:
        await self._post.tell(lambda manager: manager.clean(unclean))

    # Whether the manager still answers.

    def _beat(self, manager: IManager, welcome: Welcome) -> None:
        self._stop_pulse()
        self._pulse = self._clock.callLater(
            welcome.ping, lambda: Deferred.fromCoroutine(self._ping(manager, welcome))
        )

    async def _ping(self, manager: IManager, welcome: Welcome) -> None:
        try:
            await manager.ping().addTimeout(welcome.deadline, self._clock)
        except (SyndicateError, TimeoutError):
            manager.drop()
            return
        if self._manager is manager:
            self._beat(manager, welcome)

    def _stop_pulse(self) -> None:
        if self._pulse is not None and self._pulse.active():
            self._pulse.cancel()


def _holding(part: Part) -> Holding:
    return Holding(part.job, part.attempt, part.machine)
