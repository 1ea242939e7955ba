"""The scheduler's turn: which of the jobs that wait get which of the volunteers."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from syndicate.domain.events import Placement, Reserved
from syndicate.domain.job import Job, JobSpec, Role, machine_name
from syndicate.domain.scheduler import AFTER_WALL, Census, Occupied, Reserve, Snapshot, fits, plan
from syndicate.domain.volunteer import VolunteerState
from syndicate.manager.book import Book
from syndicate.manager.fleet import Fleet
from syndicate.manager.hygiene import Hygiene
from syndicate.wire.interface import Holding


@attrs.define(eq=False)
class Planner:
    """Looks at queue and volunteers when something has changed, and reserves.

    :param ready: whether what is decided could be stored now.
    :param happen: lets the reservation of a job happen.
    """

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _hygiene: Hygiene
    _ready: Callable[[], bool]
    _happen: Callable[[int, Reserved], object]
    _planning: IDelayedCall | None = attrs.field(init=False, default=None)

    def soon(self) -> None:
        """Something has changed: plan in the next turn of the reactor."""
        if self._planning is None or not self._planning.active():
            self._planning = self._clock.callLater(0, self._plan)

    def close(self) -> None:
        """Plan no more."""
        if self._planning is not None and self._planning.active():
            self._planning.cancel()

    def snapshot(self) -> Snapshot:
        """What the scheduler sees now."""
        now = self._clock.seconds()
        occupied, barred = [], []
        no_more = self._hygiene.barred_names()
        for member in self._fleet.members.values():
            if member.state is VolunteerState.FREE:  # of many members, most
                if member.resting is not None and (rest := member.rests_until):
                    occupied.append(Occupied(member.view(), rest))
            elif member.name in no_more:
                if member.state is not VolunteerState.GONE:
                    barred.append(member.view())
            elif member.state is VolunteerState.BUSY and member.holding is not None:
                job = self._book.jobs.get(member.holding.job)
                wall = job.spec.limits.wall if job else 0.0
                since = (job and job.started_at) or now
                occupied.append(Occupied(member.view(), since + wall + AFTER_WALL))
            elif member.state is VolunteerState.CLEANING:
                occupied.append(Occupied(member.view(), now + AFTER_WALL))
        return Snapshot(self._book.queue(), self._fleet.free(), tuple(occupied), tuple(barred))

    def waits(self, spec: JobSpec) -> str:
        """Why a job like this could not start now; empty if it could."""
        trial = Job(number=1 << 62, spec=spec, user="", submitted_at=0.0)
        snapshot = self.snapshot()
        queue = (*snapshot.queue, trial)
        reserved = plan(attrs.evolve(snapshot, queue=queue), self._clock.seconds())
        if any(reserve.job == trial.number for reserve in reserved):
            return ""
        return Census(snapshot).explain(trial, len(snapshot.queue))

    def matching(self, spec: JobSpec) -> list[str]:
        """Names of the volunteers, free or not, that could be machines of such a job."""
        return sorted(
            member.name
            for member in self._fleet.members.values()
            if member.state is not VolunteerState.GONE
            and not self._hygiene.barred(member.name)
            and fits(spec.resources, member.facts)
        )

    def _plan(self) -> None:
        if not (self._ready() and self._book.waiting and self._fleet.any_free):
            return
        for reserve in plan(self.snapshot(), self._clock.seconds()):
            self._reserve(reserve)

    def _reserve(self, reserve: Reserve) -> None:
        job = self._book.jobs[reserve.job]
        spec = job.spec
        seats = [(Role.MASTER, 0), *((Role.SLAVE, n) for n in range(spec.machines - 1))]
        seats += [(Role.CLIENT, n) for n in range(spec.clients)]
        placements = tuple(
            Placement(
                role,
                index,
                volunteer.name,
                volunteer.facts.address,
                self._fleet.members[volunteer.name].boot,
            )
            for (role, index), volunteer in zip(seats, reserve.volunteers, strict=True)
        )
        attempt = job.attempt + 1
        for placement in placements:
            name = machine_name(placement.role, placement.index)
            self._fleet.reserve(placement.volunteer, Holding(job.number, attempt, name))
        self._happen(job.number, Reserved(attempt, placements))
