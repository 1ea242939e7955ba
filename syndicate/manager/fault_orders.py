"""The orders to volunteers that a fault takes, and what comes of them."""

from __future__ import annotations

import math
from typing import Any, Never

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import Conflict, SyndicateError, Timeout, Unknown, VolunteerLost
from syndicate.domain.fault import ON_LINKS, Fault, FaultState, lease_over, links
from syndicate.domain.job import Job, Machine
from syndicate.manager.book import Book
from syndicate.manager.fleet import Fleet
from syndicate.manager.ledger import Ledger
from syndicate.wire.interface import FaultDone, FaultOrder, Part

log = Logger()

#: Seconds within which a volunteer must have done and proved a fault.
DEADLINE = 30.0


@attrs.define(eq=False)
class FaultOrders:
    """Sends orders, and writes down how the fault stands after their answers."""

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _ledger: Ledger
    _term: int

    def of_links(
        self,
        job: Job,
        number: int,
        in_force: list[Fault],
        away: frozenset[str],
        *,
        again: bool = False,
    ) -> dict[str, FaultOrder]:
        """What every machine of a job is to be told of its links.

        :param in_force: the faults that are to be in force from now on.
        :param away: the machines whose volunteers cannot be told.
        :param again: whether it is the second round of the fault ``number``.
        """
        addresses = {machine.name: machine.address for machine in job.machines}
        now = self._clock.seconds()
        wanted = links(in_force, addresses, away)
        ends = sorted(
            {f.requested_at + f.lease for f in in_force if f.lease and f.kind in ON_LINKS}
        )
        later = [
            (
                max(end - now, 0.0),
                links([f for f in in_force if not lease_over(f, end)], addresses, away),
            )
            for end in ends
        ]
        return {
            name: FaultOrder(
                self.part(job, name),
                # Each order is done once: the second round of one fault is another order.
                -number if again else number,
                "links",
                links=wanted[name],
                later=tuple((seconds, state[name]) for seconds, state in later),
            )
            for name in addresses
            if name not in away
        }

    async def carry_out(
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
            raise unknown(fault) if lost else failed
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
        volunteer = self.machine(job, name).volunteer
        inflicting = self._fleet.link(volunteer).inflict(order)
        done = await inflicting.addTimeout(DEADLINE, self._clock, too_late)
        member, now = self._fleet.get(volunteer), self._clock.seconds()
        member.offset = member.offset.narrowed(-math.inf, now - done.verified_at, now)
        return done

    def now(self, job: Job) -> Job:
        """A job as it is now, while the attempt runs that something is to be done to.

        :raises Conflict: it is over.
        """
        now = self._book.get(job.number)
        if not self._book.runs(job):
            raise Conflict(f"The attempt of job {job.number} is over; nothing more is done to it.")
        return now

    def machine(self, job: Job, name: str) -> Machine:
        """A machine as it is now; see `now`."""
        return self.now(job).machine(name)

    def part(self, job: Job, machine: str) -> Part:
        """Names what an order is about."""
        return Part(job.number, job.attempt, machine, self._term)


def _finite(seconds: float) -> float:
    return seconds if seconds != float("inf") else 0.0


def unknown(fault: Fault) -> Unknown:
    """The error that says so of a fault."""
    return Unknown(
        f"Whether f{fault.number} is in force is not known: {fault.note}", fault=f"f{fault.number}"
    )


def _ours(failure: Any) -> SyndicateError:
    error = failure.value
    if isinstance(error, SyndicateError):
        return error
    log.failure("a fault could not be done", failure)
    return Conflict(f"The fault could not be done: {error}")


def too_late(result: object, timeout: float) -> Never:
    """For `Deferred.addTimeout`."""
    raise Timeout(f"There was no answer within {timeout:g} seconds.")
