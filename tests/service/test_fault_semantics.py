"""What a fault call means at the edges: machines that do not run yet, the end of a job, handles
that are no longer good, and hosts that cannot be healed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail

from syndicate.domain.errors import Conflict, Invalid, NotClean, NotYours, Revoked, Timeout
from syndicate.domain.fault import Fault, FaultState, Kind
from syndicate.domain.job import JobState, Limits, MachineState, Outcome
from syndicate.sandbox.interface import IEnclosure, Plot
from syndicate.sandbox.memory import MemoryRun
from syndicate.wire.pb.values import pack
from tests.support.cluster import STAFF, Cluster, instead

Make = Callable[..., Cluster]


def forever(run: MemoryRun) -> None:
    """A program that does not end by itself."""


@pytest.fixture
def cluster(make_cluster: Make) -> Cluster:
    return make_cluster(5, forever)


def do(cluster: Cluster, number: int, kind: str, by: str = "client[0]", **arguments: Any) -> Any:
    arguments = {key.rstrip("_"): value for key, value in arguments.items()}
    return cluster.result_of(cluster.handle(number, by).fault(kind, arguments, None))


def by_staff(cluster: Cluster, number: int, kind: str, **arguments: Any) -> list[Any]:
    """What a member of staff is answered, once it is."""
    outcome: list[Any] = []
    asked = cluster.manager.fault(STAFF, number, kind, arguments, None)
    Deferred.fromCoroutine(asked).addBoth(outcome.append)
    cluster.settle()
    return outcome


def states(cluster: Cluster, number: int) -> dict[str, str]:
    return {f"f{f.number} {f.kind.value}": f.state.value for f in cluster.manager.ledger.of(number)}


# A machine that is still being started.


@attrs.define(eq=False)
class SlowStarts:
    """Holds the start of each slave back until it is let go, and counts what was started."""

    runs: list[MemoryRun] = attrs.field(factory=list)
    held: list[Deferred[None]] = attrs.field(factory=list)

    def behave(self, run: MemoryRun) -> None:
        if run.argv[-1] == "slave":
            self.runs.append(run)

    def slow_down(self, cluster: Cluster) -> None:
        for host in cluster.hosts.values():
            inner = host.service._sandbox

            def prepare(plot: Plot, inner: Any = inner) -> Deferred[IEnclosure]:
                return inner.prepare(plot).addCallback(self._slowed)  # type: ignore[no-any-return]

            host.service._sandbox = instead(inner, prepare=prepare)

    def _slowed(self, enclosure: Any) -> Any:
        def start(argv: Any, *more: Any) -> Any:
            if argv[-1] != "slave":
                return enclosure.start(argv, *more)
            held: Deferred[None] = Deferred()
            self.held.append(held)
            return held.addCallback(lambda _: enclosure.start(argv, *more))

        return instead(enclosure, start=start)

    def let_go(self, cluster: Cluster) -> None:
        held, self.held = self.held, []
        for one in held:
            one.callback(None)
        cluster.settle()


@pytest.fixture
def slow() -> SlowStarts:
    return SlowStarts()


@pytest.fixture
def starting(make_cluster: Make, slow: SlowStarts) -> tuple[Cluster, int]:
    """A job whose slave is told to start, and has not yet."""
    cluster = make_cluster(2, slow.behave)
    slow.slow_down(cluster)
    number = cluster.submit(2)
    assert cluster.job(number).state is JobState.RUNNING
    assert cluster.job(number).machine("slave[0]").state is MachineState.READY
    assert len(slow.held) == 1
    return cluster, number


def test_a_kill_of_a_machine_that_is_being_started_waits_for_its_start(
    starting: tuple[Cluster, int], slow: SlowStarts
) -> None:
    cluster, number = starting
    answers = by_staff(cluster, number, "kill", machine="slave[0]")
    cluster.wait(5)
    assert answers == []
    assert states(cluster, number) == {}
    slow.let_go(cluster)
    assert answers[0]["state"] == "verified"
    assert cluster.job(number).machine("slave[0]").state is MachineState.KILLED
    # It is dead, and nothing starts it after the kill.
    cluster.wait(90)
    assert (len(slow.runs), len(slow.held), slow.runs[0].running) == (1, 0, False)
    cluster.cancel(number)


def test_a_revival_of_a_machine_that_is_being_started_makes_no_second_copy(
    starting: tuple[Cluster, int], slow: SlowStarts
) -> None:
    cluster, number = starting
    revived = by_staff(cluster, number, "revive", machine="slave[0]")
    killed = by_staff(cluster, number, "kill", machine="slave[0]")
    again = by_staff(cluster, number, "revive", machine="slave[0]")
    assert revived == killed == again == []
    slow.let_go(cluster)
    assert revived[0].value.code == "already_running"
    assert killed[0]["state"] == "verified"
    # The second revival is a start, too, and as slow.
    assert again == []
    assert [run.running for run in slow.runs] == [False]
    slow.let_go(cluster)
    assert again[0]["state"] == "verified"
    assert [run.running for run in slow.runs] == [False, True]
    cluster.cancel(number)
    assert [run.running for run in slow.runs] == [False, False]


def test_a_call_on_a_machine_whose_start_does_not_come_is_answered_in_the_end(
    starting: tuple[Cluster, int], slow: SlowStarts
) -> None:
    cluster, number = starting
    answers = by_staff(cluster, number, "kill", machine="slave[0]")
    cluster.wait(65)
    assert isinstance(answers[0].value, (Conflict, Timeout))
    assert states(cluster, number) == {}
    slow.let_go(cluster)
    cluster.cancel(number)
    cluster.wait(70)


# The end of a job.


def test_the_wall_limit_ends_a_job_with_clients_and_all_that_was_done_to_it(
    cluster: Cluster,
) -> None:
    number = cluster.submit_with_clients(4, limits=Limits(wall=20.0))
    handle = cluster.handle(number)
    do(cluster, number, "kill", machine="slave[0]")
    do(cluster, number, "pause", machine="slave[1]")
    do(cluster, number, "disconnect", machine="slave[2]", for_="1h")
    cluster.wait(19)
    assert cluster.job(number).state is JobState.RUNNING
    cluster.wait(3)
    job = cluster.job(number)
    assert (job.state, job.outcome, job.limit) == (
        JobState.FINISHED,
        Outcome.TIMED_OUT,
        "wall",
    )
    assert {m.state for m in job.machines} == {MachineState.KILLED}
    assert set(states(cluster, number).values()) == {"healed"}
    assert set(cluster.states().values()) == {"free"}
    with pytest.raises(Revoked):
        cluster.result_of(handle.fault("kill", {"machine": "master"}, None))


def test_what_a_client_said_before_the_wall_limit_is_kept_and_does_not_pass_the_job(
    cluster: Cluster,
) -> None:
    number = cluster.submit_with_clients(2, 2, limits=Limits(wall=20.0))
    cluster.result_of(cluster.handle(number).finish({"passed": True, "score": 9}))
    cluster.wait(25)
    job = cluster.job(number)
    assert job.outcome is Outcome.TIMED_OUT
    results = [m.result and m.result.score for m in job.machines if m.name.startswith("client")]
    assert results == [9.0, None]


def break_healing(cluster: Cluster, number: int, machine: str, destroy: Any) -> str:
    """Let a machine not be removed; gives the name of its volunteer."""
    part = cluster.part(number, machine)
    part._enclosure = instead(part._enclosure, destroy=destroy)
    return cluster.job(number).machine(machine).volunteer


def test_what_could_not_be_healed_is_named_and_the_verdict_is_kept(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "pause", machine="slave[0]")
    do(cluster, number, "kill", machine="slave[1]")
    dirty = break_healing(
        cluster, number, "slave[0]", lambda: fail(NotClean("A process does not die."))
    )
    cluster.result_of(cluster.handle(number).finish({"passed": True}))
    cluster.settle()
    assert cluster.job(number).outcome is Outcome.PASSED
    assert states(cluster, number) == {"f1 pause": "unknown", "f2 kill": "healed"}
    assert "A process does not die." in cluster.manager.ledger.get(number, 1).note
    left = cluster.states()
    assert left.pop(dirty) in ("unclean", "quarantined")
    assert set(left.values()) == {"free"}
    # It gets no job, however many wait.
    other = cluster.submit(5)
    cluster.wait(1)
    assert cluster.job(other).state is JobState.QUEUED
    cluster.cancel(other)


def test_the_end_waits_for_the_last_machine_but_not_for_ever(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, "disconnect", machine="slave[0]")
    do(cluster, number, "kill", machine="slave[1]")
    never: Deferred[None] = Deferred()
    silent = break_healing(cluster, number, "slave[0]", lambda: never)
    cluster.hosts[silent].dials = False
    cluster.result_of(cluster.handle(number).finish({"passed": True}))
    cluster.wait(30)
    assert cluster.job(number).state is JobState.FINISHING
    assert states(cluster, number) == {"f1 disconnect": "verified", "f2 kill": "healed"}
    cluster.wait(90)
    job = cluster.job(number)
    assert (job.state, job.outcome) == (JobState.FINISHED, Outcome.PASSED)
    assert states(cluster, number) == {"f1 disconnect": "unknown", "f2 kill": "healed"}
    assert silent in cluster.manager.ledger.get(number, 1).note
    assert cluster.states()[silent] == "gone"
    never.callback(None)


# Handles.


def test_a_handle_is_good_for_its_own_attempt_only(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    handle = cluster.handle(number)
    victim = cluster.job(number).machine("slave[0]").volunteer
    cluster.hosts[victim].crash()
    cluster.wait(31)
    assert cluster.job(number).attempt == 2
    for call in (
        lambda: handle.job(),
        lambda: handle.fault("kill", {"machine": "master"}, None),
        lambda: handle.finish({"passed": True}),
        lambda: handle.mark("x"),
        lambda: handle.faults(),
    ):
        with pytest.raises(Revoked):
            cluster.result_of(call())
    assert cluster.job(number).machine("client[0]").result is None
    assert do(cluster, number, "kill", machine="slave[0]")["attempt"] == 2
    cluster.cancel(number)


def test_the_first_of_two_finishes_that_are_made_at_once_counts(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    handle = cluster.handle(number)
    answers: list[Any] = []
    for passed, score in ((False, 1), (True, 100)):
        handle.finish({"passed": passed, "score": score}).addBoth(answers.append)
    cluster.settle()
    assert [(a["passed"], a["score"]) for a in answers] == [(False, 1.0)] * 2
    assert cluster.job(number).outcome is Outcome.FAILED


def test_an_address_elsewhere_and_one_that_nobody_has_are_the_same_refusal(
    cluster: Cluster,
) -> None:
    first, second = cluster.submit_with_clients(1), cluster.submit_with_clients(1)
    master = cluster.job(second).machine("master")
    elsewhere = master.address
    refusals = []
    for name in (elsewhere, "10.0.0.99", master.volunteer, "nobody"):
        for kind, more in (
            ("kill", {"ip": name}),
            ("disconnect", {"machine": name}),
            ("partition", {"groups": [["master"], [name]]}),
        ):
            with pytest.raises(NotYours) as caught:
                do(cluster, first, kind, **more)
            told = caught.value
            refusals.append((told.code, told.message.replace(name, "X"), dict(told.details)))
    assert len({repr(refusal) for refusal in refusals}) == 1, refusals
    assert states(cluster, first) == states(cluster, second) == {}
    for number in (first, second):
        cluster.cancel(number)


# How long it lasts.


@pytest.mark.parametrize("kind", ["revive", "reconnect", "resume", "heal"])
def test_what_undoes_a_fault_takes_no_time_after_which_it_ends(cluster: Cluster, kind: str) -> None:
    number = cluster.submit_with_clients(2)
    machine = {} if kind == "heal" else {"machine": "slave[0]"}
    with pytest.raises(Invalid, match=f"{kind} lasts until the next fault"):
        do(cluster, number, kind, for_="10s", **machine)
    assert states(cluster, number) == {}
    if kind == "reconnect":
        assert do(cluster, number, kind, for_=None, **machine)["state"] == "verified"
    cluster.cancel(number)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("kill", {}),
        ("disconnect", {}),
        ("pause", {}),
        ("loss", {"percent": 10}),
        ("rate", {"rate": "100K"}),
        ("delay", {"delay": "50ms"}),
    ],
)
def test_whatever_lasts_heals_by_itself_if_it_is_told_to(
    cluster: Cluster, kind: str, more: dict[str, Any]
) -> None:
    number = cluster.submit_with_clients(2)
    answer = do(cluster, number, kind, machine="slave[0]", for_="5s", **more)
    assert answer["for"] == 5.0
    cluster.wait(4)
    assert states(cluster, number)[f"f1 {kind}"] == "verified"
    cluster.wait(2)
    assert states(cluster, number)[f"f1 {kind}"] == "healed"
    cluster.cancel(number)


# Very many.


def test_thousands_of_faults_are_told_in_messages_that_the_wire_carries(cluster: Cluster) -> None:
    number = cluster.submit_with_clients(2)
    told: list[int] = []
    inner = cluster.part(number, "client[0]")._door.handle._ask

    def ask(question: Any) -> Any:
        def measured(answer: Any) -> Any:
            told.append(len(pack(answer)))
            return answer

        return inner(question).addCallback(measured)

    cluster.part(number, "client[0]")._door.handle._ask = ask
    for made in range(1, 3001):
        note = "as long as a note can be " * 80
        fault = Fault(made, 1, Kind.KILL, ("slave[0]",), "client[0]", 1.0, FaultState.HEALED)
        cluster.manager.ledger.put(number, attrs.evolve(fault, note=note[:2000]))
    cluster.settle()
    handle = cluster.handle(number)
    answer = cluster.result_of(handle.faults())
    assert [fault["id"] for fault in answer["faults"]] == [f"f{n}" for n in range(1, 3001)]
    assert answer["more"] is False
    assert len(told) > 10
    page = cluster.result_of(handle.faults(2990))
    assert (page["faults"][0]["id"], page["more"]) == ("f2991", False)
    # So are the events that tell of them.
    told.clear()
    seen = 0
    while seen < 3000:
        seen = cluster.result_of(handle.events(seen))[-1]["n"]
    cluster.cancel(number)


@pytest.mark.parametrize("kind", ["kill", "pause", "disconnect"])
def test_a_lease_that_ends_while_a_volunteer_is_away_is_written_down_when_it_is_back(
    cluster: Cluster, kind: str
) -> None:
    number = cluster.submit_with_clients(2)
    do(cluster, number, kind, machine="slave[0]", for_="5s")
    host = cluster.hosts[cluster.job(number).machine("slave[0]").volunteer]
    assert host.link is not None
    host.link.cut()
    cluster.wait(10)
    host.start()
    cluster.wait(5)
    told = states(cluster, number)
    assert told[f"f1 {kind}"] == "healed", told
    assert "unknown" not in told.values(), told
    assert cluster.job(number).machine("slave[0]").state is MachineState.RUNNING
    assert cluster.job(number).attempt == 1
    cluster.cancel(number)


def test_a_request_that_comes_again_before_its_turn_is_the_same_fault(cluster: Cluster) -> None:
    """While it waits for another fault on its machine, it is not in the ledger yet."""
    number = cluster.submit_with_clients(3)
    answers: list[Any] = []
    for kind, token in (("kill", "a"), ("revive", "b"), ("revive", "b")):
        asked = cluster.manager.fault(STAFF, number, kind, {"machine": "slave[0]"}, token)
        Deferred.fromCoroutine(asked).addBoth(answers.append)
    cluster.settle()
    assert [answer["id"] for answer in answers] == ["f1", "f2", "f2"]
    assert states(cluster, number) == {"f1 kill": "healed", "f2 revive": "verified"}
    cluster.cancel(number)


def test_a_target_that_was_revived_by_a_lease_and_has_ended_is_not_started_once_more(
    make_cluster: Make,
) -> None:
    slaves: list[MemoryRun] = []

    def behave(run: MemoryRun) -> None:
        if run.argv[-1] == "slave":
            slaves.append(run)
            if len(slaves) > 1:
                run.exit(0)

    cluster = make_cluster(3, behave)
    number = cluster.submit_with_clients(2)
    do(cluster, number, "kill", machine="slave[0]", for_="1ms")
    cluster.wait(2)
    assert len(slaves) == 2
    assert states(cluster, number) == {"f1 kill": "healed", "f2 revive": "verified"}
    assert cluster.job(number).machine("slave[0]").state is MachineState.EXITED
    cluster.cancel(number)


@pytest.mark.parametrize("kind", ["kill", "pause"])
@pytest.mark.parametrize("span", ["1ms", "50ms", "1s", "5s"])
def test_what_ends_by_itself_leaves_nothing_that_is_said_to_have_failed(
    cluster: Cluster, kind: str, span: str
) -> None:
    number = cluster.submit_with_clients(3)
    do(cluster, number, kind, machine="slave[0]", for_=span)
    cluster.wait(7)
    told = states(cluster, number)
    assert told[f"f1 {kind}"] == "healed"
    assert "failed" not in told.values(), told
    assert cluster.job(number).machine("slave[0]").state is MachineState.RUNNING
    assert cluster.part(number, "slave[0]").runs
    cluster.cancel(number)
