"""One machine of one attempt, on the volunteer that was given it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred

from syndicate.domain.errors import Conflict, NotClean, SyndicateError, Unsupported
from syndicate.domain.volunteer import Stage
from syndicate.network.interface import IGuard
from syndicate.once import Once
from syndicate.sandbox.interface import Exit, IEnclosure, IRun, Plot
from syndicate.volunteer.bench import Bench, Door
from syndicate.volunteer.hurt import Hurt
from syndicate.volunteer.invocation import (
    INSIDE,
    command_line,
    environment,
    host_name,
    hosts,
    key_of,
)
from syndicate.volunteer.outputs import Kept, keep_outputs
from syndicate.volunteer.relay import Relay
from syndicate.volunteer.spool import Spool
from syndicate.wire.interface import (
    EndReport,
    FaultDone,
    FaultOrder,
    Holding,
    PrepareOrder,
    Released,
)

T = TypeVar("T")

#: Seconds that a release waits for the last of the log and the report to reach the manager.
TELL_DEADLINE = 20.0


@attrs.define(eq=False)
class PartInHand:
    """Prepares, starts, watches, reports, and removes.

    Orders may come again: each step is done once, and asked for again is answered with what it
    gave, or with waiting for it.
    """

    order: PrepareOrder
    _bench: Bench
    _enclosure: IEnclosure | None = None
    _guard: Once[IGuard] | None = None
    _door: Door | None = None
    _hurt: Hurt = attrs.field(init=False)
    #: The last start of the target, how many there were, and whether it lives.
    run: IRun | None = None
    runs: bool = False
    _count: int = 0
    _spool: Spool | None = None
    _prepared: Once[None] | None = None
    _started: Once[None] | None = None
    _released: Once[Released] | None = None
    #: From the start of the target until its end, and until that has been reported; reports of
    #: former runs that wait for a manager that is away.
    _ended: Once[tuple[Exit, Kept]] | None = None
    _told: Once[None] | None = None
    _late: list[Once[None]] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self._hurt = Hurt(self._bench.clock, self._bench.timeline, self)

    @property
    def holding(self) -> Holding:
        """What the hello says of it."""
        part = self.order.part
        return Holding(part.job, part.attempt, part.machine)

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        if self._released is not None:
            return Stage.RELEASING
        if self._count:
            return Stage.RUNNING if self.runs else Stage.ENDED
        ready = self._prepared is not None and self._prepared.over
        return Stage.READY if ready else Stage.PREPARING

    @property
    def count(self) -> int:
        """How often the target was started."""
        return self._count

    @property
    def watched(self) -> IGuard | None:
        """What stands over its packets, if anything does."""
        return None if self._guard is None else self._guard.result

    def prepare(self) -> Deferred[None]:
        """Fetch the source and unpack it."""
        if self._prepared is None:
            self._prepared = Once(self._prepare())
        return self._prepared.follow()

    def start(self) -> Deferred[None]:
        """Run the target; fires when it has been executed."""
        if self._started is None:
            self._started = Once(self._start())
        return self._started.follow()

    async def inflict(self, order: FaultOrder) -> FaultDone:
        """Do something to the machine, and prove it. What is being started is waited for."""
        if self._released is not None:
            raise Conflict("The machine is being given back; nothing more is done to it.")
        if self._started is not None:
            await self._started.settled()
        elif order.what != "links":
            raise Conflict("The machine was not started yet.")
        return await self._hurt.inflict(order)

    def release(self) -> Deferred[Released]:
        """Kill, report, remove; fires when the volunteer is clean."""
        if self._released is None:
            self._released = Once(self._release())
        return self._released.follow()

    async def _prepare(self) -> None:
        order, bench = self.order, self._bench
        await bench.close_ports()
        source = await bench.transfer.download(order.sha256, order.size, bench.cache)
        self._refuse_if_released()
        plot = Plot(
            key=key_of(order.part),
            hostname=host_name(order.part.machine),
            hosts=hosts(order),
            source=source,
            sha256=order.sha256,
            limits=order.limits,
            linger=order.linger,
            shares=((self._door_place, INSIDE),) if order.client else (),
        )
        if order.client:
            self._door_place.mkdir(mode=0o711, parents=True, exist_ok=True)
        if order.hurtful and bench.guarded:
            self.guard()
        enclosure = await bench.sandbox.prepare(plot)
        self._enclosure = enclosure
        self._refuse_if_released()
        self._spool = Spool(
            bench.clock,
            bench.transfer,
            bench.spool / f"{plot.key}.log",
            order.part.job,
            order.part.attempt,
            order.part.machine,
        )
        if order.client:
            relay = Relay(order.part, bench.ask, self._spool.write)
            self._door = bench.make_door(self._door_place, enclosure.uid, relay, order.limits)
            await self._door.open()

    @property
    def _door_place(self) -> Path:
        return self._bench.doors / key_of(self.order.part)

    @property
    def enclosure(self) -> IEnclosure:
        """See `Body.enclosure`."""
        if self._enclosure is None:
            raise Conflict("The machine was not prepared.")
        return self._enclosure

    def guard(self) -> Deferred[IGuard]:
        """See `Body.guard`; made with the first call."""
        if self._guard is None:
            part = self.order.part
            peers = tuple(a for name, a in self.order.machines if name != part.machine)
            self._guard = Once(_awaited(self._bench.network.guard(key_of(part), peers)))
        return self._guard.follow()

    def _refuse_if_released(self) -> None:
        if self._released is not None:
            raise Conflict("The part was released while it was being prepared.")

    async def _start(self) -> None:
        if self._enclosure is None or self._released is not None:
            raise Conflict("The part is not prepared, or was released; prepare it first.")
        await self.begin()

    async def begin(self) -> None:
        """See `Body.begin`."""
        assert self._spool is not None, "made when the part was prepared"
        if self._ended is not None:
            # What the former run left is taken before the next one begins. Whether a manager has
            # heard of it does not matter: leases end, and revive, while there is none.
            await self._ended.settled()
        if self._told is not None and not self._told.over:
            self._late = [*(late for late in self._late if not late.over), self._told]
        order = self.order
        run = await self.enclosure.start(command_line(order), environment(order), self._spool.write)
        self.run, self.runs, self._count = run, True, self._count + 1
        self._ended = Once(self._end(run))
        self._told = Once(self._tell(self._ended, self._spool, self._count))

    async def _end(self, run: IRun) -> tuple[Exit, Kept]:
        ended = await run.wait()
        self.runs = False
        # Where it cannot be revived its end is the end; else the outputs are taken last.
        return ended, Kept() if self.order.hurtful else await self._keep_outputs()

    async def _tell(self, end: Once[tuple[Exit, Kept]], spool: Spool, count: int) -> None:
        ended, kept = await end.follow()
        problem = ended.problem or spool.problem or ""
        await spool.flush()
        await self._bench.report(_report(self.order, ended, problem, spool.length, kept, count))

    async def _keep_outputs(self) -> Kept:
        assert self._spool is not None, "made when the part was prepared"
        bench = self._bench
        return await keep_outputs(
            self.enclosure, self.order.outputs, bench.transfer, bench.spool, self._spool
        )

    async def _release(self) -> Released:
        for step in (self._prepared, self._started):
            if step is not None:
                # The sandbox and the transfer have deadlines of their own; what is being made
                # must not be removed under their hands.
                await step.settled()
        self._hurt.stop()
        if self._door is not None:
            await self._door.close()
        released = Released()
        if self.run is not None and self._told is not None and self._spool is not None:
            await self.run.kill()
            await self._within(self._told)
            kept = await self._keep_outputs() if self.order.hurtful else Kept()
            await self._within(Once(_awaited(self._spool.flush())))
            released = Released(self._spool.length, kept.sha256, left_out=kept.left_out)
        if self._spool is not None:
            self._spool.close()
        await self.remove()
        return released

    async def remove(self) -> None:
        """Lift what is in force and remove what there is, each whatever becomes of the other; may
        be done again.

        :raises NotClean: what is left, as was seen by looking.
        """
        problems = []
        if self._guard is not None:
            try:
                await (await self._guard.follow()).close()
            except Unsupported:
                pass  # Nothing was ever in force.
            except SyndicateError as error:
                problems.append(str(error))
        if self._enclosure is not None:
            try:
                await self._enclosure.destroy()
            except NotClean as error:
                problems.append(str(error))
        if self._door_place.exists():
            shutil.rmtree(self._door_place, ignore_errors=True)
            if self._door_place.exists():
                problems.append(f"The directory {self._door_place} cannot be removed.")
        if problems:
            raise NotClean(" ".join(problems))

    async def _within(self, step: Once[None]) -> None:
        """Wait for a step, but not for ever."""
        late = self._bench.clock.callLater(TELL_DEADLINE, step.cancel)
        await step.settled()
        if late.active():
            late.cancel()

    async def stop(self) -> None:
        """The daemon stops: kill what runs; nothing more is reported."""
        self._hurt.stop()
        if self._door is not None:
            await self._door.close()
        for step in (self._ended, self._told, *self._late):
            if step is not None:
                step.cancel()
        if self._spool is not None:
            self._spool.close()
        if self.run is not None:
            await self.run.kill()
        await self.remove()


def _report(
    order: PrepareOrder,
    ended: Exit,
    problem: str,
    log_bytes: int,
    kept: Kept,
    count: int,
) -> EndReport:
    return EndReport(
        order.part,
        count,
        exit_code=ended.code,
        signal=ended.signal,
        limit=ended.limit,
        killed=ended.killed and ended.limit is None,
        problem=problem,
        log_bytes=log_bytes,
        outputs=kept.sha256,
        left_out=kept.left_out,
        short=ended.short,
    )


async def _awaited(doing: Deferred[T]) -> T:
    return await doing
