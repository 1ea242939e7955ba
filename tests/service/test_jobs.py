"""What happens to jobs in a cluster that works, and in one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from syndicate.domain.errors import (
    Conflict,
    Forbidden,
    InvalidJob,
    InvalidSource,
    NotFound,
    SandboxFailed,
    StorageFull,
    WouldWait,
)
from syndicate.domain.job import JobSpec, JobState, Limits, MachineState, Outcome, Resources
from syndicate.domain.lifecycle import cancel
from syndicate.domain.log import Decoder
from syndicate.manager.fleet import REST
from syndicate.sandbox.interface import IEnclosure, Plot
from syndicate.sandbox.memory import MemoryRun, MemorySandbox
from syndicate.store.interface import Batch, Snapshot
from tests.support.cluster import ANN, BOB, STAFF, Cluster, instead

Make = Callable[..., Cluster]


def forever(run: MemoryRun) -> None:
    """A program that does not end by itself."""
    run.print(b"I run\n")


def saying_who(run: MemoryRun) -> None:
    """A program that prints its command and its name."""
    run.print(f"{' '.join(run.argv)} {run.env['SYNDICATE_MACHINE']}\n".encode())
    run.exit(0)


def printed(cluster: Cluster, number: int, machine: str, attempt: int = 1) -> bytes:
    data = cluster.logs.read(number, attempt, machine, 0, 1 << 20)
    return b"".join(frame.data for frame in Decoder().feed(data))


def test_a_job_runs_on_all_its_machines_and_passes(make_cluster: Make) -> None:
    cluster = make_cluster(3, saying_who)
    number = cluster.submit(3)
    job = cluster.job(number)
    assert (job.state, job.outcome) == (JobState.FINISHED, Outcome.PASSED)
    assert printed(cluster, number, "master") == b"make master master\n"
    master = job.machine("master").address
    assert printed(cluster, number, "slave[1]") == f"make MASTER={master} slave slave[1]\n".encode()
    assert set(cluster.states().values()) == {"free"}


def test_the_stored_events_tell_the_whole_story_in_order(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    number = cluster.submit(2)
    kinds = cluster.kinds(number)
    assert kinds[:3] == ["submitted", "reserved", "preparing"]
    assert kinds[-2:] == ["finishing", "finished"]
    assert kinds.count("machine-exited") == 2
    assert len(kinds) == cluster.job(number).events


def test_nobody_hears_of_an_allocation_before_it_is_stored(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    inner = cluster.hosts["v1"].sandbox
    stored: list[Snapshot] = []

    def prepare(plot: Plot) -> Deferred[IEnclosure]:
        stored.append(cluster.result_of(cluster.store.load()))
        return inner.prepare(plot)

    cluster.hosts["v1"].service._sandbox = instead(inner, prepare=prepare)
    number = cluster.submit(1)
    (snapshot,) = stored
    assert snapshot.records["job", f"{number:016x}"]["attempt"] == 1
    cluster.cancel(number)


def test_a_job_that_does_not_fit_waits_and_says_why(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    number = cluster.submit(3)
    assert cluster.job(number).state is JobState.QUEUED
    assert "the cluster has 2 now" in cluster.manager.planner.waits(cluster.job(number).spec)
    cluster.add("v3")
    assert cluster.job(number).outcome is Outcome.PASSED


def test_jobs_start_in_order_as_volunteers_become_free(make_cluster: Make) -> None:
    cluster = make_cluster(2, forever)
    first, second, third = cluster.submit(2), cluster.submit(1), cluster.submit(1)
    assert cluster.job(second).state is JobState.QUEUED
    cluster.cancel(first)
    assert [cluster.job(n).state for n in (second, third)] == [JobState.RUNNING] * 2
    cluster.cancel(second)
    cluster.cancel(third)


def test_cancelling_kills_and_frees_everything(make_cluster: Make) -> None:
    cluster = make_cluster(3, forever)
    number = cluster.submit(3)
    assert cluster.job(number).state is JobState.RUNNING
    cluster.cancel(number)
    job = cluster.job(number)
    assert (job.outcome, job.reason) == (Outcome.CANCELLED, "Cancelled by ann.")
    assert {machine.state for machine in job.machines} == {MachineState.KILLED}
    assert printed(cluster, number, "master") == b"I run\n"
    assert set(cluster.states().values()) == {"free"}


def test_only_its_owner_and_staff_cancel_a_job(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    number = cluster.submit(1)
    with pytest.raises(Forbidden):
        cluster.cancel(number, BOB)
    cluster.cancel(number, STAFF)
    with pytest.raises(Conflict):
        cluster.cancel(number)
    with pytest.raises(NotFound):
        cluster.cancel(99)


def test_a_queued_job_is_cancelled_without_ever_starting(make_cluster: Make) -> None:
    cluster = make_cluster(0)
    number = cluster.submit(1)
    cluster.cancel(number)
    assert cluster.kinds(number) == ["submitted", "finished"]


def test_the_same_submission_twice_is_one_job(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    number = cluster.submit(1)
    spec = cluster.job(number).spec
    job, new = cluster.result_of(cluster.manager.admission.submit(ANN, "token-1", spec))
    assert (job.number, new) == (number, False)
    other = JobSpec("other", spec.sha256, spec.size)
    with pytest.raises(Conflict, match="another source or name"):
        cluster.result_of(cluster.manager.admission.submit(ANN, "token-1", other))


def test_a_job_refused_with_no_wait_leaves_no_trace(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    first = cluster.submit(1)
    spec = JobSpec("x", cluster.job(first).spec.sha256, cluster.job(first).spec.size, machines=2)
    with pytest.raises(WouldWait, match="the cluster has 1 now"):
        cluster.result_of(cluster.manager.admission.submit(ANN, "other-token", spec, no_wait=True))
    assert list(cluster.manager.book.jobs) == [first]


@pytest.mark.parametrize(
    "values",
    [
        {"machines": 100_000},
        {"limits": Limits(wall=1e9)},
        {"limits": Limits(pids=0)},
        {"limits": Limits(memory=4096)},
    ],
)
def test_a_job_over_the_sites_maxima_is_refused(make_cluster: Make, values: dict[str, Any]) -> None:
    cluster = make_cluster(1)
    with pytest.raises(InvalidJob):
        cluster.submit(**values)


def test_a_makefile_without_its_targets_is_refused_before_anything_is_reserved(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(1)
    cluster.inspector.makefile = b"master:\n"
    with pytest.raises(InvalidSource, match="no target 'slave'"):
        cluster.submit(1)
    assert cluster.manager.book.jobs == {}


def test_a_machine_over_its_wall_limit_times_the_job_out(make_cluster: Make) -> None:
    cluster = make_cluster(2, forever)
    number = cluster.submit(2, limits=Limits(wall=30.0))
    cluster.wait(29)
    assert cluster.job(number).state is JobState.RUNNING
    cluster.wait(2)
    job = cluster.job(number)
    assert (job.outcome, job.limit) == (Outcome.TIMED_OUT, "wall")
    assert set(cluster.states().values()) == {"free"}


def test_a_job_asks_only_for_volunteers_that_have_what_it_needs(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    number = cluster.submit(1, resources=Resources(cores=8))
    assert cluster.job(number).state is JobState.QUEUED
    cluster.add("v2", cores=8)
    assert cluster.job(number).machine("master").volunteer == "v2"


def test_a_crashed_volunteer_queues_its_job_again_at_once_when_it_is_back(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(3, forever)
    number = cluster.submit(3)
    cluster.hosts["v2"].crash()
    cluster.settle()
    assert cluster.job(number).state is JobState.RUNNING  # It may come back.
    cluster.add("v2")
    job = cluster.job(number)
    assert (job.state, job.attempt, job.losses) == (JobState.RUNNING, 2, 1)
    cluster.cancel(number)


def test_a_volunteer_that_stays_away_is_given_up_after_its_grace(make_cluster: Make) -> None:
    cluster = make_cluster(3, forever)
    number = cluster.submit(2)
    victim = cluster.job(number).machine("master").volunteer
    cluster.hosts[victim].crash()
    cluster.wait(31)
    job = cluster.job(number)
    assert (job.state, job.attempt) == (JobState.RUNNING, 2)
    assert victim not in {machine.volunteer for machine in job.machines}
    cluster.cancel(number)


def test_one_that_was_cut_off_for_longer_than_its_grace_comes_back_and_kills_its_attempt(
    make_cluster: Make,
) -> None:
    runs: list[Any] = []
    cluster = make_cluster(2, runs.append)
    number = cluster.submit(1)
    host = cluster.hosts[cluster.job(number).machine("master").volunteer]
    assert host.link is not None
    host.dials = False
    host.link.cut()
    cluster.wait(31)
    job = cluster.job(number)
    assert (job.state, job.attempt, job.losses) == (JobState.RUNNING, 2, 1)
    assert job.machine("master").volunteer != host.name
    # It cannot know, and goes on: see doc/decisions/0030-adoption.rst.
    former, present = runs
    assert former.running
    former.print(b"of the former attempt\n")
    host.dials = True
    host.start()
    cluster.settle()
    assert not former.running
    assert cluster.states()[host.name] == "free"
    # Nothing of it has come to the present attempt, which goes on to its own end.
    assert cluster.job(number).attempt == 2
    assert present.running
    present.print(b"of the present one\n")
    present.exit(0)
    cluster.wait(1)
    job = cluster.job(number)
    assert (job.outcome, job.attempt) == (Outcome.PASSED, 2)
    assert printed(cluster, number, "master", attempt=2) == b"of the present one\n"


def test_an_attempt_that_ended_while_its_volunteer_was_cut_off_for_too_long_counts_for_nothing(
    make_cluster: Make,
) -> None:
    runs: list[MemoryRun] = []
    cluster = make_cluster(2, runs.append)
    number = cluster.submit(1)
    host = cluster.hosts[cluster.job(number).machine("master").volunteer]
    assert host.link is not None
    host.dials = False
    host.link.cut()
    runs[0].exit(1)
    cluster.wait(31)
    host.dials = True
    host.start()
    cluster.settle()
    job = cluster.job(number)
    assert (job.state, job.attempt) == (JobState.RUNNING, 2)
    assert cluster.states()[host.name] == "free"
    runs[1].exit(0)
    cluster.wait(1)
    assert cluster.job(number).outcome is Outcome.PASSED


def test_a_broken_link_that_heals_in_time_costs_the_job_nothing(make_cluster: Make) -> None:
    cluster = make_cluster(2, forever)
    number = cluster.submit(2)
    host = cluster.hosts["v1"]
    assert host.link is not None
    host.link.cut()
    cluster.wait(10)
    host.start()
    cluster.settle()
    job = cluster.job(number)
    assert (job.state, job.attempt) == (JobState.RUNNING, 1)
    cluster.wait(60)
    assert cluster.job(number).state is JobState.RUNNING
    cluster.cancel(number)


def test_an_end_while_the_link_is_down_is_told_when_it_is_up_again(make_cluster: Make) -> None:
    runs: list[MemoryRun] = []
    cluster = make_cluster(1, runs.append)
    number = cluster.submit(1)
    host = cluster.hosts["v1"]
    assert host.link is not None
    host.link.cut()
    runs[0].print(b"all done\n")
    runs[0].exit(0)
    cluster.wait(5)
    assert cluster.job(number).state is JobState.RUNNING
    host.start()
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.PASSED
    assert printed(cluster, number, "master") == b"all done\n"


def test_a_silent_volunteer_is_dropped_after_its_deadline(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    host = cluster.hosts["v1"]
    assert host.link is not None
    host.dials, host.link.hung = False, True
    cluster.wait(21)
    assert cluster.states() == {"v1": "gone"}
    assert not host.link.up


def test_a_second_connection_replaces_the_first_and_leaves_none_dead(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    host = cluster.hosts["v1"]
    first, host.link = host.link, None
    assert first is not None
    first.hung = True
    host.start()
    cluster.settle()
    assert not first.up
    assert cluster.states() == {"v1": "free"}
    assert cluster.job(cluster.submit(1)).outcome is Outcome.PASSED


def test_a_job_whose_volunteers_keep_crashing_is_given_up_with_the_reason(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(1, forever)
    number = cluster.submit(1)
    for _ in range(3):
        cluster.hosts["v1"].crash()
        cluster.add("v1")
    job = cluster.job(number)
    assert (job.outcome, job.attempt) == (Outcome.LOST, 3)
    assert "v1 came back without it" in job.reason


def test_a_restarted_manager_keeps_the_queue_and_what_runs(make_cluster: Make) -> None:
    cluster = make_cluster(2, forever)
    running, waiting = cluster.submit(2), cluster.submit(1)
    cluster.restart_manager()
    cluster.wait(61)
    job = cluster.job(running)
    assert (job.state, job.attempt, job.losses) == (JobState.RUNNING, 1, 0)
    assert cluster.job(waiting).state is JobState.QUEUED
    cluster.cancel(running)
    assert cluster.job(waiting).state is JobState.RUNNING
    cluster.cancel(waiting)


def test_a_host_that_cannot_prepare_rests_while_another_takes_the_job(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    failed: list[str] = []
    for host in cluster.hosts.values():
        inner = host.sandbox

        def prepare(plot: Plot, inner: MemorySandbox = inner) -> Deferred[IEnclosure]:
            if failed:
                return inner.prepare(plot)
            failed.append(plot.key)
            return fail(StorageFull("No room for the disk."))

        host.service._sandbox = instead(inner, prepare=prepare)
    number = cluster.submit(1)
    job = cluster.job(number)
    assert (job.outcome, job.attempt, job.losses) == (Outcome.PASSED, 2, 1)
    members = cluster.manager.fleet.members.values()
    assert sum("No room" in member.reason for member in members) == 1
    # It rests: it is counted, but not as free.
    assert "1 of 2 free" in cluster.manager.planner.waits(JobSpec("x", "0" * 64, 1, machines=2))
    cluster.wait(REST + 1)
    assert cluster.job(cluster.submit(2)).outcome is Outcome.PASSED


def test_a_full_store_refuses_submissions_and_recovers_by_itself(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    running = cluster.submit(1)
    full = True

    def commit(batch: Batch, term: int) -> Deferred[int]:
        if full:
            return fail(StorageFull("No room left for the store."))
        return cluster.store.commit(batch, term)

    cluster.manager._journal._store = instead(cluster.store, commit=commit)
    with pytest.raises(StorageFull):
        cluster.submit(1)
    event = cancel(cluster.job(running), "ann")
    assert event is not None
    cluster.manager._conductor.happen(running, event)
    cluster.wait(3)
    assert cluster.hosts["v1"].service.look().part is not None, "no order before it is stored"
    full = False
    cluster.wait(3)
    assert cluster.job(running).outcome is Outcome.CANCELLED
    assert cluster.job(cluster.submit(1)).state is JobState.RUNNING
    cluster.cancel(max(cluster.manager.book.jobs))


def test_a_start_that_fails_on_the_host_is_tried_again(make_cluster: Make) -> None:
    cluster = make_cluster(2)
    inner = cluster.hosts["v1"].sandbox
    problem = SandboxFailed("No exec.")

    def prepare(plot: Plot) -> Deferred[Any]:
        return inner.prepare(plot).addCallback(
            lambda enclosure: instead(enclosure, start=lambda *_: fail(problem))
        )

    cluster.hosts["v1"].service._sandbox = instead(inner, prepare=prepare)
    job = cluster.job(cluster.submit(1))
    assert (job.outcome, job.attempt) == (Outcome.PASSED, 2)


def test_an_end_is_acknowledged_only_once_its_log_is_on_the_disk(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(1)
    asked: list[tuple[int, int, str]] = []
    held: list[Deferred[None]] = []

    def sync(job: int, attempt: int, machine: str) -> Deferred[None]:
        asked.append((job, attempt, machine))
        held.append(Deferred())
        return held[-1]

    cluster.manager.logs = instead(cluster.logs, sync=sync)
    number = cluster.submit()
    cluster.wait(3)
    assert asked == [(number, 1, "master")]
    assert "machine-exited" not in cluster.kinds(number)
    assert cluster.states() == {"v1": "busy"}
    held[0].callback(None)
    cluster.wait(1)
    assert cluster.job(number).state is JobState.FINISHED
    assert cluster.states() == {"v1": "free"}


def test_a_volunteer_that_starts_removes_the_doors_that_a_crashed_one_has_left(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(0)
    left = cluster.directory / "v1" / "doors" / "9.1.client-0"
    left.mkdir(parents=True)
    (left / "http").touch()
    cluster.add("v1")
    assert not left.exists()
