"""What is over leaves memory, and is not forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from syndicate.domain.errors import Conflict, NotFound, TooMany
from syndicate.domain.events import FaultChanged
from syndicate.domain.fault import FaultState
from syndicate.domain.job import JobSpec, JobState, Outcome
from syndicate.manager.history import SETTLED, Keep
from syndicate.manager.site import Site
from syndicate.sandbox.memory import MemoryRun
from tests.support.cluster import ANN, BOB, STAFF, Cluster, instead, put

DAY = 24 * 3600.0
MakeCluster = Callable[..., Cluster]


def at_once(run: MemoryRun) -> None:
    """Ends."""
    run.later(0.1, lambda: run.exit(0))


def forever(run: MemoryRun) -> None:
    """Does not end."""


def small(
    make_cluster: MakeCluster, jobs: int = 2, behaviour: Any = at_once, **more: Any
) -> Cluster:
    return make_cluster(3, behaviour, site=Site(keep=Keep(jobs, DAY), **more))


def finish(cluster: Cluster, count: int) -> list[int]:
    """Run jobs, one after the other, to their ends."""
    numbers = []
    for _ in range(count):
        numbers.append(cluster.submit())
        cluster.wait(1)
        assert cluster.job(numbers[-1]).state is JobState.FINISHED
    return numbers


def found(cluster: Cluster, number: int) -> Any:
    return cluster.result_of(cluster.manager.history.job(number))


def test_of_many_finished_jobs_only_the_last_stay_in_memory(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster)
    numbers = finish(cluster, 5)
    cluster.wait(60)
    assert list(cluster.manager.book.jobs) == numbers[3:]
    assert cluster.manager.history.archived == 3
    for number in numbers:
        job = found(cluster, number)
        assert (job.number, job.outcome) == (number, Outcome.PASSED)
        assert cluster.kinds(number)[0] == "submitted"
        assert cluster.kinds(number)[-1] == "finished"
    with pytest.raises(NotFound):
        found(cluster, 99)
    with pytest.raises(NotFound):
        cluster.result_of(cluster.manager.events(99, 0))


def test_what_is_old_leaves_memory_though_there_is_little_of_it(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, jobs=100)
    (number,) = finish(cluster, 1)
    cluster.wait(60)
    assert number in cluster.manager.book.jobs
    cluster.clock.advance(DAY)
    cluster.wait(1)
    assert number not in cluster.manager.book.jobs
    assert found(cluster, number).state is JobState.FINISHED


def test_a_restart_loads_no_more_than_what_is_kept(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, jobs=0)
    numbers = finish(cluster, 3)
    cluster.wait(60)
    cluster.restart_manager()
    assert cluster.manager.book.jobs == {}
    assert cluster.manager.history.archived == 3
    assert found(cluster, numbers[0]).outcome is Outcome.PASSED
    assert cluster.submit() == numbers[-1] + 1


def test_what_runs_or_waits_never_leaves(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, jobs=0, behaviour=forever)
    running, waiting = cluster.submit(3), cluster.submit(3)
    cluster.wait(60)
    assert list(cluster.manager.book.jobs) == [running, waiting]
    cluster.cancel(waiting)
    cluster.wait(SETTLED + 35)
    assert list(cluster.manager.book.jobs) == [running]


def test_a_job_of_which_a_volunteer_still_holds_something_does_not_leave(
    make_cluster: MakeCluster,
) -> None:
    cluster = small(make_cluster, jobs=0, behaviour=forever)
    number = cluster.submit()
    holder = cluster.job(number).machines[0].volunteer
    part = cluster.hosts[holder].service.look().part
    assert part is not None
    removed = Deferred[None]()
    part._enclosure = instead(part._enclosure, destroy=lambda: removed)
    cluster.cancel(number)
    cluster.wait(SETTLED + 31)
    assert cluster.job(number).state is JobState.FINISHED
    assert cluster.states()[holder] == "cleaning"
    assert number in cluster.manager.book.jobs
    removed.callback(None)
    cluster.wait(31)
    assert number not in cluster.manager.book.jobs


def test_a_job_of_which_a_fault_was_not_heard_of_again_does_not_leave(
    make_cluster: MakeCluster,
) -> None:
    cluster = small(make_cluster, jobs=0, behaviour=forever)
    number = cluster.submit_with_clients(2)
    cluster.wait(1)
    hurt = cluster.manager.fault(STAFF, number, "kill", {"machine": "master"}, None)
    cluster.result_of(hurt)
    ledger = cluster.manager.ledger
    fault = ledger.of(number)[0]
    cluster.cancel(number)
    ledger.put(number, attrs.evolve(fault, state=FaultState.REQUESTED))
    cluster.wait(SETTLED + 61)
    assert number in cluster.manager.book.jobs
    ledger.put(number, fault)
    cluster.wait(SETTLED + 61)
    assert number not in cluster.manager.book.jobs


def test_faults_leave_memory_with_their_job_and_are_still_told(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, jobs=0, behaviour=forever)
    number = cluster.submit_with_clients(2)
    cluster.wait(1)
    fault = cluster.manager.fault(STAFF, number, "kill", {"machine": "slave[0]"}, "once only")
    cluster.result_of(fault)
    before = cluster.manager.ledger.of(number)
    assert before
    cluster.cancel(number)
    cluster.wait(60)
    assert number not in cluster.manager.book.jobs
    assert cluster.manager.ledger.of(number) == []
    assert not cluster.manager.desk._answers
    _, after = cluster.result_of(cluster.manager.history.job_and_faults(number))
    assert [fault.kind for fault in after] == [fault.kind for fault in before]
    cluster.restart_manager()
    assert cluster.manager.ledger.of(number) == []


def test_what_is_told_of_a_job_on_its_way_into_the_archive_keeps_it_whole(
    make_cluster: MakeCluster,
) -> None:
    cluster = small(make_cluster, jobs=0, behaviour=forever)
    number = cluster.submit_with_clients(2)
    cluster.wait(1)
    for machine in ("slave[0]", "master"):
        hurt = cluster.manager.fault(STAFF, number, "kill", {"machine": machine}, None)
        cluster.result_of(hurt)
    cluster.cancel(number)
    cluster.wait(SETTLED - 2)
    history, book = cluster.manager.history, cluster.manager.book
    faults = cluster.manager.ledger.of(number)
    job = book.jobs[number]
    held = hold_commits(cluster)
    written = history._set_aside([job])
    book.remark(number, FaultChanged(faults[0]))
    held.callback(None)
    cluster.result_of(written)
    cluster.settle()
    assert number in book.jobs
    cluster.restart_manager()
    assert number in cluster.manager.book.jobs
    assert cluster.manager.ledger.of(number) == faults
    assert cluster.manager.book.submission_of(number) is not None
    cluster.wait(60)
    assert number not in cluster.manager.book.jobs
    _, after = cluster.result_of(cluster.manager.history.job_and_faults(number))
    assert after == faults


def test_a_job_in_the_archive_cannot_be_changed(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, jobs=0)
    (number,) = finish(cluster, 1)
    cluster.wait(60)
    manager = cluster.manager
    for attempt in (
        manager.cancel(ANN, number),
        manager.fault(STAFF, number, "kill", {}, None),
        manager.revoke(STAFF, number, "client[0]"),
    ):
        with pytest.raises(Conflict):
            cluster.result_of(attempt)


def spec_of(cluster: Cluster, data: bytes) -> JobSpec:
    cluster.result_of(put(cluster.blobs, data))
    return JobSpec("a job", hashlib.sha256(data).hexdigest(), len(data))


def test_a_token_makes_one_job_for_seven_days_though_the_job_is_in_the_archive(
    make_cluster: MakeCluster,
) -> None:
    cluster = small(make_cluster, jobs=0)
    spec, submit = spec_of(cluster, b"a source"), cluster.manager.admission.submit
    job, new = cluster.result_of(submit(ANN, "my-token", spec))
    assert new
    cluster.wait(60)
    assert job.number not in cluster.manager.book.jobs
    assert not cluster.manager.book._submissions
    cluster.clock.advance(7 * DAY - 3600)
    cluster.wait(1)
    again, new = cluster.result_of(submit(ANN, "my-token", spec))
    assert (again.number, new) == (job.number, False)
    with pytest.raises(Conflict):
        cluster.result_of(submit(ANN, "my-token", spec_of(cluster, b"another source")))
    other, new = cluster.result_of(submit(BOB, "my-token", spec))
    assert new
    assert other.number != job.number
    cluster.clock.advance(7200)
    cluster.wait(1)
    last, new = cluster.result_of(submit(ANN, "my-token", spec))
    assert new
    assert last.number > other.number


def hold_commits(cluster: Cluster) -> Deferred[None]:
    """Let the store write nothing more until the Deferred fires."""
    held = Deferred[None]()

    async def slow(batch: Any, term: int) -> int:
        await held
        return int(await cluster.store.commit(batch, term))

    def commit(batch: Any, term: int) -> Deferred[int]:
        return Deferred.fromCoroutine(slow(batch, term))

    cluster.manager._journal._store = instead(cluster.store, commit=commit)
    return held


def test_the_same_submission_twice_at_once_is_one_job(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster)
    spec = spec_of(cluster, b"a source")
    held = hold_commits(cluster)
    asked = [
        Deferred.fromCoroutine(cluster.manager.admission.submit(ANN, "one-token", spec))
        for _ in range(3)
    ]
    cluster.settle()
    held.callback(None)
    answers = [cluster.result_of(each) for each in asked]
    assert len({job.number for job, _ in answers}) == 1
    assert [new for _, new in answers] == [True, False, False]


def test_one_user_cannot_fill_the_queue_for_others(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, behaviour=forever, queued_per_user=2)
    running = cluster.submit(3)
    cluster.submit(1)
    last = cluster.submit(1)
    with pytest.raises(TooMany, match="2 jobs waiting") as refused:
        cluster.submit(1)
    assert (refused.value.code, refused.value.status) == ("too_many", 429)
    assert cluster.submit(1, BOB) > last
    assert cluster.job(running).state is JobState.RUNNING
    cluster.cancel(last)
    assert cluster.submit(1) > last


def test_jobs_that_are_being_stored_count_as_waiting(make_cluster: MakeCluster) -> None:
    cluster = small(make_cluster, behaviour=forever, queued_per_user=2)
    spec = spec_of(cluster, b"a source")
    held = hold_commits(cluster)
    asked = [
        Deferred.fromCoroutine(cluster.manager.admission.submit(ANN, f"token-{n}", spec))
        for n in range(4)
    ]
    cluster.settle()
    held.callback(None)
    new = [cluster.result_of(each)[1] for each in asked[:2]]
    assert new == [True, True]
    for each in asked[2:]:
        with pytest.raises(TooMany):
            cluster.result_of(each)
