"""The time that faults are in force for, where that was said when they were asked for.

Volunteers end them by timers of their own; these here are for the proof of it, and the record.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.domain.fault import ON_LINKS, Fault
from syndicate.domain.job import Job
from syndicate.manager.book import Book
from syndicate.manager.fleet import Fleet

log = Logger()

#: Seconds until it is tried again to prove that a lease is over, of a volunteer that is away.
AGAIN = 1.0


@attrs.define(eq=False)
class Leases:
    """A timer for each fault with a lease.

    :param over: proves that a fault is no longer in force, and writes that down.
    """

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _over: Callable[[Job, Fault], Coroutine[Deferred[Any], Any, None]]
    #: By job and fault.
    _timers: dict[tuple[int, int], IDelayedCall] = attrs.field(init=False, factory=dict)

    def keep(self, job: Job, fault: Fault) -> None:
        """Keep the time of a fault, if it is in force and has a lease; once is enough."""
        key = (job.number, fault.number)
        if fault.lease is None or not fault.in_force or key in self._timers:
            return
        due = max(fault.requested_at + fault.lease - self._clock.seconds(), 0.0)
        self._timers[key] = self._clock.callLater(due, self._due, job, fault)

    def drop(self, number: int, fault: Fault) -> None:
        """A fault of a job has ended otherwise."""
        timer = self._timers.pop((number, fault.number), None)
        if timer is not None and timer.active():
            timer.cancel()

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def _due(self, job: Job, fault: Fault) -> None:
        key = (job.number, fault.number)
        del self._timers[key]
        if not self._book.runs(job):
            return
        alone = () if fault.kind in ON_LINKS else map(job.machine, fault.machines)
        if any(self._fleet.get(machine.volunteer).link is None for machine in alone):
            # It cannot be asked now; it comes back soon, or the attempt is over.
            self._timers[key] = self._clock.callLater(AGAIN, self._due, job, fault)
            return
        Deferred.fromCoroutine(self._over(job, fault)).addErrback(
            lambda failure: log.warn(
                "f{n} of job {job} could not be proved healed: {why}",
                n=fault.number,
                job=job.number,
                why=failure.getErrorMessage(),
            )
        )
