"""Where faults are asked for: each is written down, done, proved, and only then answered.

What changes links is done one at a time in a job, since the orders carry the whole state of its
links; all else one at a time on a machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import (
    BY_CODE,
    AlreadyRunning,
    Conflict,
    Unsupported,
)
from syndicate.domain.events import MachineKilled, MachineRevived
from syndicate.domain.fault import ON_LINKS, Fault, FaultState, Kind, undoes
from syndicate.domain.job import Job, JobState, Machine, MachineState
from syndicate.manager.book import Book
from syndicate.manager.conductor import Conductor
from syndicate.manager.fault_orders import FaultOrders, too_late, unknown
from syndicate.manager.fleet import Fleet
from syndicate.manager.ledger import Ledger
from syndicate.manager.request import read_request
from syndicate.manager.views import fault_view
from syndicate.once import Once
from syndicate.wire.interface import FaultOrder, Holding

log = Logger()

#: Seconds within which a volunteer must have done and proved a fault.
DEADLINE = 30.0
#: Seconds that a request waits for a machine that is still being started.
START = 60.0

#: Seconds until it is tried again to prove that a lease is over, of a volunteer that is away.
AGAIN = 1.0

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
    _locks: defaultdict[tuple[int, str], DeferredLock] = attrs.field(
        init=False, factory=lambda: defaultdict(DeferredLock)
    )
    #: Answers by job, asker and token, so that a request that comes again is the same fault.
    _answers: dict[tuple[int, str, str], Once[Any]] = attrs.field(init=False, factory=dict)
    _leases: dict[tuple[int, int], IDelayedCall] = attrs.field(init=False, factory=dict)

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
        if key not in self._answers:
            # Else it was asked for before this manager was there.
            before = self._ledger.by_token(job, by, token)
            doing = self._do(job, by, kind, arguments, token)
            if before is not None:
                doing.close()
                doing = self._became(job, before)
            self._answers[key] = Once(doing)
        answer: dict[str, Any] = await self._answers[key].follow()
        return answer

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
                await self._send_heal(job, fault)
            elif fault.kind in ON_LINKS or fault.kind is Kind.RECONNECT:
                await self._send_links(job, fault)
            else:
                await self._send_machine(job, fault)
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
        return await self._send_machine(job, fault)

    async def _send_machine(self, job: Job, fault: Fault) -> Fault:
        (name,) = fault.machines
        order = FaultOrder(
            self._orders.part(job, name),
            fault.number,
            fault.kind.value,
            with_disk=fault.with_disk,
            lease=fault.lease,
        )
        try:
            fault, _ = await self._orders.carry_out(job, fault, {name: order})
        except AlreadyRunning:
            # The lease of a kill was over, and its volunteer was faster than we.
            if self._machine(job, name).state is not MachineState.RUNNING:
                self._conductor.happen(job.number, MachineRevived(name))
            raise
        self._tell_machine(job, fault, name)
        self._undo(job, fault)
        self._lease(job, fault)
        return fault

    def _tell_machine(self, job: Job, fault: Fault, name: str) -> None:
        """The machine's own events of a kill or a revival, unless its volunteer was faster. Nobody
        waits until they are durable: the fault is, and it says the same.
        """
        machine = self._machine(job, name)
        if fault.kind is Kind.KILL and machine.state is MachineState.RUNNING:
            self._conductor.happen(
                job.number, MachineKilled(name, by=fault.by, by_fault=f"f{fault.number}")
            )
        if fault.kind is Kind.REVIVE and machine.state is not MachineState.RUNNING:
            self._conductor.happen(job.number, MachineRevived(name, fault.with_disk))

    async def _started(self, job: Job, name: str) -> Machine:
        """The machine, once its target was started."""

        def started() -> bool:
            return self._is_over(job) or self._machine(job, name).state in STARTED

        await self._until(job, started)
        return self._machine(job, name)

    async def _until(self, job: Job, there: Callable[[], bool]) -> None:
        """Wait, but not for ever, for what comes with an event of a job."""
        if there():
            return
        changed: Deferred[None] = Deferred()

        def look() -> None:
            if not changed.called and there():
                changed.callback(None)

        unsubscribe = self._book.feed.subscribe(job.number, look)
        try:
            await changed.addTimeout(START, self._clock, too_late)
        finally:
            unsubscribe()

    # To the links of a job.

    async def _change_links(self, job: Job, values: dict[str, Any]) -> Fault:
        fault, written = self._ledger.add(self._orders.now(job), values)
        await written
        return await self._send_links(job, fault)

    async def _send_links(self, job: Job, fault: Fault) -> Fault:
        """Bring every machine's links to what is in force with this fault."""
        in_force = self._ledger.in_force(job)
        if fault.kind is Kind.RECONNECT:
            in_force = [f for f in in_force if not undoes(fault, f)]
        orders = self._orders.of_links(job, fault.number, in_force, frozenset())
        try:
            fault, away = await self._orders.carry_out(job, fault, orders)
            if away:
                # The others refuse what comes from those that cannot be told.
                again = self._orders.of_links(job, fault.number, in_force, away, again=True)
                fault, _ = await self._orders.carry_out(job, fault, again)
        finally:
            self._undo(job, fault)
        self._lease(job, fault)
        return fault

    def _undo(self, job: Job, fault: Fault) -> None:
        """Write down which faults this one has ended."""
        if fault.state is not FaultState.VERIFIED or fault.applied_at is None:
            return
        for other in self._ledger.in_force(job):
            if undoes(fault, other):
                self._end(job.number, other, fault.applied_at, f"by f{fault.number}")

    def _end(self, number: int, fault: Fault, at: float, note: str) -> None:
        self._ledger.end(number, fault, at, note)
        self._drop_lease(number, fault)

    def _drop_lease(self, number: int, fault: Fault) -> None:
        timer = self._leases.pop((number, fault.number), None)
        if timer is not None and timer.active():
            timer.cancel()

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
            await self._send_heal(job, marker)
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
            self._end(job.number, fault, self._clock.seconds(), "it runs again")
        finally:
            lock.release()

    async def _send_heal(self, job: Job, marker: Fault) -> None:
        """Bring every machine's links to what is in force without the fault that is healed."""
        rest = [f for f in self._ledger.in_force(job) if f.number != marker.undoes]
        orders = self._orders.of_links(job, marker.number, rest, frozenset())
        marker, _ = await self._orders.carry_out(job, marker, orders)
        self._undo(job, marker)

    def go_on(self, job: Job) -> None:
        """Keep the time of the leases of a job's faults, which another manager has begun, and
        write down what ended with the last one that it saw done.
        """
        for fault in self._ledger.of(job.number):
            if fault.attempt == job.attempt:
                self._undo(job, fault)
        for fault in self._ledger.in_force(job):
            if (job.number, fault.number) not in self._leases:
                self._lease(job, fault)

    def _lease(self, job: Job, fault: Fault) -> None:
        if fault.lease is None or not fault.in_force:
            return
        due = max(fault.requested_at + fault.lease - self._clock.seconds(), 0.0)
        self._leases[job.number, fault.number] = self._clock.callLater(due, self._due, job, fault)

    def _due(self, job: Job, fault: Fault) -> None:
        """A lease is over. The volunteer heals by itself; this proves it, and writes it down."""
        self._leases.pop((job.number, fault.number), None)
        if self._is_over(job):
            return
        alone = () if fault.kind in ON_LINKS else map(job.machine, fault.machines)
        if any(self._fleet.get(machine.volunteer).link is None for machine in alone):
            # It cannot be asked now; it comes back soon, or the attempt is over.
            again = self._clock.callLater(AGAIN, self._due, job, fault)
            self._leases[job.number, fault.number] = again
            return
        Deferred.fromCoroutine(self._heal_one(job, "lease", fault)).addErrback(
            lambda failure: log.warn(
                "f{n} of job {job} could not be proved healed: {why}",
                n=fault.number,
                job=job.number,
                why=failure.getErrorMessage(),
            )
        )

    def released(self, holding: Holding, problem: str) -> None:
        """See `Ledger.give_back`."""
        job = self._book.jobs.get(holding.job)
        if job is None:
            return  # In the archive since; nothing of it can be changed any more.
        for fault in self._ledger.give_back(job, holding, problem):
            self._drop_lease(holding.job, fault)

    def forget(self, number: int) -> None:
        """Hold nothing of a job any longer: it is in the archive."""
        for key in [key for key in self._answers if key[0] == number]:
            del self._answers[key]
        for place in [place for place in self._locks if place[0] == number]:
            del self._locks[place]

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._leases.values():
            if timer.active():
                timer.cancel()
        self._leases.clear()

    # Looking up.

    def _is_over(self, job: Job) -> bool:
        now = self._book.jobs.get(job.number)
        return now is None or now.attempt != job.attempt or now.state is not JobState.RUNNING

    def _machine(self, job: Job, name: str) -> Machine:
        return self._orders.now(job).machine(name)
