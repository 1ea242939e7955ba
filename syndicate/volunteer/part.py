"""One machine of one attempt, on the volunteer that was given it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobStore, IBlobTransfer
from syndicate.domain.errors import Conflict, SyndicateError
from syndicate.sandbox.interface import Exit, IEnclosure, IRun, ISandbox, Plot
from syndicate.volunteer.once import Once
from syndicate.volunteer.spool import Spool
from syndicate.wire.interface import EndReport, Holding, PrepareOrder

log = Logger()

#: Seconds that a release waits for the last of the log and the report to reach the manager.
TELL_DEADLINE = 20.0


@attrs.frozen
class Bench:
    """What every part works with."""

    clock: IReactorTime
    sandbox: ISandbox
    cache: IBlobStore
    transfer: IBlobTransfer
    #: Where spools and outputs lie until the manager has them.
    spool: Path
    #: Brings a report to the manager; waits, for ever if need be, until it is stored.
    report: Callable[[EndReport], Awaitable[None]]


@attrs.define(eq=False)
class PartInHand:
    """Prepares, starts, watches, reports, and removes.

    Orders may come again: each step is done once, and asked for again is answered with what it
    gave, or with waiting for it.
    """

    order: PrepareOrder
    _bench: Bench
    _enclosure: IEnclosure | None = None
    _run: IRun | None = None
    _spool: Spool | None = None
    _prepared: Once[None] | None = None
    _started: Once[None] | None = None
    _released: Once[None] | None = None
    #: From the start of the target until its end has been reported.
    _told: Once[None] | None = None

    @property
    def holding(self) -> Holding:
        """What the hello says of it."""
        part = self.order.part
        return Holding(part.job, part.attempt, part.machine)

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

    def release(self) -> Deferred[None]:
        """Kill, report, remove; fires when the volunteer is clean."""
        if self._released is None:
            self._released = Once(self._release())
        return self._released.follow()

    async def _prepare(self) -> None:
        order, bench = self.order, self._bench
        source = await bench.transfer.download(order.sha256, order.size, bench.cache)
        self._refuse_if_released()
        plot = Plot(
            key=f"{order.part.job}.{order.part.attempt}.{_file_name(order.part.machine)}",
            hostname=_host_name(order.part.machine),
            hosts=self._hosts(),
            source=source,
            sha256=order.sha256,
            limits=order.limits,
            linger=order.linger,
        )
        enclosure = await bench.sandbox.prepare(plot)
        self._enclosure = enclosure
        self._refuse_if_released()

    def _refuse_if_released(self) -> None:
        if self._released is not None:
            raise Conflict("The part was released while it was being prepared.")

    def _hosts(self) -> tuple[tuple[str, str], ...]:
        mine = self.order.part.machine
        ordered = sorted(self.order.machines, key=lambda machine: machine[0] != mine)
        return tuple((_host_name(name), address) for name, address in ordered)

    async def _start(self) -> None:
        if self._enclosure is None or self._released is not None:
            raise Conflict("The part is not prepared, or was released; prepare it first.")
        part = self.order.part
        spool = Spool(
            self._bench.clock,
            self._bench.transfer,
            self._bench.spool / f"{self._enclosure.plot.key}.log",
            part.job,
            part.attempt,
            part.machine,
        )
        self._spool = spool
        run = await self._enclosure.start(self._argv(), self._env(), spool.write)
        self._run = run
        self._told = Once(self._watch(run, spool))

    def _argv(self) -> list[str]:
        """``make master``, or ``make MASTER=<ip> slave``."""
        order = self.order
        if order.part.machine == "master":
            return ["make", order.target]
        return ["make", f"MASTER={order.machines[0][1]}", order.target]

    def _env(self) -> dict[str, str]:
        order = self.order
        return {
            **dict(order.env),
            "SYNDICATE_JOB": str(order.part.job),
            "SYNDICATE_ATTEMPT": str(order.part.attempt),
            "SYNDICATE_MACHINE": order.part.machine,
            "SYNDICATE_ADDRESS": dict(order.machines)[order.part.machine],
            "SYNDICATE_MACHINES": str(len(order.machines)),
        }

    async def _watch(self, run: IRun, spool: Spool) -> None:
        ended = await run.wait()
        outputs, problem = None, ended.problem or ""
        try:
            outputs = await self._collect()
        except SyndicateError as error:
            log.error("The outputs could not be kept: {why}", why=str(error))
            spool.write(2, f"syndicate: the outputs could not be kept: {error}\n".encode())
        if spool.problem:
            problem = problem or spool.problem
        await spool.flush()
        await self._bench.report(_report(self.order, ended, problem, spool.length, outputs))

    async def _collect(self) -> str | None:
        """Bring the outputs to the manager; gives their tarball's digest."""
        if not self.order.outputs or self._enclosure is None:
            return None
        path = self._bench.spool / f"{self._enclosure.plot.key}.tar"
        try:
            if not await self._enclosure.collect(self.order.outputs, path):
                return None
            sha256 = await deferToThread(_digest, path)
            await self._bench.transfer.upload(path, sha256)
            return sha256
        finally:
            path.unlink(missing_ok=True)

    async def _release(self) -> None:
        for step in (self._prepared, self._started):
            if step is not None:
                # The sandbox and the transfer have deadlines of their own; what is being made
                # must not be removed under their hands.
                await step.settled()
        if self._run is not None and self._told is not None:
            await self._run.kill()
            late = self._bench.clock.callLater(TELL_DEADLINE, self._told.cancel)
            await self._told.settled()
            if late.active():
                late.cancel()
        if self._spool is not None:
            self._spool.close()
        if self._enclosure is not None:
            await self._enclosure.destroy()

    async def stop(self) -> None:
        """The daemon stops: kill what runs; nothing more is reported."""
        if self._told is not None:
            self._told.cancel()
        if self._spool is not None:
            self._spool.close()
        if self._run is not None:
            await self._run.kill()


def _report(
    order: PrepareOrder, ended: Exit, problem: str, log_bytes: int, outputs: str | None
) -> EndReport:
    return EndReport(
        order.part,
        exit_code=ended.code,
        signal=ended.signal,
        limit=ended.limit,
        killed=ended.killed and ended.limit is None,
        problem=problem,
        log_bytes=log_bytes,
        outputs=outputs,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _host_name(machine: str) -> str:
    """``slave[0]`` as a host may be called: ``slave0``."""
    return machine.replace("[", "").replace("]", "")


def _file_name(machine: str) -> str:
    """``slave[0]`` as a file may be called: ``slave-0``."""
    return machine.replace("[", "-").replace("]", "")
