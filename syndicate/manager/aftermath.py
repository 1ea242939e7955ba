"""Faults that the manager before this one had under way, or in force, when it ended.

What is in force stays so: volunteers keep it by themselves, and its leases too. What was written
down and not answered is carried out once its job's volunteers are back: one that has done it says
so, and one that has not heard of it does it now, as its client still waits. Where that is too long
ago, or not possible any more, it is not known what was done, and the record says that.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import SyndicateError
from syndicate.domain.fault import Fault, FaultState
from syndicate.domain.job import Job, JobState
from syndicate.manager.book import Book
from syndicate.manager.desk import FaultDesk
from syndicate.manager.fleet import Fleet
from syndicate.manager.ledger import Ledger

log = Logger()

#: Seconds after its request within which a fault is still carried out; nobody waits for it longer.
STILL_WANTED = 120.0


@attrs.define(eq=False)
class Aftermath:
    """Settles the faults of a former manager."""

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _ledger: Ledger
    _desk: FaultDesk

    def take_over(self) -> None:
        """Begin with all jobs; each goes on when its volunteers are back or given up."""
        unanswered: dict[int, list[Fault]] = {}
        for number, fault in self._ledger.unanswered():
            unanswered.setdefault(number, []).append(fault)
        for job in list(self._book.jobs.values()):
            faults = unanswered.pop(job.number, [])
            leased = job.state is JobState.RUNNING and self._ledger.in_force(job)
            if faults or leased:
                Deferred.fromCoroutine(self._settle(job, faults)).addErrback(
                    lambda failure: log.failure("the faults of a job are not settled", failure)
                )

    async def _settle(self, job: Job, faults: list[Fault]) -> None:
        if job.state is JobState.RUNNING:
            await self._fleet.settled(machine.volunteer for machine in job.machines)
        for fault in faults:
            late = self._clock.seconds() - fault.requested_at > STILL_WANTED
            if late or fault.attempt != job.attempt or not self._book.runs(job):
                self._give_up(job, fault, "the manager ended before it was answered.")
                continue
            try:
                await self._desk.again(job, fault)
            except SyndicateError as error:
                self._give_up(job, fault, str(error))
        if self._book.runs(job):
            self._desk.go_on(job)

    def _give_up(self, job: Job, fault: Fault, why: str) -> None:
        """Not known what was done, unless that was found out and written down meanwhile."""
        now = self._ledger.get(job.number, fault.number)
        if now.state is FaultState.REQUESTED:
            unknown = attrs.evolve(now, state=FaultState.UNKNOWN, note=why)
            self._ledger.put(job.number, unknown)
