"""Where faults are asked for: each is written down, done, proved, and only then answered.

What changes links is done one at a time in a job, since the orders carry the whole state of its
links; all else one at a time on a machine.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Never

import attrs
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import (
    BY_CODE,
    AlreadyRunning,
    Conflict,
    SyndicateError,
    Timeout,
    Unknown,
    Unsupported,
    VolunteerLost,
)
from syndicate.domain.events import MachineKilled, MachineRevived
from syndicate.domain.fault import ON_LINKS, Fault, FaultState, Kind, links
from syndicate.domain.job import Job, JobState, Machine, MachineState
from syndicate.manager.book import Book
from syndicate.manager.conductor import Conductor
from syndicate.manager.fleet import Fleet
from syndicate.manager.ledger import Ledger
from syndicate.manager.request import read_request
from syndicate.manager.views import fault_view
from syndicate.once import Once
from syndicate.wire.interface import FaultDone, FaultOrder, Holding, Part

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
    _term: int
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
            raise _unknown(fault)
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
        fault, written = self._ledger.add(self._now(job), values)
        await written
        return await self._send_machine(job, fault)

    async def _send_machine(self, job: Job, fault: Fault) -> Fault:
        (name,) = fault.machines
        order = FaultOrder(
            self._part(job, name),
            fault.number,
            fault.kind.value,
            with_disk=fault.with_disk,
            lease=fault.lease,
        )
        try:
            fault, _ = await self._carry_out(job, fault, {name: order})
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
            self._conductor.happen(job.number, MachineKilled(name))
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
            await changed.addTimeout(START, self._clock, _too_late)
        finally:
            unsubscribe()

    # To the links of a job.

    async def _change_links(self, job: Job, values: dict[str, Any]) -> Fault:
        fault, written = self._ledger.add(self._now(job), values)
        await written
        return await self._send_links(job, fault)

    async def _send_links(self, job: Job, fault: Fault) -> Fault:
        """Bring every machine's links to what is in force with this fault."""
        in_force = self._ledger.in_force(job)
        if fault.kind is Kind.RECONNECT:
            in_force = [f for f in in_force if not _undoes(fault, f)]
        orders = self._link_orders(job, fault.number, in_force, frozenset())
        try:
            fault, away = await self._carry_out(job, fault, orders)
            if away:
                # The others refuse what comes from those that cannot be told.
                again = self._link_orders(job, fault.number, in_force, away, again=True)
                fault, _ = await self._carry_out(job, fault, again)
        finally:
            self._undo(job, fault)
        self._lease(job, fault)
        return fault

    def _link_orders(
        self,
        job: Job,
        number: int,
        in_force: list[Fault],
        away: frozenset[str],
        *,
        again: bool = False,
    ) -> dict[str, FaultOrder]:
        addresses = {machine.name: machine.address for machine in job.machines}
        now = self._clock.seconds()
        wanted = links(in_force, addresses, away)
        ends = sorted(
            {f.requested_at + f.lease for f in in_force if f.lease and f.kind in ON_LINKS}
        )
        later = [
            (
                max(end - now, 0.0),
                links([f for f in in_force if not _ended(f, end)], addresses, away),
            )
            for end in ends
        ]
        return {
            name: FaultOrder(
                self._part(job, name),
                # Each order is done once: the second round of one fault is another order.
                -number if again else number,
                "links",
                links=wanted[name],
                later=tuple((seconds, state[name]) for seconds, state in later),
            )
            for name in addresses
            if name not in away
        }

    # Orders, and what comes of them.

    async def _carry_out(
        self, job: Job, fault: Fault, orders: dict[str, FaultOrder]
    ) -> tuple[Fault, frozenset[str]]:
        """Send orders, and write down how the fault stands after their answers.

        :returns: the fault, and the machines of link orders whose volunteers did not answer.
        """
        names = list(orders)
        sent = [Deferred.fromCoroutine(self._send(job, name, orders[name])) for name in names]
        answers: list[tuple[bool, Any]] = list(await DeferredList(sent, consumeErrors=True))
        done: list[tuple[str, FaultDone]] = []
        away: set[str] = set()
        failed: SyndicateError | None = None
        for name, (succeeded, answer) in zip(names, answers, strict=True):
            if succeeded:
                done.append((name, answer))
            elif answer.check(VolunteerLost, Timeout) and orders[name].what == "links":
                away.add(name)
            else:
                failed = failed or _ours(answer)
        if failed is not None or not done:
            failed = failed or VolunteerLost("No volunteer of the job answered.")
            lost = isinstance(failed, VolunteerLost | Timeout)
            state = FaultState.UNKNOWN if lost else FaultState.FAILED
            fault = attrs.evolve(fault, state=state, note=str(failed), code=failed.code)
            await self._ledger.put(job.number, fault)
            raise _unknown(fault) if lost else failed
        fault = self._verified(job, fault, done)
        await self._ledger.put(job.number, fault)
        return fault, frozenset(away)

    def _verified(self, job: Job, fault: Fault, done: list[tuple[str, FaultDone]]) -> Fault:
        members = {m.name: self._fleet.get(m.volunteer) for m in job.machines}
        # What was measured elsewhere is uncertain; but it was after the request, and before now.
        now = self._clock.seconds()
        applied = max(members[name].ours(d.applied_at) for name, d in done)
        applied = min(max(applied, fault.requested_at), now)
        verified = max(members[name].ours(d.verified_at) for name, d in done)
        return attrs.evolve(
            fault,
            state=FaultState.VERIFIED,
            applied_at=applied,
            verified_at=min(max(verified, applied), now),
            uncertainty=max(_finite(members[name].offset.uncertainty) for name, d in done),
            note="; ".join(f"{name}: {d.note}" for name, d in done)[:2000],
        )

    async def _send(self, job: Job, name: str, order: FaultOrder) -> FaultDone:
        link = self._fleet.link(self._machine(job, name).volunteer)
        done = await link.inflict(order).addTimeout(DEADLINE, self._clock, _too_late)
        member, now = self._fleet.get(self._machine(job, name).volunteer), self._clock.seconds()
        member.offset = member.offset.narrowed(-math.inf, now - done.verified_at, now)
        return done

    def _undo(self, job: Job, fault: Fault) -> None:
        """Write down which faults this one has ended."""
        if fault.state is not FaultState.VERIFIED or fault.applied_at is None:
            return
        for other in self._ledger.in_force(job):
            if _undoes(fault, other):
                self._end(job.number, other, fault.applied_at, f"by f{fault.number}")

    def _end(self, number: int, fault: Fault, at: float, note: str) -> None:
        self._ledger.end(number, fault, at, note)
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
            marker, written = self._ledger.add(self._now(job), {**values, "undoes": fault.number})
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
        orders = self._link_orders(job, marker.number, rest, frozenset())
        marker, _ = await self._carry_out(job, marker, orders)
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
        """A machine was given back: what was in force on it is healed; or not, and why."""
        now = self._clock.seconds()
        job = self._book.jobs.get(holding.job)
        if job is None:
            return  # In the archive since; nothing of it can be changed any more.
        others = [m for m in job.machines if m.name != holding.machine]
        last = job.attempt != holding.attempt or all(job.over(m) for m in others)
        for fault in self._ledger.of(holding.job):
            if fault.attempt != holding.attempt or not fault.in_force:
                continue
            if fault.kind in ON_LINKS and not last and not problem:
                continue
            if fault.kind not in ON_LINKS and holding.machine not in fault.machines:
                continue
            why = problem or (_who_was_lost(job, fault) if fault.kind in ON_LINKS else "")
            if why and fault.state is FaultState.UNKNOWN and not problem:
                continue  # It says why already.
            if why:
                unknown = attrs.evolve(fault, state=FaultState.UNKNOWN, note=why)
                self._ledger.put(holding.job, unknown)
            else:
                self._end(holding.job, fault, now, "with the attempt")

    def lost(self, holding: Holding, reason: str) -> None:
        """A machine was lost: what is in force on it is not known any more."""
        for fault in self._ledger.of(holding.job):
            concerned = fault.kind in ON_LINKS or holding.machine in fault.machines
            mine = fault.attempt == holding.attempt and concerned
            if mine and fault.in_force and fault.state is not FaultState.UNKNOWN:
                unknown = attrs.evolve(fault, state=FaultState.UNKNOWN, note=reason)
                self._ledger.put(holding.job, unknown)

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

    def _now(self, job: Job) -> Job:
        now = self._book.get(job.number)
        if now.attempt != job.attempt or now.state is not JobState.RUNNING:
            raise Conflict(f"The attempt of job {job.number} is over; nothing more is done to it.")
        return now

    def _is_over(self, job: Job) -> bool:
        now = self._book.jobs.get(job.number)
        return now is None or now.attempt != job.attempt or now.state is not JobState.RUNNING

    def _machine(self, job: Job, name: str) -> Machine:
        return self._now(job).machine(name)

    def _part(self, job: Job, machine: str) -> Part:
        return Part(job.number, job.attempt, machine, self._term)


def _undoes(fault: Fault, other: Fault) -> bool:
    """Whether a verified fault has ended another one that was in force."""
    if other.number >= fault.number:
        return False
    if fault.kind is Kind.HEAL:
        return other.number == fault.undoes
    undone = {
        Kind.REVIVE: (Kind.KILL, Kind.PAUSE),
        Kind.RECONNECT: (Kind.DISCONNECT,),
        Kind.RESUME: (Kind.PAUSE,),
        # A paused machine that is killed stands no more; a second kill takes the first's place.
        Kind.KILL: (Kind.PAUSE, Kind.KILL),
        Kind.PAUSE: (Kind.PAUSE,),
        Kind.LOSS: (Kind.LOSS,),
        Kind.RATE: (Kind.RATE,),
        Kind.DELAY: (Kind.DELAY,),
    }.get(fault.kind, ())
    return other.kind in undone and set(other.machines) <= set(fault.machines)


def _who_was_lost(job: Job, fault: Fault) -> str:
    """Why it is not proved that a fault on links has ended with the attempt; empty if it is."""
    if job.attempt != fault.attempt:
        return fault.note if fault.state is FaultState.UNKNOWN else ""
    lost = [m.volunteer for m in job.machines if m.state is MachineState.LOST]
    return (
        f"{', '.join(lost)} was lost, and cannot say that nothing is cut any more." if lost else ""
    )


def _ended(fault: Fault, at: float) -> bool:
    return fault.lease is not None and fault.requested_at + fault.lease <= at


def _finite(seconds: float) -> float:
    return seconds if seconds != float("inf") else 0.0


def _unknown(fault: Fault) -> Unknown:
    return Unknown(
        f"Whether f{fault.number} is in force is not known: {fault.note}", fault=f"f{fault.number}"
    )


def _ours(failure: Any) -> SyndicateError:
    error = failure.value
    if isinstance(error, SyndicateError):
        return error
    log.failure("a fault could not be done", failure)
    return Conflict(f"The fault could not be done: {error}")


def _too_late(result: object, timeout: float) -> Never:
    raise Timeout(f"There was no answer within {timeout:g} seconds.")
