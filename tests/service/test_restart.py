"""The manager dies, at any moment, and another one takes over what it had under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from syndicate.domain.errors import Fenced, WrongVersion
from syndicate.domain.job import JobState, Outcome
from syndicate.manager.liveness import Patience
from syndicate.sandbox.memory import MemoryRun
from syndicate.store.interface import Batch, IStore
from syndicate.wire.interface import PROTOCOL, EndReport, Part, Welcome
from tests.support.cluster import Cluster, instead

Make = Callable[..., Cluster]


@attrs.define
class Death:
    """The manager dies as it writes one of its batches, just before that is stored, or just after:
    it hears of nothing that it writes from then on, and so gives no order and no answer.
    """

    at: int
    stored: bool
    count: int = 0

    @property
    def came(self) -> bool:
        return 0 < self.at <= self.count

    def before(self, store: IStore) -> Any:
        def commit(batch: Batch, term: int) -> Deferred[int]:
            self.count += 1
            if not self.came:
                return store.commit(batch, term)
            if self.count == self.at and self.stored:
                store.commit(batch, term)
            return Deferred()

        return instead(store, commit=commit)


class Programs:
    """Counts how often each target was started; lets them end in their turn."""

    def __init__(self) -> None:
        self.started: Counter[tuple[str, str]] = Counter()

    def __call__(self, run: MemoryRun) -> None:
        name = run.env["SYNDICATE_MACHINE"]
        self.started[run.env["SYNDICATE_ATTEMPT"], name] += 1
        run.print(b"I began\n")
        run.later({"master": 4, "slave[0]": 2, "slave[1]": 3}[name], lambda: run.exit(0))


def runs_through_a_death(make_cluster: Make, at: int, *, stored: bool, pause: float) -> Death:
    """A job whose manager dies with a write and comes back after a pause; all else goes well."""
    programs = Programs()
    death = Death(at, stored)
    cluster = make_cluster(3, programs, writing=death.before)
    number = cluster.submit(3)
    for _ in range(10):
        if death.came:
            break
        cluster.wait(1)
    if death.came:
        cluster.wait(pause)
        cluster.writing = lambda store: store
        cluster.restart_manager()
        cluster.wait(20)
    job = cluster.job(number)
    assert (job.state, job.outcome, job.attempt) == (JobState.FINISHED, Outcome.PASSED, 1)
    assert programs.started == {("1", m.name): 1 for m in job.machines}
    assert cluster.kinds(number)[-1] == "finished"
    assert set(cluster.states().values()) == {"free"}
    return death


@pytest.mark.parametrize("stored", [False, True], ids=["unwritten", "written"])
@pytest.mark.parametrize("pause", [0.0, 1.0, 6.0])
def test_a_job_survives_the_managers_death_at_every_write(
    make_cluster: Make, stored: bool, pause: float
) -> None:
    last = runs_through_a_death(make_cluster, 0, stored=stored, pause=pause).count
    # The first write is the submission: a job that was never acknowledged need not be there.
    for at in range(2, last + 1):
        death = runs_through_a_death(make_cluster, at, stored=stored, pause=pause)
        assert death.came


def test_orders_given_before_they_are_durable_would_start_a_machine_twice(
    make_cluster: Make,
) -> None:
    # A store without write-ahead: after the submission it says that it has stored, and has not.
    said: list[Batch] = []

    def lying(store: IStore) -> Any:
        def commit(batch: Batch, term: int) -> Deferred[int]:
            said.append(batch)
            return store.commit(batch, term) if len(said) == 1 else succeed(len(said))

        return instead(store, commit=commit)

    programs = Programs()
    cluster = make_cluster(3, programs, writing=lying)
    number = cluster.submit(3)
    cluster.wait(1)
    cluster.writing = lambda store: store
    cluster.restart_manager()
    cluster.wait(20)
    # The same attempt, begun once more: what the tests above exclude.
    assert cluster.job(number).attempt == 1
    assert max(programs.started.values()) == 2


def forever(run: MemoryRun) -> None:
    """A program that does not end by itself."""


def is_away(cluster: Cluster, *names: str) -> None:
    """These volunteers do not reach the manager."""
    for name in names:
        host = cluster.hosts[name]
        host.dials = False
        if host.link is not None:
            host.link.cut()


def is_back(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.hosts[name].dials = True
        cluster.hosts[name].start()
    cluster.settle()


def runs_of(cluster: Cluster, name: str) -> list[str]:
    """What runs on a volunteer, as ``job.attempt.machine``."""
    found = cluster.hosts[name].sandbox.enclosures.items()
    return [key for key, enclosure in found if enclosure.run is not None]


def test_a_volunteer_that_does_not_come_back_to_the_new_manager_is_given_up(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(3, forever, patience=Patience(start_grace=12.0))
    number = cluster.submit(2)
    victim = cluster.job(number).machine("slave[0]").volunteer
    is_away(cluster, victim)
    cluster.restart_manager()
    cluster.wait(11)
    assert (cluster.job(number).state, cluster.job(number).attempt) == (JobState.RUNNING, 1)
    cluster.wait(2)
    job = cluster.job(number)
    assert (job.state, job.attempt, job.losses) == (JobState.RUNNING, 2, 1)
    assert victim not in {machine.volunteer for machine in job.machines}
    # It learns that its attempt is over when it is back, and not before.
    assert runs_of(cluster, victim) == [f"{number}.1.slave-0"]
    is_back(cluster, victim)
    assert runs_of(cluster, victim) == []
    assert cluster.states()[victim] == "free"
    assert cluster.job(number).attempt == 2
    cluster.cancel(number)


def test_a_volunteer_that_crashed_with_the_manager_costs_one_attempt_at_once(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(2, forever)
    number = cluster.submit(2)
    victim = cluster.job(number).machine("slave[0]").volunteer
    cluster.hosts[victim].crash()
    cluster.restart_manager()
    assert cluster.job(number).attempt == 1
    cluster.add(victim)
    job = cluster.job(number)
    assert (job.state, job.attempt, job.losses) == (JobState.RUNNING, 2, 1)
    cluster.cancel(number)


def test_nothing_is_given_to_a_volunteer_before_its_hello(make_cluster: Make) -> None:
    cluster = make_cluster(3, forever)
    number = cluster.submit(2)
    is_away(cluster, "v1", "v2", "v3")
    cluster.restart_manager()
    waiting = cluster.submit(1)
    cluster.wait(5)
    assert cluster.job(waiting).state is JobState.QUEUED
    assert set(cluster.states().values()) == {"gone"}
    is_back(cluster, "v1", "v2", "v3")
    assert cluster.job(waiting).state is JobState.RUNNING
    assert (cluster.job(number).state, cluster.job(number).attempt) == (JobState.RUNNING, 1)
    owners = [m.volunteer for n in (number, waiting) for m in cluster.job(n).machines]
    assert sorted(owners) == ["v1", "v2", "v3"]
    cluster.cancel(number)
    cluster.cancel(waiting)


def test_a_report_outlives_both_the_manager_and_its_volunteer(make_cluster: Make) -> None:
    runs: list[MemoryRun] = []
    death = Death(0, stored=False)
    cluster = make_cluster(1, runs.append, writing=death.before)
    number = cluster.submit(1)
    death.at = death.count + 1  # The write that would store the end.
    runs[0].exit(0)
    cluster.wait(1)
    assert death.came
    cluster.hosts["v1"].crash()
    cluster.writing = lambda store: store
    cluster.restart_manager()
    assert cluster.job(number).state is JobState.RUNNING
    cluster.add("v1")
    job = cluster.job(number)
    assert (job.outcome, job.attempt) == (Outcome.PASSED, 1)
    assert len(runs) == 1
    outbox = cluster.directory / "v1" / "outbox"
    assert list(outbox.glob("*.report")) == []


def test_a_report_is_acknowledged_when_its_end_is_durable_and_not_before(
    make_cluster: Make,
) -> None:
    runs: list[MemoryRun] = []
    death = Death(0, stored=False)
    cluster = make_cluster(1, runs.append, writing=death.before)
    number = cluster.submit(1)
    death.at = death.count + 1
    runs[0].exit(0)
    cluster.wait(1)
    (report,) = cluster.hosts["v1"].service._outbox.reports
    # Told again, it is known, and still not durable.
    again = cluster.manager.ended("v1", report)
    cluster.wait(1)
    assert not again.called
    cluster.writing = lambda store: store
    cluster.restart_manager()
    cluster.wait(2)
    assert cluster.job(number).outcome is Outcome.PASSED
    assert cluster.hosts["v1"].service._outbox.reports == ()
    for late in (report, attrs.evolve(report, part=attrs.evolve(report.part, attempt=7))):
        assert cluster.result_of(cluster.manager.ended("v1", late)) is None
    assert cluster.kinds(number).count("finished") == 1


def test_a_report_about_a_machine_of_another_volunteer_changes_nothing(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(2, forever)
    number = cluster.submit(1)
    owner = cluster.job(number).machine("master").volunteer
    other = {"v1": "v2", "v2": "v1"}[owner]
    report = EndReport(Part(number, 1, "master", 1), exit_code=0)
    assert cluster.result_of(cluster.manager.ended(other, report)) is None
    assert cluster.job(number).state is JobState.RUNNING
    cluster.cancel(number)


def test_a_term_that_was_obeyed_outlives_the_volunteer_and_lower_ones_are_refused(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(1)
    cluster.restart_manager()
    cluster.hosts["v1"].crash()
    cluster.add("v1")
    service = cluster.hosts["v1"].service
    with pytest.raises(Fenced, match="term 1, but 2"):
        cluster.result_of(service.start(Part(1, 1, "master", 1)))
    hello = service.hello()
    assert hello.term == 2
    with pytest.raises(Fenced, match="another manager leads"):
        cluster.manager.welcome(attrs.evolve(hello, term=3), instead(None, name="v1"))


def test_a_manager_whose_term_is_over_is_hung_up_on(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    cluster.restart_manager()
    service = cluster.hosts["v1"].service
    before = service.hello().term
    dropped: list[bool] = []
    former: Any = instead(None, drop=lambda: dropped.append(True))
    service.welcomed(Welcome(PROTOCOL, "syndicate", before - 1, "", 1.0, 3.0), former)
    assert dropped == [True]
    assert service.hello().term == before
    # Who is obeyed is still the other one.
    number = cluster.submit(1)
    assert cluster.job(number).machine("master").volunteer == "v1"


def test_an_older_volunteer_is_told_to_be_upgraded(make_cluster: Make) -> None:
    cluster = make_cluster(1)
    hello = attrs.evolve(cluster.hosts["v1"].service.hello(), protocol=PROTOCOL - 1)
    with pytest.raises(WrongVersion, match="upgrade the volunteer"):
        cluster.manager.welcome(hello, instead(None, name="v1"))


def test_a_volunteer_says_that_the_manager_is_gone_but_not_at_its_own_stop(
    make_cluster: Make,
) -> None:
    cluster = make_cluster()

    def said(end: Callable[[], object]) -> str:
        with capturedLogs() as events:
            end()
        return "\n".join(formatEvent(event) for event in events)

    host = next(iter(cluster.hosts.values()))
    assert host.link is not None
    gone = "The manager is gone: The connection was lost. What runs goes on."
    assert gone in said(host.link.cut)
    host.start()
    cluster.settle()
    stopping: list[Deferred[None]] = []
    assert "The manager is gone" not in said(lambda: stopping.append(host.service.stopService()))
    cluster.settle()
    assert not host.link.up
    assert stopping[0].called
