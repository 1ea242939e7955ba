"""Where faults are asked for: each is written down, done, proved, and only then answered.

What changes links is done one at a time in a job, since the orders carry the whole state of its
links; all else one at a time on a machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from syndicate.domain.errors import BY_CODE, AlreadyRunning, Conflict, Unsupported
from syndicate.domain.fault import ON_LINKS, Fault, FaultState, Kind
from syndicate.domain.job import Job, JobState, Machine, MachineState
from syndicate.manager.book import Book
from syndicate.manager.conductor import Conductor
from syndicate.manager.fault_orders import FaultOrders, too_late, unknown
from syndicate.manager.fleet import Fleet
from syndicate.manager.inflicting import Inflicting
from syndicate.manager.leases import Leases
from syndicate.manager.ledger import Ledger
from syndicate.manager.request import read_request
from syndicate.manager.views import fault_view
from syndicate.once import Once
from syndicate.wire.interface import Holding

#: Seconds that a request waits for a machine that is still being started.
START = 60.0

#: States of a machine whose target was started once.
STARTED = frozenset({MachineState.RUNNING, MachineState.EXITED, MachineState.KILLED})


@attrs.define(eq=False)
class FaultDesk:
    """Does what is asked to the machines of jobs."""

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _ledger: Ledger
    _conductor: Conductor
    _orders: FaultOrders
    _leases: Leases = attrs.field(init=False)
    _inflicting: Inflicting = attrs.field(init=False)
    _locks: defaultdict[tuple[int, str], DeferredLock] = attrs.field(
        init=False, factory=lambda: defaultdict(DeferredLock)
    )
    #: Answers by job, asker and token, so that a request that comes again is the same fault.
    _answers: dict[tuple[int, str, str], Once[Any]] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._leases = Leases(self._clock, self._book, self._fleet, self._lease_over)
        self._inflicting = Inflicting(self._ledger, self._conductor, self._orders, self._leases)

    async def fault(
        self, number: int, by: str, kind: Kind, arguments: Mapping[str, Any], token: str | None
    ) -> dict[str, Any]:
        """Do a fault to the present attempt of a job; over once it is in force and verified.

        :param by: the client's machine, or the member of staff, that asks.
        :param token: the same one again, of the same asker, is answered with the same fault.
        """
        job = self._book.get(number)
        if job.state is not JobState.RUNNING:
            raise Conflict(f"Job {number} is {job.state.value}; faults are done to what runs.")
        await self._fleet.settled(machine.volunteer for machine in job.machines)
        if token is None:
            return await self._do(job, by, kind, arguments, None)
        key = (number, f"{job.attempt}/{by}", token)
        once = self._answers.get(key)
        if once is None:
            before = self._ledger.by_token(job, by, token)
            if before is None:
                doing = self._do(job, by, kind, arguments, token)
            else:  # It was asked for before this manager was there.
                doing = self._became(job, before)
            once = self._answers[key] = Once(doing)
            once.settled().addCallback(lambda _: self._drop_refused(key))
        answer: dict[str, Any] = await once.follow()
        return answer

    def _drop_refused(self, key: tuple[int, str, str]) -> None:
        """Keep no failure, nor all that its traceback holds: a client may be refused as often as it
        likes. If a fault was written down, the ledger knows what became of it.
        """
        if key in self._answers and self._answers[key].failed:
            del self._answers[key]

    async def again(self, job: Job, fault: Fault) -> None:
        """Carry out a fault that is written down, and of which it is not known how far it came;
        volunteers that have done it answer what they answered before.
        """
        lock = self._lock(job, fault.kind, fault.machines)
        await lock.acquire()
        try:
            fault = self._ledger.get(job.number, fault.number)
            if fault.state is not FaultState.REQUESTED:
                return
            if fault.kind is Kind.HEAL:
                await self._inflicting.heal(job, fault)
            elif fault.kind in ON_LINKS or fault.kind is Kind.RECONNECT:
                await self._inflicting.on_links(job, fault)
            else:
                await self._inflicting.on_machine(job, fault)
        finally:
            lock.release()

    async def _became(self, job: Job, fault: Fault) -> dict[str, Any]:
        """What became of a fault, once that is known.

        :raises SyndicateError: what its request was answered with, or would have been.
        """

        def known() -> bool:
            return self._ledger.get(job.number, fault.number).state is not FaultState.REQUESTED

        await self._until(job, known)
        fault = self._ledger.get(job.number, fault.number)
        if fault.state is FaultState.UNKNOWN:
            raise unknown(fault)
        if fault.state is FaultState.FAILED:
            raise BY_CODE.get(fault.code, Conflict)(fault.note)
        return fault_view(job.number, fault)

    def _lock(self, job: Job, kind: Kind, machines: tuple[str, ...]) -> DeferredLock:
        on_links = kind in ON_LINKS or kind in (Kind.RECONNECT, Kind.HEAL)
        return self._locks[job.number, "links" if on_links else machines[0]]

    async def _do(
        self, job: Job, by: str, kind: Kind, arguments: Mapping[str, Any], token: str | None
    ) -> dict[str, Any]:
        values = {**read_request(job, kind, arguments), "by": by, "token": token}
        self._check_support(job, kind, values["machines"])
        if kind is Kind.HEAL:
            return await self._heal(job, by, arguments.get("id"))
        lock = self._lock(job, kind, values["machines"])
        await lock.acquire()
        try:
            if kind in ON_LINKS or kind is Kind.RECONNECT:
                fault = await self._change_links(job, values)
            else:
                fault = await self._to_machine(job, values)
        finally:
            lock.release()
        return fault_view(job.number, fault)

    def _check_support(self, job: Job, kind: Kind, machines: tuple[str, ...]) -> None:
        needed = {Kind.RECONNECT: Kind.DISCONNECT, Kind.RESUME: Kind.PAUSE}.get(kind, kind)
        if needed in (Kind.KILL, Kind.REVIVE, Kind.HEAL):
            return
        for machine in job.machines if needed in ON_LINKS else map(job.machine, machines):
            facts = self._fleet.get(machine.volunteer).facts
            if needed.value not in facts.faults:
                why = dict(facts.unsupported).get(needed.value, "it does not say why")
                raise Unsupported(f"{machine.volunteer} cannot {needed.value}: {why}")

    # To one machine.

    async def _to_machine(self, job: Job, values: dict[str, Any]) -> Fault:
        machine = await self._started(job, values["machines"][0])
        kind: Kind = values["kind"]
        if kind is Kind.REVIVE and machine.state is MachineState.RUNNING:
            raise AlreadyRunning(f"{machine.name} runs; kill it before you revive it.")
        fault, written = self._ledger.add(self._orders.now(job), values)
        await written
        return await self._inflicting.on_machine(job, fault)

    async def _started(self, job: Job, name: str) -> Machine:
        """The machine, once its target was started."""

        def started() -> bool:
            return not self._book.runs(job) or self._orders.machine(job, name).state in STARTED

        await self._until(job, started)
        return self._orders.machine(job, name)

    async def _until(self, job: Job, there: Callable[[], bool]) -> None:
        if not await self._book.feed.until(job.number, there, self._clock, START):
            too_late(None, START)

    # To the links of a job.

    async def _change_links(self, job: Job, values: dict[str, Any]) -> Fault:
        fault, written = self._ledger.add(self._orders.now(job), values)
        await written
        return await self._inflicting.on_links(job, fault)

    # Healing: by call, by lease, with the attempt.

    async def _heal(self, job: Job, by: str, which: object) -> dict[str, Any]:
        if which is None:
            faults = self._ledger.in_force(job)
        else:
            text = str(which).removeprefix("f")
            if not text.isdecimal():
                raise Conflict(f"{which!r} is no fault such as 'f3'.")
            fault = self._ledger.get(job.number, int(text))
            faults = [fault] if fault.in_force and fault.attempt == job.attempt else []
        healed = []
        for fault in faults:
            await self._heal_one(job, by, fault)
            healed.append(f"f{fault.number}")
        return {"healed": healed}

    async def _heal_one(self, job: Job, by: str, fault: Fault) -> None:
        undo = {Kind.KILL: Kind.REVIVE, Kind.PAUSE: Kind.RESUME}.get(fault.kind)
        if undo is not None:
            await self._heal_machine(job, by, fault, undo)
            return
        lock = self._locks[job.number, "links"]
        await lock.acquire()
        try:
            if not self._ledger.get(job.number, fault.number).in_force:
                return
            values = {"kind": Kind.HEAL, "machines": fault.machines, "by": by}
            marker, written = self._ledger.add(
                self._orders.now(job), {**values, "undoes": fault.number}
            )
            await written
            await self._inflicting.heal(job, marker)
        finally:
            lock.release()

    async def _heal_machine(self, job: Job, by: str, fault: Fault, undo: Kind) -> None:
        name = fault.machines[0]
        lock = self._locks[job.number, name]
        await lock.acquire()
        try:
            # What has taken its place meanwhile is not undone with it.
            if self._ledger.get(job.number, fault.number).in_force:
                await self._to_machine(job, {"kind": undo, "machines": (name,), "by": by})
        except AlreadyRunning:
            self._inflicting.end(job.number, fault, self._clock.seconds(), "it runs again")
        finally:
            lock.release()

    def go_on(self, job: Job) -> None:
        """Keep the time of the leases of a job's faults, which another manager has begun, and
        write down what ended with the last one that it saw done.
        """
        for fault in self._ledger.of(job.number):
            if fault.attempt == job.attempt:
                self._inflicting.undo(job, fault)
        for fault in self._ledger.in_force(job):
            self._leases.keep(job, fault)

    async def _lease_over(self, job: Job, fault: Fault) -> None:
        """The volunteer has healed it by itself; this proves it, and writes it down."""
        await self._heal_one(job, "lease", fault)

    def released(self, holding: Holding, problem: str) -> None:
        """See `Ledger.give_back`."""
        job = self._book.jobs.get(holding.job)
        if job is None:
            return  # In the archive since; nothing of it can be changed any more.
        for fault in self._ledger.give_back(job, holding, problem):
            self._leases.drop(holding.job, fault)

    def forget(self, number: int) -> None:
        """Hold nothing of a job any longer: it is in the archive."""
        for key in [key for key in self._answers if key[0] == number]:
            del self._answers[key]
        for place in [place for place in self._locks if place[0] == number]:
            del self._locks[place]

    def close(self) -> None:
        """Stop the timers."""
        self._leases.close()
