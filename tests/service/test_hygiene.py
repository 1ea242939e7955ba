"""Volunteers that get no job: drained, unclean, quarantined; and what is done after each job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail

from syndicate.audit.interface import Wanted
from syndicate.domain.errors import Conflict, Forbidden, Invalid, NotClean, NotFound
from syndicate.domain.job import JobState, Outcome
from syndicate.sandbox.memory import MemoryRun
from syndicate.wire.interface import Holding
from tests.support.cluster import Cluster, instead

Make = Callable[..., Cluster]
OPS = ("ops", "operator")


def forever(run: MemoryRun) -> None:
    """Runs until it is killed."""


def soon(run: MemoryRun) -> None:
    """Ends well after a second."""
    run.later(1.0, lambda: run.exit(0))


def standing(cluster: Cluster, verb: str, name: str, *words: str, who: Any = OPS) -> None:
    cluster.result_of(getattr(cluster.manager.hygiene, verb)(*who, name, *words))
    cluster.settle()


def make_dirty(cluster: Cluster, number: int, name: str = "v1") -> Callable[[], None]:
    """Let the enclosure of a job be unremovable, until what is returned is called."""
    part = cluster.hosts[name].service.look().part
    assert part is not None
    enclosure = part._enclosure
    part._enclosure = instead(
        enclosure, destroy=lambda: fail(NotClean(f"A mount of job {number} is left."))
    )

    def mend() -> None:
        part._enclosure = enclosure

    return mend


def test_a_drained_volunteer_ends_its_job_and_gets_no_other(make_cluster: Make) -> None:
    cluster = make_cluster(1, soon)
    first = cluster.submit(1)
    standing(cluster, "drain", "v1", "new kernel")
    assert cluster.states() == {"v1": "busy"}
    assert cluster.manager.fleet.get("v1").reason == "Drained by ops: new kernel"
    second = cluster.submit(1)
    cluster.wait(3)
    assert cluster.job(first).outcome is Outcome.PASSED
    assert cluster.states() == {"v1": "drained"}
    assert cluster.job(second).state is JobState.QUEUED
    standing(cluster, "resume", "v1")
    cluster.wait(3)
    assert cluster.job(second).outcome is Outcome.PASSED
    assert cluster.states() == {"v1": "free"}
    assert cluster.manager.fleet.get("v1").reason == ""


def test_a_job_that_waits_for_drained_volunteers_alone_says_so(make_cluster: Make) -> None:
    cluster = make_cluster(3, forever)
    standing(cluster, "drain", "v1")
    standing(cluster, "quarantine", "v3", "smokes")
    spec = cluster.job(cluster.submit(2)).spec
    assert cluster.manager.planner.waits(spec) == (
        "Waits for 2 volunteers; 1 can be had, and 2 that fit are drained or quarantined "
        "(v1, v3): an operator must resume some."
    )
    assert cluster.manager.planner.matching(spec) == ["v2"]
    larger = attrs.evolve(spec, machines=4)
    assert "starts when enough have joined" in cluster.manager.planner.waits(larger)


def test_what_operators_said_outlives_manager_and_volunteer(make_cluster: Make) -> None:
    cluster = make_cluster(2, forever)
    standing(cluster, "drain", "v1", "new disk")
    standing(cluster, "quarantine", "v2")
    cluster.restart_manager()
    assert cluster.states() == {"v1": "drained", "v2": "quarantined"}
    assert cluster.manager.fleet.get("v1").reason == "Drained by ops: new disk"
    standing(cluster, "resume", "v1")
    cluster.restart_manager()
    assert cluster.states() == {"v1": "free", "v2": "quarantined"}


def test_only_operators_say_so_and_only_of_what_there_is(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    for verb in ("drain", "quarantine", "resume"):
        with pytest.raises(Forbidden):
            standing(cluster, verb, "v1", who=("staff", "staff"))
        with pytest.raises(NotFound):
            standing(cluster, verb, "v9")
    with pytest.raises(Conflict):
        standing(cluster, "resume", "v1")
    with pytest.raises(Invalid):
        standing(cluster, "drain", "v1", "two\nlines")
    standing(cluster, "quarantine", "v1")
    with pytest.raises(Conflict):
        standing(cluster, "drain", "v1")


def test_an_unclean_volunteer_tries_again_and_is_free_once_it_is_clean(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    mend = make_dirty(cluster, cluster.submit(1))
    cluster.cancel(1)
    assert cluster.states() == {"v1": "unclean"}
    assert "failure 1 of 3: A mount of job 1 is left." in cluster.manager.fleet.get("v1").reason
    waiting = cluster.submit(1)
    cluster.wait(5)
    assert cluster.job(waiting).state is JobState.QUEUED
    mend()
    cluster.wait(10)
    assert cluster.states() == {"v1": "busy"}
    assert cluster.job(waiting).state is JobState.RUNNING


def test_the_third_failure_quarantines_until_an_operator_resumes(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    mend = make_dirty(cluster, cluster.submit(1))
    cluster.cancel(1)
    cluster.wait(11)
    assert cluster.states() == {"v1": "unclean"}
    cluster.restart_manager()
    assert "failure 2 of 3" in cluster.manager.fleet.get("v1").reason, "told again, not counted"
    cluster.wait(25)
    assert cluster.states() == {"v1": "quarantined"}
    assert "could not clean itself 3 times" in cluster.manager.fleet.get("v1").reason
    (recorded,) = cluster.result_of(cluster.audit.tail(9, Wanted(on="volunteer v1")))
    assert (recorded.actor.name, recorded.did) == ("the manager", "quarantine")
    mend()
    cluster.wait(60)
    assert cluster.states() == {"v1": "quarantined"}, "clean, but trusted no more"
    standing(cluster, "resume", "v1")
    assert cluster.states() == {"v1": "free"}


class Held:
    """A store whose commits wait until a test lets them go on."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.waiting: list[Deferred[None]] | None = None

    def commit(self, *batch: Any) -> Any:
        if self.waiting is None:
            return self._store.commit(*batch)
        gate: Deferred[None] = Deferred()
        self.waiting.append(gate)
        return gate.addCallback(lambda _: self._store.commit(*batch))

    def let_go(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for gate in waiting:
            gate.callback(None)


def holding(cluster: Cluster) -> Held:
    held = Held(cluster.store)
    journal = cluster.manager._journal
    journal._store = instead(cluster.store, commit=held.commit)
    held.waiting = []
    return held


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize(
    ("verb", "failures", "stays"),
    [("drain", 2, "quarantined"), ("resume", 2, "quarantined"), ("drain", 1, "drained")],
)
def test_a_failure_while_an_operators_word_is_being_written_is_not_lost(
    make_cluster: Make, verb: str, failures: int, stays: str, *, queued: bool
) -> None:
    cluster = make_cluster(2, forever)
    hygiene = cluster.manager.hygiene
    for boot in range(failures):
        hygiene.failed("v1", f"boot {boot}", "A mount is left.")
    if verb == "resume":
        standing(cluster, "drain", "v1")
    cluster.settle()
    held = holding(cluster)
    # Another operator's word may be in the way.
    words = [Deferred.fromCoroutine(hygiene.drain(*OPS, "v2"))] if queued else []
    words.append(Deferred.fromCoroutine(getattr(hygiene, verb)(*OPS, "v1")))
    hygiene.failed("v1", "the last boot", "A mount is left.")
    held.let_go()
    cluster.settle()
    for word in words[:-1]:
        cluster.result_of(word)
    if stays == "quarantined":
        with pytest.raises(Conflict, match="quarantined"):
            cluster.result_of(words[-1])
    else:
        cluster.result_of(words[-1])
    assert (hygiene.of("v1").barred, hygiene.of("v1").failures) == (stays, failures + 1)
    cluster.restart_manager()
    stored = cluster.manager.hygiene.of("v1")
    assert (stored.barred, stored.failures) == (stays, failures + 1)


def test_who_is_resumed_while_unclean_gets_no_job_before_it_is_clean(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    mend = make_dirty(cluster, cluster.submit(1))
    standing(cluster, "quarantine", "v1")
    cluster.cancel(1)
    standing(cluster, "resume", "v1")
    assert cluster.states() == {"v1": "unclean"}
    mend()
    cluster.wait(11)
    assert cluster.states() == {"v1": "free"}


def test_failures_are_forgotten_by_a_job_that_was_cleaned_up_at_once(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    mend = make_dirty(cluster, cluster.submit(1))
    cluster.cancel(1)
    mend()
    cluster.wait(11)
    assert cluster.manager.hygiene.of("v1").failures == 1
    cluster.cancel(cluster.submit(1))
    assert cluster.states() == {"v1": "free"}
    assert cluster.manager.hygiene.of("v1").failures == 0


def test_what_an_operator_said_stays_after_a_job_that_was_cleaned_up_at_once(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(1, forever)
    mend = make_dirty(cluster, cluster.submit(1))
    cluster.cancel(1)
    mend()
    cluster.wait(11)
    number = cluster.submit(1)
    standing(cluster, "quarantine", "v1", "odd noises")
    cluster.cancel(number)
    assert cluster.states() == {"v1": "quarantined"}
    assert cluster.manager.hygiene.of("v1").failures == 1


def test_who_says_late_that_it_is_clean_keeps_the_job_that_it_was_given_since(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(1, forever)
    number = cluster.submit(1)
    cluster.result_of(cluster.manager.clean("v1", ""))
    cluster.result_of(cluster.manager.clean("v1", "A mount is left."))
    waiting = cluster.submit(1)
    cluster.wait(1)
    assert cluster.states() == {"v1": "busy"}
    assert cluster.job(number).state is JobState.RUNNING
    assert cluster.job(waiting).state is JobState.QUEUED
    assert cluster.manager.hygiene.of("v1").failures == 0


def test_who_stays_unclean_takes_longer_each_time(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    make_dirty(cluster, cluster.submit(1))
    cluster.cancel(1)
    counted = []
    for _ in range(4):
        cluster.wait(10)
        counted.append(cluster.manager.hygiene.of("v1").failures)
    assert counted == [2, 2, 3, 3]


def test_a_job_that_comes_while_the_host_is_not_fit_is_not_taken(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    cluster.hosts["v1"].service._tidying.problem = "A mount is left."
    number = cluster.submit(1)
    cluster.wait(1)
    job = cluster.job(number)
    assert job.state is JobState.QUEUED
    assert "A mount is left." in str(cluster.result_of(cluster.manager.events(number, 0)))
    assert "A mount is left." in cluster.manager.fleet.get("v1").reason


@attrs.define
class Chore:
    """What the operator wants after each job: done when a test says so."""

    done: list[Deferred[None]] = attrs.field(factory=list)
    after: list[Holding | None] = attrs.field(factory=list)

    def __call__(self, last: Holding | None) -> Awaitable[None]:
        self.after.append(last)
        self.done.append(Deferred())
        return self.done[-1]


def with_chore(cluster: Cluster) -> Chore:
    chore = Chore()
    cluster.hosts["v1"].service._tidying._after_job = chore
    return chore


def test_a_volunteer_gets_no_job_before_its_after_job_is_done(make_cluster: Make) -> None:
    cluster = make_cluster(1, soon)
    chore = with_chore(cluster)
    first = cluster.submit(1)
    second = cluster.submit(1)
    cluster.wait(3)
    assert cluster.job(first).outcome is Outcome.PASSED, "it does not wait for the chore"
    assert cluster.states() == {"v1": "cleaning"}
    assert chore.after == [Holding(first, 1, "master")]
    cluster.restart_manager()
    assert cluster.states() == {"v1": "cleaning"}
    assert cluster.job(second).state is JobState.QUEUED
    chore.done[0].callback(None)
    cluster.wait(3)
    assert cluster.job(second).outcome is Outcome.PASSED


def test_an_after_job_that_fails_counts_as_unclean_and_is_done_again(make_cluster: Make) -> None:
    cluster = make_cluster(1, soon)
    chore = with_chore(cluster)
    cluster.submit(1)
    cluster.wait(3)
    chore.done[0].errback(NotClean("after_job: it ended with exit code 1."))
    cluster.settle()
    assert cluster.states() == {"v1": "unclean"}
    assert "exit code 1" in cluster.manager.fleet.get("v1").reason
    cluster.wait(11)
    chore.done[1].callback(None)
    cluster.settle()
    assert cluster.states() == {"v1": "free"}


def test_what_jobs_print_and_bring_is_for_the_daemons_user_alone(make_cluster: Make) -> None:
    cluster = make_cluster(1, forever)
    cluster.submit(1)
    spool = cluster.directory / "v1" / "spool"
    assert list(spool.iterdir())
    assert spool.stat().st_mode & 0o777 == 0o700
