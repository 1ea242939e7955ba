"""Faults go on, and are asked for, across the death of the manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from syndicate.domain.errors import NotFound, Unavailable, Unknown
from syndicate.domain.fault import FaultState, Kind
from syndicate.domain.job import JobState, MachineState, Outcome
from syndicate.manager.aftermath import STILL_WANTED
from syndicate.sandbox.memory import MemoryRun
from syndicate.volunteer.asking import ABSENCE
from tests.service.test_restart import Death
from tests.support.cluster import Cluster

Make = Callable[..., Cluster]


def forever(run: MemoryRun) -> None:
    """A program that does not end by itself."""


@pytest.fixture
def cluster(make_cluster: Make) -> Cluster:
    return make_cluster(4, forever)


class Calling:
    """A call of a client, under way."""

    def __init__(self, doing: Deferred[Any]) -> None:
        self.answer: Any = None
        doing.addBoth(self._answered)

    def _answered(self, answer: Any) -> None:
        self.answer = answer

    @property
    def done(self) -> bool:
        return self.answer is not None

    @property
    def error(self) -> Any:
        assert isinstance(self.answer, Failure), self.answer
        return self.answer.value


def asks(cluster: Cluster, number: int, kind: str, key: str | None = None, **body: Any) -> Calling:
    return Calling(cluster.handle(number).fault(kind, body, key))


def did(cluster: Cluster, number: int, kind: str, **body: Any) -> dict[str, Any]:
    fault = cluster.result_of(cluster.handle(number).fault(kind, body, None))
    assert isinstance(fault, dict)
    return fault


def test_a_cut_stays_in_force_and_is_lifted_by_the_next_manager(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    did(cluster, number, "disconnect", machine="slave[0]")
    cluster.restart_manager()
    assert cluster.blocked(number, "slave[0]") == {"master", "slave[1]"}
    assert [f.state for f in cluster.manager.ledger.of(number)] == [FaultState.VERIFIED]
    second = did(cluster, number, "disconnect", machine="slave[1]")
    assert second["id"] == "f2"
    assert cluster.blocked(number, "master") == {"slave[0]", "slave[1]"}
    did(cluster, number, "reconnect", machine="slave[0]")
    assert cluster.blocked(number, "slave[0]") == {"slave[1]"}
    cluster.result_of(cluster.handle(number).finish({}))
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.PASSED
    assert all(not fault.in_force for fault in cluster.manager.ledger.of(number))


#: What a client does, one after another, and what the machines are like in the end.
SCRIPT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("kill", {"machine": "slave[0]"}),
    ("disconnect", {"machine": "slave[1]"}),
    ("revive", {"machine": "slave[0]"}),
    ("pause", {"machine": "slave[0]"}),
    ("heal", {"id": "f2"}),
    ("resume", {"machine": "slave[0]"}),
    ("partition", {"groups": [["master"], ["slave[0]"]]}),
    ("kill", {"machine": "slave[1]"}),
)


class Stage:
    """A cluster whose manager dies once, and another one comes after a second."""

    def __init__(self, make_cluster: Make, death: Death) -> None:
        self.death = death
        self.cluster = make_cluster(4, forever, writing=death.before)
        self.number = self.cluster.submit_with_clients(3)
        self.survived = False

    def goes_on(self) -> None:
        self.cluster.wait(0.2)
        if self.death.came and not self.survived:
            self.survived = True
            self.cluster.wait(1)
            self.cluster.writing = lambda store: store
            self.cluster.restart_manager()

    def until(self, there: Callable[[], Any]) -> Any:
        for _ in range(200):
            if found := there():
                return found
            self.goes_on()
        raise AssertionError("it does not come")

    def answer(self, call: Calling) -> Any:
        answer = self.until(lambda: call.answer)
        assert isinstance(answer, dict), answer
        return answer


def plays(make_cluster: Make, death: Death) -> Death:
    """Client and job go on as if nothing was, whenever the manager dies."""
    stage = Stage(make_cluster, death)
    cluster, number = stage.cluster, stage.number
    stage.until(lambda: cluster.job(number).machine("client[0]").state is MachineState.RUNNING)
    for kind, body in SCRIPT:
        answer = stage.answer(asks(cluster, number, kind, **body))
        assert kind == "heal" or answer["state"] == "verified"
    stage.goes_on()
    faults = cluster.manager.ledger.of(number)
    assert [fault.kind.value for fault in faults] == [kind for kind, _ in SCRIPT]
    job = cluster.job(number)
    assert (job.state, job.attempt) == (JobState.RUNNING, 1)
    assert [(m.name, m.state, m.run) for m in job.machines[:3]] == [
        ("master", MachineState.RUNNING, 1),
        ("slave[0]", MachineState.RUNNING, 2),
        ("slave[1]", MachineState.KILLED, 1),
    ]
    assert [fault.number for fault in cluster.manager.ledger.in_force(job)] == [7, 8]
    assert cluster.blocked(number, "master") == {"slave[0]"}
    finishing = Calling(cluster.handle(number).finish({"passed": True}))
    assert stage.answer(finishing)["passed"]
    stage.until(lambda: cluster.job(number).outcome)
    stage.goes_on()
    assert (cluster.job(number).outcome, cluster.job(number).attempt) == (Outcome.PASSED, 1)
    assert all(not fault.in_force for fault in cluster.manager.ledger.of(number))
    stage.until(lambda: set(cluster.states().values()) == {"free"})
    return death


@pytest.mark.deadline(60)
@pytest.mark.parametrize("stored", [False, True], ids=["unwritten", "written"])
def test_every_call_is_answered_once_whenever_the_manager_dies(
    make_cluster: Make, stored: bool
) -> None:
    last = plays(make_cluster, Death(0, stored)).count
    assert last > 2 * len(SCRIPT)
    for at in range(2, last + 1):
        assert plays(make_cluster, Death(at, stored)).came


def test_leases_that_end_while_the_manager_is_away_are_settled_when_it_is_back(
    cluster: Cluster,
) -> None:
    number = cluster.submit_with_clients(3)
    did(cluster, number, "disconnect", machine="slave[0]", **{"for": "4s"})
    did(cluster, number, "pause", machine="master", **{"for": "4s"})
    did(cluster, number, "disconnect", machine="slave[1]", **{"for": "60s"})
    part = cluster.part(number, "slave[0]")
    cluster.kill_manager()
    cluster.wait(5)
    links = cluster.result_of(part._guard.follow()).links
    assert len(links.blocked) == 1  # Healed by the volunteer itself; the longer one is not.
    cluster.restart_manager()
    cluster.wait(1)
    states = {f.number: f.state for f in cluster.manager.ledger.of(number) if f.lasting}
    assert states == {1: FaultState.HEALED, 2: FaultState.HEALED, 3: FaultState.VERIFIED}
    assert not cluster.part(number, "master").run.paused()
    cluster.wait(60)
    assert not cluster.manager.ledger.in_force(cluster.job(number))
    assert not cluster.blocked(number, "slave[0]")
    cluster.cancel(number)


def test_a_key_names_the_same_fault_for_the_next_manager(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    first = asks(cluster, number, "kill", "key", machine="slave[0]")
    cluster.settle()
    cluster.restart_manager()
    again = asks(cluster, number, "kill", "key", machine="slave[0]")
    cluster.settle()
    assert again.answer["id"] == first.answer["id"] == "f1"
    assert len(cluster.manager.ledger.of(number)) == 1
    # A refusal that is in the ledger is the same refusal.
    refused = asks(cluster, number, "pause", "other", machine="slave[0]")
    cluster.settle()
    cluster.restart_manager()
    once_more = asks(cluster, number, "pause", "other", machine="slave[0]")
    cluster.settle()
    assert once_more.error.code == refused.error.code == "conflict"
    cluster.cancel(number)


def test_a_call_that_meets_no_manager_waits_for_the_next_one(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    handle = cluster.handle(number)
    cluster.kill_manager()
    calls = [
        Calling(handle.mark("phase 2")),
        Calling(handle.fault("kill", {"machine": "slave[0]"}, None)),
        Calling(handle.faults()),
    ]
    cluster.wait(40)
    assert not any(call.done for call in calls)
    cluster.restart_manager()
    cluster.wait(2)
    assert calls[0].answer["marked"] == "phase 2"
    assert calls[1].answer["state"] == "verified"
    assert "faults" in calls[2].answer
    cluster.kill_manager()
    finishing = Calling(handle.finish({"passed": True}))
    cluster.wait(40)
    assert not finishing.done
    cluster.restart_manager()
    cluster.wait(2)
    assert finishing.answer["passed"]
    assert (cluster.job(number).outcome, cluster.job(number).attempt) == (Outcome.PASSED, 1)


def test_no_call_waits_for_ever_and_an_unknown_one_can_be_asked_about(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    handle = cluster.handle(number)
    client = cluster.hosts[cluster.job(number).machine("client[0]").volunteer]
    assert client.link is not None
    client.link.hung = True
    killing = Calling(handle.fault("kill", {"machine": "slave[0]"}, "key"))
    marking = Calling(handle.mark("now"))
    cluster.settle()
    cluster.kill_manager()
    late = Calling(handle.fault("kill", {"machine": "master"}, None))
    cluster.wait(ABSENCE + 2)
    assert isinstance(killing.error, Unknown)
    assert killing.error.details == {"fault": "key"}
    assert isinstance(marking.error, Unknown)
    # What no manager has heard of was surely not done.
    assert isinstance(late.error, Unavailable)
    cluster.restart_manager()
    cluster.settle()
    with pytest.raises(NotFound):
        cluster.result_of(cluster.handle(number).show("key"))
    did(cluster, number, "disconnect", machine="slave[0]")
    assert cluster.result_of(cluster.handle(number).show("f1"))["state"] == "verified"
    cluster.cancel(number)


def test_a_mark_whose_answer_was_lost_is_made_once(make_cluster: Make) -> None:
    death = Death(0, stored=True)
    cluster = make_cluster(3, forever, writing=death.before)
    number = cluster.submit_with_clients(2)
    death.at = death.count + 1
    marking = Calling(cluster.handle(number).mark("phase 2"))
    cluster.wait(1)
    assert not marking.done
    cluster.writing = lambda store: store
    cluster.restart_manager()
    cluster.wait(1)
    assert marking.answer["marked"] == "phase 2"
    assert cluster.kinds(number).count("mark") == 1
    cluster.cancel(number)


@pytest.mark.parametrize("away", ["volunteer", "manager"])
def test_a_fault_that_cannot_be_found_out_about_is_unknown(make_cluster: Make, away: str) -> None:
    death = Death(0, stored=True)
    cluster = make_cluster(4, forever, writing=death.before)
    number = cluster.submit_with_clients(3)
    death.at = death.count + 1  # The fault is written down, and no order goes out.
    handle = cluster.handle(number)
    killing = Calling(handle.fault("kill", {"machine": "slave[0]"}, "key"))
    cluster.settle()
    victim = cluster.hosts[cluster.job(number).machine("slave[0]").volunteer]
    cluster.kill_manager()
    if away == "volunteer":
        victim.crash()
    else:
        cluster.wait(STILL_WANTED + 1)
        assert killing.error.details == {"fault": "key"}
    cluster.writing = lambda store: store
    cluster.restart_manager()
    cluster.wait(40 if away == "volunteer" else 1)
    (fault,) = cluster.manager.ledger.of(number)
    assert (fault.kind, fault.state) == (Kind.KILL, FaultState.UNKNOWN)
    if away == "manager":
        assert cluster.result_of(cluster.handle(number).show("key"))["state"] == "unknown"
        assert cluster.job(number).machine("slave[0]").state is MachineState.RUNNING
        again = asks(cluster, number, "kill", "key", machine="slave[0]")
        cluster.settle()
        assert again.error.details == {"fault": "f1"}
    cluster.cancel(number)


def test_a_lease_revives_what_was_killed_though_the_end_cannot_be_told(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    part = cluster.part(number, "slave[0]")
    did(cluster, number, "kill", machine="slave[0]", **{"for": "4s"})
    part.run.print(b"not any more\n")
    did(cluster, number, "revive", machine="slave[0]")
    for host in cluster.hosts.values():
        host.transfer.error = Unavailable("No manager.")
    part.run.print(b"the last words\n")
    did(cluster, number, "kill", machine="slave[0]", **{"for": "4s"})
    cluster.kill_manager()
    cluster.wait(5)
    assert (part.runs, part.count) == (True, 3)
    for host in cluster.hosts.values():
        host.transfer.error = None
    cluster.restart_manager()
    cluster.wait(3)
    machine = cluster.job(number).machine("slave[0]")
    assert (machine.state, machine.run) == (MachineState.RUNNING, 3)
    assert not cluster.manager.ledger.in_force(cluster.job(number))
    assert cluster.logs.length(number, 1, "slave[0]") > len(b"the last words\n")
    cluster.cancel(number)
    assert cluster.job(number).attempt == 1
