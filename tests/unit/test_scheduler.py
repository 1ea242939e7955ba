"""The promises of the scheduler."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.job import Job, Limits, Resources
from syndicate.domain.scheduler import AFTER_WALL, Census, Occupied, Reserve, Snapshot, fits, plan
from syndicate.domain.volunteer import Volunteer
from tests.support.histories import fleets, queued, queues, volunteer

NOW = 1000.0


def short(number: int, machines: int, wall: float = 10.0) -> Job:
    return queued(number, machines, limits=Limits(wall=wall))


def test_a_gang_is_reserved_together() -> None:
    free = tuple(volunteer(f"v{n}") for n in range(3))
    (reserve,) = plan(Snapshot((queued(1, 3),), free), NOW)
    assert reserve.job == 1
    assert reserve.volunteers == free


def test_a_gang_that_lacks_one_volunteer_gets_none() -> None:
    free = (volunteer("v0"), volunteer("v1"))
    assert plan(Snapshot((queued(1, 3),), free), NOW) == ()


def test_a_job_too_large_for_the_cluster_holds_nobody_back() -> None:
    free = (volunteer("v0"), volunteer("v1"))
    assert [r.job for r in plan(Snapshot((queued(1, 9), queued(2, 2)), free), NOW)] == [2]


def test_a_short_job_goes_before_a_head_that_cannot_start_yet() -> None:
    occupied = (Occupied(volunteer("v1"), NOW + 10 + AFTER_WALL),)
    queue = (short(1, 2), short(2, 1))
    assert [r.job for r in plan(Snapshot(queue, (volunteer("v0"),), occupied), NOW)] == [2]


def test_a_long_job_does_not_go_before_the_head_it_would_delay() -> None:
    occupied = (Occupied(volunteer("v1"), NOW + 10),)
    queue = (short(1, 2), short(2, 1, wall=60.0))
    assert plan(Snapshot(queue, (volunteer("v0"),), occupied), NOW) == ()


def test_a_long_job_takes_what_the_head_will_leave_over() -> None:
    occupied = (Occupied(volunteer("v2"), NOW + 5), Occupied(volunteer("v3"), NOW + 5))
    queue = (short(1, 3), short(2, 1, wall=3600.0), short(3, 1, wall=3600.0))
    free = (volunteer("v0"), volunteer("v1"))
    assert [r.job for r in plan(Snapshot(queue, free, occupied), NOW)] == [2]


def test_a_long_job_takes_volunteers_that_the_head_cannot_use() -> None:
    head = queued(1, 1, resources=Resources(cores=8), limits=Limits(wall=10.0))
    occupied = (Occupied(volunteer("big", cores=8), NOW + 5),)
    snapshot = Snapshot((head, short(2, 1, wall=3600.0)), (volunteer("small"),), occupied)
    assert [r.job for r in plan(snapshot, NOW)] == [2]


def test_the_reason_tells_a_cluster_that_is_too_small_from_one_that_is_busy() -> None:
    busy = Snapshot((queued(1, 2),), (volunteer("v0"),), (Occupied(volunteer("v1"), NOW),))
    assert "1 of 2 free" in Census(busy).explain(queued(1, 2), 0)
    assert "the cluster has 2 now" in Census(busy).explain(queued(1, 3), 0)
    for clients, told in ((1, "one of them for the client"), (2, "2 of them for clients")):
        said = Census(busy).explain(queued(1, 3, clients=clients), 0)
        assert f"Waits for {3 + clients} volunteers, {told}; the cluster has 2 now" in said


@given(queues(), fleets(), st.integers(0, 10))
def test_no_volunteer_is_given_twice_and_every_gang_is_whole(
    queue: tuple[Job, ...], fleet: tuple[Volunteer, ...], taken: int
) -> None:
    occupied = tuple(Occupied(v, NOW + 60.0) for v in fleet[:taken])
    free = fleet[taken:]
    reserved = plan(Snapshot(queue, free, occupied), NOW)
    given_out = [v.name for reserve in reserved for v in reserve.volunteers]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= {v.name for v in free}
    by_number = {job.number: job for job in queue}
    for reserve in reserved:
        job = by_number[reserve.job]
        assert len(reserve.volunteers) == job.spec.machines
        assert all(fits(job.spec.resources, v.facts) for v in reserve.volunteers)


@given(queues(), fleets(), st.integers(0, 10))
def test_backfill_never_delays_the_head(
    queue: tuple[Job, ...], fleet: tuple[Volunteer, ...], taken: int
) -> None:
    occupied = tuple(Occupied(v, NOW + 7.0 * (n + 1)) for n, v in enumerate(fleet[:taken]))
    free = fleet[taken:]
    reserved = {r.job: r for r in plan(Snapshot(queue, free, occupied), NOW)}
    head = next(
        (
            job
            for job in queue
            if job.number not in reserved
            and sum(fits(job.spec.resources, v.facts) for v in fleet) >= job.spec.machines
        ),
        None,
    )
    if head is None:
        return
    before = [r for r in reserved.values() if r.job < head.number]
    behind = [r for r in reserved.values() if r.job > head.number]
    assert _start(head, queue, free, occupied, before) >= _start(
        head, queue, free, occupied, before + behind
    )


def _start(
    head: Job,
    queue: tuple[Job, ...],
    free: tuple[Volunteer, ...],
    occupied: tuple[Occupied, ...],
    reserved: list[Reserve],
) -> float:
    """When the head can start if everything runs up to its limit."""
    wall = {job.number: job.spec.limits.wall for job in queue}
    until = {v.name: NOW for v in free} | {o.volunteer.name: o.until for o in occupied}
    facts = {v.name: v.facts for v in free} | {
        o.volunteer.name: o.volunteer.facts for o in occupied
    }
    for reserve in reserved:
        for v in reserve.volunteers:
            until[v.name] = NOW + wall[reserve.job] + AFTER_WALL
    ends = sorted(t for name, t in until.items() if fits(head.spec.resources, facts[name]))
    return ends[head.spec.machines - 1]


@given(queues(), fleets())
def test_every_job_that_fits_starts_in_the_end(
    queue: tuple[Job, ...], fleet: tuple[Volunteer, ...]
) -> None:
    waiting = {
        job.number: job
        for job in queue
        if sum(fits(job.spec.resources, v.facts) for v in fleet) >= job.spec.machines
    }
    running: list[tuple[float, tuple[Volunteer, ...]]] = []
    now, later = NOW, 10_000
    while waiting:
        # A stream of small jobs that never ends comes behind them.
        if later < 10_030:
            later += 1
            waiting_all = (*waiting.values(), short(later, 1))
        else:
            waiting_all = tuple(waiting.values())
        busy = {v.name: until for until, group in running for v in group}
        snapshot = Snapshot(
            waiting_all,
            tuple(v for v in fleet if v.name not in busy),
            tuple(Occupied(v, busy[v.name]) for v in fleet if v.name in busy),
        )
        for reserve in plan(snapshot, now):
            waiting.pop(reserve.job, None)
            wall = next(j.spec.limits.wall for j in waiting_all if j.number == reserve.job)
            running.append((now + wall + AFTER_WALL, reserve.volunteers))
        assert running or not waiting, "nothing runs, and nothing starts"
        running.sort(key=lambda run: run[0])
        if running:
            now = max(now, running.pop(0)[0])


def test_a_snapshot_is_never_changed() -> None:
    snapshot = Snapshot((queued(1, 1),), (volunteer("v0"),))
    before = attrs.asdict(snapshot, recurse=False)
    plan(snapshot, NOW)
    assert attrs.asdict(snapshot, recurse=False) == before
