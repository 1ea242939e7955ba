"""Faults go on, and are asked for, across the death of the manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from syndicate.domain.fault import FaultState
from syndicate.domain.job import JobState, MachineState, Outcome
from syndicate.sandbox.memory import MemoryRun
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
    def error(self) -> Any:
        assert isinstance(self.answer, Failure), self.answer
        return self.answer.value


def asks(cluster: Cluster, number: int, kind: str, key: str | None = None, **body: Any) -> Calling:
    return Calling(cluster.handle(number).fault(kind, body, key))


def did(cluster: Cluster, number: int, kind: str, **body: Any) -> dict[str, Any]:
    fault = cluster.result_of(cluster.handle(number).fault(kind, body, None))
    assert isinstance(fault, dict)
    return fault


def manager_dies(cluster: Cluster) -> None:
    for host in cluster.hosts.values():
        assert host.link is not None
        host.link.cut()


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
