"""Clients and what they do to their own job: the promises of each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from syndicate.domain.errors import (
    AlreadyRunning,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotYours,
    Revoked,
    TooMany,
    Unsupported,
)
from syndicate.domain.fault import FaultState
from syndicate.domain.job import JobState, MachineState, Outcome, Role
from syndicate.manager.site import Site
from syndicate.sandbox.memory import MemoryRun
from tests.support.cluster import ANN, STAFF, Cluster

Make = Callable[..., Cluster]


def forever(run: MemoryRun) -> None:
    """A program that does not end by itself."""
    run.print(f"start {' '.join(run.argv)}\n".encode())
    run.disk.setdefault("data", b"kept")


@pytest.fixture
def cluster(make_cluster: Make) -> Cluster:
    return make_cluster(5, forever)


def do(cluster: Cluster, number: int, kind: str, by: str = "client[0]", **arguments: Any) -> Any:
    token = arguments.pop("token", None)
    arguments = {key.rstrip("_"): value for key, value in arguments.items()}
    return cluster.result_of(cluster.handle(number, by).fault(kind, arguments, token))


def finish(cluster: Cluster, number: int, by: str = "client[0]", **result: Any) -> Any:
    return cluster.result_of(cluster.handle(number, by).finish(result))


def states(cluster: Cluster, number: int) -> dict[str, str]:
    return {f"f{f.number} {f.kind.value}": f.state.value for f in cluster.manager.ledger.of(number)}


def test_clients_start_last_and_know_whom_to_ask(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3, 2)
    job = cluster.job(number)
    assert job.state is JobState.RUNNING
    assert [m.name for m in job.machines][-2:] == ["client[0]", "client[1]"]
    kinds = [(e["kind"], e["details"].get("machine")) for e in _events(cluster, number)]
    running = [machine for kind, machine in kinds if kind == "machine-running"]
    assert running[0] == "master"
    assert set(running[-2:]) == {"client[0]", "client[1]"}
    argv = cluster.part(number, "client[1]").run.argv
    addresses = {m.name: m.address for m in job.machines}
    assert list(argv) == [
        "make",
        f"MASTER={addresses['master']}",
        f"SLAVES={addresses['slave[0]']},{addresses['slave[1]']}",
        "client",
    ]
    env = cluster.part(number, "client[1]").run.env
    assert env["SYNDICATE_SOCKET"] == "/run/syndicate/http"
    assert "SYNDICATE_SOCKET" not in cluster.part(number, "master").run.env
    cluster.cancel(number)


def _events(cluster: Cluster, number: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = cluster.result_of(cluster.manager.events(number, 0))
    return events


def test_the_job_ends_when_every_client_has_finished(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2, 2)
    finish(cluster, number, "client[0]", passed=True, score=97.5, notes="fine")
    cluster.settle()
    assert cluster.job(number).state is JobState.RUNNING
    finish(cluster, number, "client[1]")
    cluster.settle()
    job = cluster.job(number)
    assert (job.outcome, job.reason) == (Outcome.PASSED, "Every client has finished and passed.")
    assert {m.state for m in job.machines} == {MachineState.KILLED}
    assert set(cluster.states().values()) == {"free"}


@pytest.mark.parametrize("ask", ["show", "heal"])
def test_asking_for_a_fault_that_is_none_leaves_the_job_its_first_one(
    cluster: Cluster, ask: str
) -> None:
    number = cluster.submit_with_clients(2)
    handle = cluster.handle(number, "client[0]")
    asked = handle.show("f1") if ask == "show" else handle.fault("heal", {"id": "f1"}, None)
    with pytest.raises(NotFound, match="f1"):
        cluster.result_of(asked)
    assert do(cluster, number, "kill", machine="slave[0]")["id"] == "f1"
    cluster.cancel(number)


def test_refused_requests_are_not_held(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    for n in range(20):
        with pytest.raises(NotYours):
            do(cluster, number, "kill", machine=f"slave[{7 + n}]", token=f"refused {n}")
    do(cluster, number, "kill", machine="slave[0]", token="done")
    held = cluster.manager.desk._answers
    assert [token for _, _, token in held] == ["done"]
    cluster.cancel(number)


def test_a_client_that_says_it_failed_fails_the_job(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    finish(cluster, number, passed=False, notes="lost a write")
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.FAILED
    assert "lost a write" in cluster.job(number).reason


def test_a_client_that_ends_without_finish_has_not_passed(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    cluster.part(number, "client[0]").run.exit(0)
    cluster.settle()
    job = cluster.job(number)
    assert job.outcome is Outcome.FAILED
    assert "had not called finish" in job.reason


def test_the_end_of_masters_and_slaves_does_not_end_a_job_with_clients(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    cluster.part(number, "master").run.exit(0)
    cluster.part(number, "slave[0]").run.exit(3)
    cluster.settle()
    assert cluster.job(number).state is JobState.RUNNING
    finish(cluster, number)
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.PASSED


def test_the_first_of_two_finishes_counts(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2, 2)
    first = finish(cluster, number, passed=True, score=1)
    assert finish(cluster, number, passed=False) == first
    cluster.cancel(number)


def test_kill_is_answered_when_nothing_lives_and_is_written_down(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    answer = do(cluster, number, "kill", machine="slave[1]")
    assert answer["state"] == "verified"
    assert answer["requested_at"] <= answer["applied_at"] <= answer["verified_at"]
    assert not cluster.part(number, "slave[1]").runs
    assert (
        cluster.job(number).machine("slave[1]").reason == "slave[1] was killed by client[0] (f1)."
    )
    assert cluster.job(number).machine("slave[1]").state is MachineState.KILLED
    assert cluster.job(number).state is JobState.RUNNING
    again = do(cluster, number, "kill", ip=cluster.job(number).machine("slave[1]").address)
    assert again["id"] != answer["id"]
    cluster.cancel(number)


def test_what_proved_a_fault_and_what_ended_it_are_both_kept(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    proof = do(cluster, number, "kill", machine="slave[1]")["note"]
    assert proof
    do(cluster, number, "revive", machine="slave[1]")
    do(cluster, number, "kill", machine="slave[0]")
    killed, revived, another = cluster.manager.ledger.of(number)
    assert (killed.note, killed.ended) == (proof, "by f2")
    assert (revived.ended, another.ended) == ("", "")
    cluster.cancel(number)
    cluster.settle()
    assert cluster.manager.ledger.of(number)[2].ended == "with the attempt"


@pytest.mark.parametrize("with_disk", [True, False])
def test_revive_starts_again_on_the_disk_that_was_asked_for(
    cluster: Cluster, with_disk: bool
) -> None:
    number = cluster.submit_with_clients(2)
    with pytest.raises(AlreadyRunning):
        do(cluster, number, "revive", machine="slave[0]")
    cluster.part(number, "slave[0]").run.disk["data"] = b"changed"
    do(cluster, number, "kill", machine="slave[0]")
    do(cluster, number, "revive", machine="slave0", with_disk=with_disk)
    part = cluster.part(number, "slave[0]")
    cluster.settle()
    assert part.run.disk["data"] == (b"changed" if with_disk else b"kept")
    machine = cluster.job(number).machine("slave[0]")
    assert (machine.state, machine.run) == (MachineState.RUNNING, 2)
    assert states(cluster, number)["f1 kill"] == "healed"
    cluster.cancel(number)


def test_an_exit_after_a_revival_is_told_as_the_exit_of_that_run(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    do(cluster, number, "kill", machine="slave[0]")
    do(cluster, number, "revive", machine="slave[0]")
    cluster.part(number, "slave[0]").run.exit(4)
    cluster.settle()
    machine = cluster.job(number).machine("slave[0]")
    assert (machine.state, machine.exit_code) == (MachineState.EXITED, 4)
    cluster.cancel(number)


def test_a_disconnected_machine_reaches_nobody_but_clients_both_ways(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "disconnect", machine="slave[0]")
    assert cluster.blocked(number, "slave[0]") == {"master", "slave[1]"}
    assert cluster.blocked(number, "master") == {"slave[0]"}
    assert cluster.blocked(number, "client[0]") == set()
    do(cluster, number, "disconnect", machine="master")
    do(cluster, number, "reconnect", machine="slave[0]")
    assert cluster.blocked(number, "slave[0]") == {"master"}
    assert cluster.blocked(number, "slave[1]") == {"master"}
    do(cluster, number, "reconnect", machine="master")
    assert all(cluster.blocked(number, m.name) == set() for m in cluster.job(number).machines)
    assert states(cluster, number) == {
        "f1 disconnect": "healed",
        "f2 disconnect": "healed",
        "f3 reconnect": "verified",
        "f4 reconnect": "verified",
    }
    cluster.cancel(number)


def test_a_revived_machine_is_still_cut_off(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "disconnect", machine="slave[0]")
    do(cluster, number, "kill", machine="slave[0]")
    do(cluster, number, "revive", machine="slave[0]")
    assert cluster.blocked(number, "slave[0]") == {"master", "slave[1]"}
    cluster.cancel(number)


def test_a_lease_heals_a_cut_by_itself_and_is_written_down(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "disconnect", machine="slave[0]", for_="10s")
    cluster.wait(9)
    assert cluster.blocked(number, "slave[0]")
    cluster.wait(2)
    assert not cluster.blocked(number, "slave[0]")
    assert states(cluster, number)["f1 disconnect"] == "healed"
    cluster.cancel(number)


def test_a_lease_of_a_kill_revives_the_machine_and_everybody_is_told(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "kill", machine="slave[0]", for_="5s")
    cluster.wait(6)
    assert cluster.part(number, "slave[0]").runs
    machine = cluster.job(number).machine("slave[0]")
    assert (machine.state, machine.run) == (MachineState.RUNNING, 2)
    assert states(cluster, number)["f1 kill"] == "healed"
    with pytest.raises(AlreadyRunning):
        do(cluster, number, "revive", machine="slave[0]")
    cluster.cancel(number)


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_a_second_of_a_kind_takes_the_place_of_the_first_and_of_its_lease(
    cluster: Cluster, kind: str
) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, kind, machine="slave[0]", for_="5s")
    do(cluster, number, kind, machine="slave[0]")
    cluster.wait(10)
    part = cluster.part(number, "slave[0]")
    assert part.run.paused() if kind == "pause" else not part.runs
    assert states(cluster, number) == {f"f1 {kind}": "healed", f"f2 {kind}": "verified"}
    cluster.cancel(number)


def test_leases_end_even_if_the_manager_is_away(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "disconnect", machine="slave[0]", for_="5s")
    do(cluster, number, "kill", machine="slave[1]", for_="6s")
    do(cluster, number, "pause", machine="master", for_="7s")
    parts = {name: cluster.part(number, name) for name in ("slave[0]", "slave[1]", "master")}
    for host in cluster.hosts.values():
        assert host.link is not None
        host.link.cut()
    cluster.wait(8)
    guard = cluster.result_of(parts["slave[0]"]._guard.follow())
    assert guard.links.blocked == ()
    assert parts["slave[1]"].runs
    assert not parts["master"].run.paused()
    for host in cluster.hosts.values():
        host.start()
    cluster.settle()
    cluster.wait(20)
    cluster.cancel(number)


def test_pause_stops_a_machine_and_resume_lets_it_go_on(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    do(cluster, number, "pause", machine="slave[0]")
    assert cluster.part(number, "slave[0]").run.paused()
    view = cluster.result_of(cluster.handle(number).job())
    assert {m["name"]: m["up"] for m in view["machines"]}["slave[0]"] is False
    do(cluster, number, "resume", machine="slave[0]")
    assert not cluster.part(number, "slave[0]").run.paused()
    assert states(cluster, number)["f1 pause"] == "healed"
    cluster.cancel(number)


def test_partitions_have_shapes(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(4)
    do(cluster, number, "partition", groups=[["master"], ["slave[0]"]], one_way=True)
    assert cluster.blocked(number, "master") == {"slave[0]"}
    assert cluster.blocked(number, "slave[0]") == set()
    hearer = cluster.result_of(cluster.part(number, "slave[0]")._guard.follow())
    assert hearer.links.unheard == (cluster.job(number).machine("master").address,)
    do(cluster, number, "heal")
    assert hearer.links.unheard == ()
    ring = ["master", "slave[0]", "slave[1]", "slave[2]"]
    do(cluster, number, "partition", shape="ring", groups=[ring])
    assert cluster.blocked(number, "slave[0]") == {"slave[2]"}
    do(cluster, number, "heal", id="f2")
    cluster.cancel(number)


def test_heal_ends_everything(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "kill", machine="slave[0]")
    do(cluster, number, "disconnect", machine="slave[1]")
    do(cluster, number, "pause", machine="master")
    do(cluster, number, "loss", machine="master", percent=30)
    healed = do(cluster, number, "heal")["healed"]
    assert len(healed) == 4
    assert cluster.manager.ledger.in_force(cluster.job(number)) == []
    assert cluster.part(number, "slave[0]").runs
    cluster.cancel(number)


@pytest.mark.parametrize("name", ["10.9.9.9", "slave[7]", "v1", "", None, 3, "10.0.0.99"])
def test_what_is_not_the_clients_own_is_refused_with_the_same_answer(
    cluster: Cluster, name: Any
) -> None:
    number = cluster.submit_with_clients(2)
    with pytest.raises((NotYours, Invalid)) as caught:
        do(cluster, number, "kill", machine=name)
    if isinstance(name, str):
        assert str(caught.value) == (
            f"No machine of this job is called {name!r}; there are: master, slave[0], client[0]."
        )
    assert cluster.manager.ledger.of(number) == []
    cluster.cancel(number)


def test_the_address_of_another_job_is_not_yours(cluster: Cluster) -> None:
    first = cluster.submit_with_clients(1)
    second = cluster.submit_with_clients(1)
    other = cluster.job(second).machine("master").address
    with pytest.raises(NotYours):
        do(cluster, first, "kill", ip=other)
    assert cluster.part(second, "master").runs
    for number in (first, second):
        cluster.cancel(number)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("kil", {"machine": "master"}),
        ("kill", {}),
        ("kill", {"machine": "master", "fro": "10s"}),
        ("kill", {"machine": "master", "for": "soon"}),
        ("kill", {"machine": "master", "for": -1}),
        ("revive", {"machine": "master", "with_disk": "no"}),
        ("loss", {"machine": "master"}),
        ("loss", {"machine": "master", "percent": 101}),
        ("loss", {"machine": "master", "percent": True}),
        ("partition", {"groups": "master"}),
        ("partition", {"groups": [["master"]]}),
        ("partition", {"groups": [["master"], ["master"]]}),
        ("partition", {"shape": "star", "groups": [["master"], ["slave[0]"]]}),
    ],
)
def test_a_request_with_a_mistake_does_nothing(
    cluster: Cluster, kind: str, arguments: dict[str, Any]
) -> None:
    number = cluster.submit_with_clients(2)
    with pytest.raises(Invalid):
        cluster.result_of(cluster.handle(number).fault(kind, arguments, None))
    assert cluster.manager.ledger.of(number) == []
    cluster.cancel(number)


def test_a_handle_dies_with_finish_with_the_attempt_and_when_it_is_revoked(
    cluster: Cluster,
) -> None:
    number = cluster.submit_with_clients(2, 2)
    finish(cluster, number, "client[1]")
    with pytest.raises(Revoked):
        do(cluster, number, "kill", by="client[1]", machine="master")
    with pytest.raises(Forbidden):
        cluster.result_of(cluster.manager.revoke(ANN, number, "client[0]"))
    cluster.result_of(cluster.manager.revoke(STAFF, number, "client[0]"))
    with pytest.raises(Revoked):
        do(cluster, number, "kill", machine="master")
    handle = cluster.handle(number)
    cluster.cancel(number)
    with pytest.raises(Revoked):
        cluster.result_of(handle.fault("kill", {"machine": "master"}, None))


def test_the_same_request_again_is_the_same_fault(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    first = do(cluster, number, "kill", machine="slave[0]", token="once")
    assert do(cluster, number, "kill", machine="slave[0]", token="once") == first
    assert len(cluster.manager.ledger.of(number)) == 1
    cluster.cancel(number)


def test_the_end_heals_what_is_in_force_before_the_verdict_is_told(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "disconnect", machine="slave[0]")
    do(cluster, number, "kill", machine="slave[1]")
    do(cluster, number, "pause", machine="master")
    finish(cluster, number)
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.PASSED
    assert set(states(cluster, number).values()) == {"healed"}
    events = _events(cluster, number)
    assert events[-1]["kind"] == "finished"
    assert set(cluster.states().values()) == {"free"}


def test_staff_do_the_same_by_hand_and_users_do_not(cluster: Cluster) -> None:
    number = cluster.submit(2)
    with pytest.raises(Forbidden):
        cluster.result_of(cluster.manager.fault(ANN, number, "kill", {"machine": "master"}, None))
    answer = cluster.result_of(
        cluster.manager.fault(STAFF, number, "disconnect", {"machine": "master"}, None)
    )
    assert (answer["by"], answer["state"]) == ("staff", "verified")
    assert cluster.blocked(number, "slave[0]") == {"master"}
    cluster.cancel(number)


def test_a_lost_volunteer_leaves_its_faults_unknown_and_the_job_is_queued_again(
    cluster: Cluster,
) -> None:
    number = cluster.submit_with_clients(2)
    do(cluster, number, "disconnect", machine="slave[0]")
    victim = cluster.job(number).machine("slave[0]").volunteer
    cluster.hosts[victim].crash()
    cluster.wait(31)
    job = cluster.job(number)
    assert job.attempt == 2
    (fault,) = cluster.manager.ledger.of(number)
    assert fault.state is FaultState.UNKNOWN
    assert "away" in fault.note
    cluster.cancel(number)


def test_a_fault_that_the_hosts_cannot_do_is_refused_with_the_reason(make_cluster: Make) -> None:
    cluster = make_cluster(0, forever)
    cluster.add("v1", "v2", "v3", faults=(), unsupported=(("delay", "no NFQUEUE here"),))
    number = cluster.submit_with_clients(2)
    with pytest.raises(Unsupported, match="no NFQUEUE here"):
        do(cluster, number, "delay", machine="master", delay="50ms")
    view = cluster.result_of(cluster.handle(number).job())
    assert "delay" not in view["supported"]
    assert view["unsupported"] == {"delay": "no NFQUEUE here"}
    cluster.cancel(number)


def test_many_calls_at_once_are_all_answered_rightly(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(4)
    handle = cluster.handle(number)
    names = ["master", "slave[0]", "slave[1]", "slave[2]"]
    answers: list[Any] = []
    for n in range(48):
        kind = ("kill", "disconnect", "reconnect")[n % 3]
        handle.fault(kind, {"machine": names[n % 4]}, None).addBoth(answers.append)
    cluster.settle(400)
    assert len(answers) == 48
    assert all(answer["state"] == "verified" for answer in answers)
    assert len({answer["id"] for answer in answers}) == 48
    cluster.cancel(number)


def test_marks_and_samples_are_kept(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    handle = cluster.handle(number)
    assert cluster.result_of(handle.mark("phase 2"))["marked"] == "phase 2"
    line = b'{"t": 1.5, "op": "put", "ms": 2.0, "ok": true}\n'
    assert cluster.result_of(handle.samples(line * 3)) == {"accepted": 3}
    with pytest.raises(Invalid, match="no sample"):
        cluster.result_of(handle.samples(line + b'{"t": "x"}\n'))
    finish(cluster, number)
    cluster.settle()
    assert "mark" in cluster.kinds(number)
    assert line * 3 in cluster.logs.read(number, 1, "client[0]", 0, 1 << 20)


def test_a_client_may_kill_itself(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2, 2)
    do(cluster, number, "kill", machine="client[0]")
    assert cluster.job(number).machine("client[0]").state is MachineState.KILLED
    assert cluster.job(number).state is JobState.RUNNING
    finish(cluster, number, "client[1]")
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.FAILED


def test_faults_are_refused_before_and_after_the_run(make_cluster: Make) -> None:
    cluster = make_cluster(0)
    number = cluster.submit(1)
    with pytest.raises(Conflict):
        cluster.result_of(cluster.manager.fault(STAFF, number, "kill", {"machine": "x"}, None))
    cluster.cancel(number)


def test_the_sites_client_goes_with_every_job(make_cluster: Make) -> None:
    import hashlib

    import attrs

    from tests.support.cluster import put

    cluster = make_cluster(4, forever)
    data = b"the site's client"
    cluster.result_of(put(cluster.blobs, data))
    sha256 = hashlib.sha256(data).hexdigest()
    cluster.manager.site = attrs.evolve(
        cluster.manager.site, client_sha256=sha256, client_size=len(data), clients_per_job=2
    )
    number = cluster.submit(2)
    clients = [m for m in cluster.job(number).machines if m.role is Role.CLIENT]
    assert len(clients) == 2
    assert cluster.part(number, "client[1]").order.sha256 == sha256
    cluster.cancel(number)
    none = cluster.submit(2, clients=0)
    assert len(cluster.job(none).machines) == 2
    cluster.cancel(none)


def test_one_job_cannot_fill_the_managers_memory_with_faults(make_cluster: Make) -> None:
    cluster = make_cluster(8, forever, site=Site(faults_per_job=3))
    number, other = cluster.submit_with_clients(2, 1), cluster.submit_with_clients(2, 1)
    for kind in ("kill", "revive"):
        do(cluster, number, kind, machine="slave[0]")
    do(cluster, number, "disconnect", machine="slave[0]", token="once")
    with pytest.raises(TooMany, match="has had 3 faults"):
        do(cluster, number, "kill", machine="slave[0]")
    assert do(cluster, number, "disconnect", machine="slave[0]", token="once")["id"] == "f3"
    assert states(cluster, number)["f3 disconnect"] == "verified"
    assert len(cluster.manager.ledger.of(number)) == 3
    assert do(cluster, other, "kill", machine="slave[0]")["id"] == "f1"
    assert cluster.job(number).state is JobState.RUNNING
