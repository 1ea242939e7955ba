"""A fault that is not seen to be in force is not answered as if it were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from syndicate.domain.errors import Revoked, SandboxFailed
from syndicate.domain.fault import FaultState
from syndicate.domain.job import Role
from syndicate.sandbox.memory import MemoryEnclosure, MemoryRun
from syndicate.wire.interface import Ask, Part
from tests.support.cluster import Cluster

Make = Callable[..., Cluster]


def forever(run: MemoryRun) -> None:
    """A program that does not end by itself."""
    run.disk["data"] = b"written"


@pytest.fixture
def cluster(make_cluster: Make) -> Cluster:
    return make_cluster(4, forever)


def do(cluster: Cluster, number: int, kind: str, **arguments: Any) -> Any:
    body = {"machine": "slave[0]", **arguments}
    return cluster.result_of(cluster.handle(number).fault(kind, body, None))


def last(cluster: Cluster, number: int) -> FaultState:
    return cluster.manager.ledger.of(number)[-1].state


def test_a_process_that_lives_on_after_a_kill_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = cluster.submit_with_clients(3)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryRun, "processes", lambda self: [4711])
        with pytest.raises(SandboxFailed, match=r"live on after the kill: \[4711\]"):
            do(cluster, number, "kill")
    assert last(cluster, number) is FaultState.FAILED
    cluster.cancel(number)


def test_a_machine_that_does_not_stand_still_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = cluster.submit_with_clients(3)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryRun, "paused", lambda self: False)
        with pytest.raises(SandboxFailed, match="not every process stands still"):
            do(cluster, number, "pause")
    assert last(cluster, number) is FaultState.FAILED
    cluster.cancel(number)


def test_a_machine_that_still_stands_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "pause")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryRun, "paused", lambda self: True)
        with pytest.raises(SandboxFailed, match="still stand"):
            do(cluster, number, "resume")
    assert last(cluster, number) is FaultState.FAILED
    cluster.cancel(number)


def test_files_on_a_disk_that_was_to_be_empty_are_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: MemoryEnclosure) -> Deferred[None]:
        return succeed(None)

    number = cluster.submit_with_clients(3)
    do(cluster, number, "kill")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryEnclosure, "wipe", nothing)
        with pytest.raises(SandboxFailed, match="1 files are on the disk"):
            do(cluster, number, "revive", with_disk=False)
    assert last(cluster, number) is FaultState.FAILED
    assert not cluster.part(number, "slave[0]").runs
    cluster.cancel(number)


def test_a_machine_that_was_revived_and_has_no_process_is_told(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "kill")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryRun, "processes", lambda self: [])
        with pytest.raises(SandboxFailed, match="lists no process"):
            do(cluster, number, "revive")
    assert last(cluster, number) is FaultState.FAILED
    cluster.cancel(number)


def test_who_holds_a_master_or_a_slave_is_no_client_of_its_job(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    job, kinds = cluster.job(number), cluster.kinds(number)
    body = {"kind": "kill", "arguments": {"machine": "master"}, "name": "x"}
    for machine in job.machines:
        if machine.role is Role.CLIENT:
            continue
        assert machine.volunteer is not None
        for verb in ("job", "fault", "finish", "mark", "events", "faults", "show"):
            ask = Ask(Part(number, job.attempt, machine.name, 1), verb, body)
            with pytest.raises(Revoked):
                cluster.result_of(
                    Deferred.fromCoroutine(cluster.manager.handles.ask(machine.volunteer, ask))
                )
    assert (cluster.job(number), cluster.kinds(number)) == (job, kinds)
    cluster.cancel(number)
