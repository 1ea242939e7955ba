"""The faults of all jobs: what was asked for, what is in force, and what became of it."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from syndicate.domain.errors import NotFound, TooMany
from syndicate.domain.events import FaultChanged
from syndicate.domain.fault import ON_LINKS, Fault, FaultState, Kind
from syndicate.domain.job import Job, JobState, MachineState
from syndicate.manager.book import Book
from syndicate.plain import from_plain
from syndicate.store.interface import Snapshot
from syndicate.wire.interface import Holding


@attrs.define(eq=False)
class Ledger:
    """All faults by job and number; every change is an event of its job, stored with it.

    :param most: faults that one job may have.
    """

    _clock: IReactorTime
    _book: Book
    _most: int
    #: Of jobs that have some; none is empty.
    _faults: dict[int, dict[int, Fault]] = attrs.field(init=False, factory=dict)

    def load(self, snapshot: Snapshot) -> None:
        """Take over what the store holds."""
        for (kind, _), value in snapshot.records.items():
            if kind == "fault":
                fault = from_plain(value["fault"], Fault)
                self._faults.setdefault(value["job"], {})[fault.number] = fault

    def of(self, job: int) -> list[Fault]:
        """All faults of a job, in order."""
        return [fault for _, fault in sorted(self._faults.get(job, {}).items())]

    def forget(self, job: int) -> None:
        """Hold the faults of a job no longer: they are in the archive."""
        self._faults.pop(job, None)

    def get(self, job: int, number: int) -> Fault:
        """One fault.

        :raises NotFound: the job has none such.
        """
        try:
            return self._faults[job][number]
        except KeyError:
            raise NotFound(f"Job {job} has no fault f{number}.") from None

    def by_token(self, job: Job, by: str, token: str) -> Fault | None:
        """The fault of the present attempt that a request has made before, if it has."""
        for fault in self.of(job.number):
            if (fault.attempt, fault.by, fault.token) == (job.attempt, by, token):
                return fault
        return None

    def unanswered(self) -> list[tuple[int, Fault]]:
        """Of all jobs, those that were written down and not heard of again."""
        return [
            (job, fault)
            for job, faults in sorted(self._faults.items())
            for fault in faults.values()
            if fault.state is FaultState.REQUESTED
        ]

    def in_force(self, job: Job) -> list[Fault]:
        """The faults of the present attempt that must be taken to be in force."""
        return [f for f in self.of(job.number) if f.attempt == job.attempt and f.in_force]

    def killer(self, job: Job, machine: str) -> tuple[str, str]:
        """Who has had a machine of a running job killed, and by which fault, such as ``f3``; both
        empty if nobody has.
        """
        killed = [
            fault
            for fault in self.of(job.number)
            if (fault.kind, fault.attempt) == (Kind.KILL, job.attempt)
            and machine in fault.machines
            and fault.state in (FaultState.REQUESTED, FaultState.VERIFIED)
        ]
        if not killed or job.state is not JobState.RUNNING:
            return "", ""
        return killed[-1].by, f"f{killed[-1].number}"

    def add(self, job: Job, values: dict[str, Any]) -> tuple[Fault, Deferred[None]]:
        """Write down a fault that is asked for; its number is the next one of the job.

        :returns: the fault, and what fires once it is durable.
        :raises TooMany: the job has as many as one may have.
        """
        number = max(self._faults.get(job.number, {0: None})) + 1
        if number > self._most:
            raise TooMany(
                f"Job {job.number} has had {self._most} faults, and no job may have more here; "
                "what is in force stays so until the attempt ends. Submit another job for the "
                "rest, or have an operator raise [storage] faults_per_job."
            )
        fault = Fault(number, job.attempt, requested_at=self._clock.seconds(), **values)
        return fault, self.put(job.number, fault)

    def put(self, job: int, fault: Fault) -> Deferred[None]:
        """A fault has become this; fires once that is durable."""
        self._faults.setdefault(job, {})[fault.number] = fault
        return self._book.remark(job, FaultChanged(fault))

    def end(self, job: int, fault: Fault, at: float, ended: str) -> Deferred[None]:
        """A fault is no longer in force; its note still says what proved it."""
        healed = attrs.evolve(fault, state=FaultState.HEALED, healed_at=at, ended=ended)
        return self.put(job, healed)

    def give_back(self, job: Job, holding: Holding, problem: str) -> list[Fault]:
        """A machine was given back: what was in force on it is healed; or not, and why.

        :param problem: what could not be lifted or removed; empty if all was.
        :returns: what is healed.
        """
        now, healed = self._clock.seconds(), []
        others = [m for m in job.machines if m.name != holding.machine]
        last = job.attempt != holding.attempt or all(job.over(m) for m in others)
        for fault in self.of(holding.job):
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
                self.put(holding.job, attrs.evolve(fault, state=FaultState.UNKNOWN, note=why))
            else:
                self.end(holding.job, fault, now, "with the attempt")
                healed.append(fault)
        return healed

    def lose(self, holding: Holding, reason: str) -> None:
        """A machine was lost: what is in force on it is not known any more."""
        for fault in self.of(holding.job):
            concerned = fault.kind in ON_LINKS or holding.machine in fault.machines
            mine = fault.attempt == holding.attempt and concerned
            if mine and fault.in_force and fault.state is not FaultState.UNKNOWN:
                self.put(holding.job, attrs.evolve(fault, state=FaultState.UNKNOWN, note=reason))


def _who_was_lost(job: Job, fault: Fault) -> str:
    """Why it is not proved that a fault on links has ended with the attempt; empty if it is."""
    if job.attempt != fault.attempt:
        return fault.note if fault.state is FaultState.UNKNOWN else ""
    lost = [m.volunteer for m in job.machines if m.state is MachineState.LOST]
    return (
        f"{', '.join(lost)} was lost, and cannot say that nothing is cut any more." if lost else ""
    )
