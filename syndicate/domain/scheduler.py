"""Which queued job starts on which volunteers: gangs, first in first out, with backfill.

All machines of a job are reserved together or none is. The first job that fits on the cluster
but not on what is free now is the *head*: the earliest moment at which it can start is computed
from the wall limits of what runs, and a later job may go before it only where it cannot delay
that moment (Lifka, "The ANL/IBM SP scheduling system", 1995: EASY backfill). A job that does not
fit on the cluster at all holds nobody back, and becomes the head as soon as the cluster has grown.
"""

from __future__ import annotations

import attrs

from syndicate.domain.job import Job, Resources
from syndicate.domain.volunteer import Facts, Volunteer

#: Seconds that a job may go on beyond its wall limit: killing, uploading, cleaning.
AFTER_WALL = 30.0


@attrs.frozen
class Occupied:
    """A volunteer that works, and when it will be free at the latest (epoch seconds)."""

    volunteer: Volunteer
    until: float


@attrs.frozen
class Snapshot:
    """What `plan` decides on."""

    #: In the order of their numbers.
    queue: tuple[Job, ...]
    #: The one that has been free longest first.
    free: tuple[Volunteer, ...]
    occupied: tuple[Occupied, ...] = ()
    #: Those that are there, and get no job before an operator resumes them.
    barred: tuple[Volunteer, ...] = ()


@attrs.frozen
class Reserve:
    """Give a queued job these volunteers, the first as its master."""

    job: int
    volunteers: tuple[Volunteer, ...]


@attrs.frozen
class _Head:
    """The moment at which the head job can start, and how many volunteers it will leave over."""

    resources: Resources
    at: float
    spare: int


def fits(resources: Resources, facts: Facts) -> bool:
    """Whether a volunteer has what each machine of a job needs."""
    return (
        facts.cores >= resources.cores
        and facts.memory >= resources.memory
        and (not resources.arch or facts.arch in resources.arch)
    )


def plan(snapshot: Snapshot, now: float) -> tuple[Reserve, ...]:
    """The reservations to make now.

    :param now: seconds since the epoch.
    """
    free = list(snapshot.free)
    occupied = list(snapshot.occupied)
    reservations: list[Reserve] = []
    head: _Head | None = None
    for job in snapshot.queue:
        if not free:
            break
        spec = job.spec
        able = [volunteer for volunteer in free if fits(spec.resources, volunteer.facts)]
        if head is not None:
            able = _harmless(able, head, now + spec.limits.wall + AFTER_WALL)
        if len(able) >= spec.volunteers:
            chosen = tuple(able[: spec.volunteers])
            reservations.append(Reserve(job.number, chosen))
            taken = {volunteer.name for volunteer in chosen}
            free = [volunteer for volunteer in free if volunteer.name not in taken]
            until = now + spec.limits.wall + AFTER_WALL
            occupied += [Occupied(volunteer, until) for volunteer in chosen]
            if head is not None and until > head.at:
                used = sum(fits(head.resources, volunteer.facts) for volunteer in chosen)
                head = attrs.evolve(head, spare=head.spare - used)
        elif head is None:
            head = _shadow(job, free, occupied, now)
    return tuple(reservations)


def _harmless(able: list[Volunteer], head: _Head, until: float) -> list[Volunteer]:
    """Those of the free volunteers that a job ending at ``until`` can have without delaying the
    head: all of them if it ends in time, else such as the head cannot use, or has to spare.
    """
    if until <= head.at:
        return able
    spare = head.spare
    harmless = []
    for volunteer in able:
        if not fits(head.resources, volunteer.facts):
            harmless.append(volunteer)
        elif spare > 0:
            spare -= 1
            harmless.append(volunteer)
    return harmless


def _shadow(job: Job, free: list[Volunteer], occupied: list[Occupied], now: float) -> _Head | None:
    """When a job that cannot start now can start at the latest; None if the cluster is too
    small for it.
    """
    resources, wanted = job.spec.resources, job.spec.volunteers
    count = sum(fits(resources, volunteer.facts) for volunteer in free)
    ends = sorted(o.until for o in occupied if fits(resources, o.volunteer.facts))
    missing = wanted - count
    if missing > len(ends):
        return None
    at = max(ends[missing - 1], now)
    return _Head(resources, at, count + sum(end <= at for end in ends) - wanted)


class Census:
    """How many volunteers are free, and how many there are, for each kind of need; counted once
    and asked for many jobs.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._counted: dict[Resources, tuple[int, int]] = {}

    def count(self, resources: Resources) -> tuple[int, int]:
        """``(free, all)`` that have what is needed."""
        if resources not in self._counted:
            free = sum(fits(resources, v.facts) for v in self._snapshot.free)
            busy = sum(fits(resources, o.volunteer.facts) for o in self._snapshot.occupied)
            self._counted[resources] = (free, free + busy)
        return self._counted[resources]

    def barred(self, resources: Resources) -> list[str]:
        """Names of those that have what is needed, and get no job."""
        return sorted(v.name for v in self._snapshot.barred if fits(resources, v.facts))

    def explain(self, job: Job, ahead: int) -> str:
        """One sentence on why a queued job waits.

        :param ahead: how many queued jobs are before it.
        """
        resources, wanted = job.spec.resources, job.spec.volunteers
        free, everyone = self.count(resources)
        who = f"{wanted} volunteer{'s' if wanted > 1 else ''}"
        which = "" if resources == Resources() else " with the resources it asks for"
        if clients := wanted - job.spec.machines:
            some = "one" if clients == 1 else str(clients)
            which += f", {some} of them for {'the client' if clients == 1 else 'clients'}"
        again = f" {job.reason}" if job.losses else ""
        if everyone < wanted <= everyone + len(barred := self.barred(resources)):
            names = ", ".join(barred[:5]) + (", …" if len(barred) > 5 else "")
            are = "fits is" if len(barred) == 1 else "fit are"
            return (
                f"Waits for {who}{which}; {everyone} can be had, and {len(barred)} that {are} "
                f"drained or quarantined ({names}): an operator must resume some.{again}"
            )
        if everyone < wanted:
            return (
                f"Waits for {who}{which}; the cluster has {everyone} now, and the job starts "
                f"when enough have joined.{again}"
            )
        if free >= wanted and not ahead:
            return f"It is about to start.{again}"
        before = f", {ahead} job{'s' if ahead > 1 else ''} before it" if ahead else ""
        return f"Waits for {who}{which}; {free} of {everyone} free{before}.{again}"
