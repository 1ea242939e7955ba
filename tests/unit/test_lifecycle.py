"""The promises of a job's life: tables, fold and reactions."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.errors import IllegalEvent
from syndicate.domain.events import (
    AttemptLost,
    Finished,
    Finishing,
    JobEvent,
    MachineEvent,
    MachineExited,
    MachineKilled,
    MachineLost,
    MachineReady,
    MachineRevived,
    MachineRunning,
    Placement,
    Reserved,
    Submitted,
)
from syndicate.domain.job import Job, JobState, Outcome, Role
from syndicate.domain.lifecycle import (
    ACTIVE,
    ATTEMPTS,
    TRANSITIONS,
    Order,
    Prepare,
    Release,
    Start,
    cancel,
    fold,
    react,
)
from syndicate.plain import from_plain, to_plain
from syndicate.plain_events import event_from_plain, event_to_plain
from tests.support.histories import spec


class Life:
    """A job driven by events, with all that follows from each."""

    def __init__(self, machines: int = 3) -> None:
        self.history: list[tuple[JobEvent, float]] = []
        self.orders: list[Order] = []
        self.job: Job | None = None
        self.happen(Submitted(1, "ann", spec(machines)))

    def happen(self, event: JobEvent) -> Life:
        following = [event]
        while following:
            now = following.pop(0)
            at = float(len(self.history))
            self.job = fold(self.job, now, at)
            self.history.append((now, at))
            for reaction in react(self.job, now):
                if isinstance(reaction, Order):
                    self.orders.append(reaction)
                else:
                    following.append(reaction)
        return self

    @property
    def now(self) -> Job:
        assert self.job is not None
        return self.job

    def reserve(self) -> Life:
        placements = tuple(
            Placement(Role.SLAVE if n else Role.MASTER, max(n - 1, 0), f"v{n}", f"10.0.0.{n}")
            for n in range(self.now.spec.machines)
        )
        return self.happen(Reserved(self.now.attempt + 1, placements))

    def ready(self) -> Life:
        for machine in self.now.machines:
            self.happen(MachineReady(machine.name))
        return self

    def run(self) -> Life:
        for machine in self.now.machines:
            self.happen(MachineRunning(machine.name))
        return self

    def taken(self) -> list[Order]:
        orders, self.orders = self.orders, []
        return orders


def test_the_master_starts_first_and_the_slaves_once_it_runs() -> None:
    life = Life().reserve()
    assert life.taken() == [Prepare("master"), Prepare("slave[0]"), Prepare("slave[1]")]
    life.ready()
    assert life.now.state is JobState.RUNNING
    assert life.taken() == [Start("master")]
    life.happen(MachineRunning("master"))
    assert life.taken() == [Start("slave[0]"), Start("slave[1]")]


def test_nothing_starts_before_every_machine_is_ready() -> None:
    life = Life().reserve().happen(MachineReady("master")).happen(MachineReady("slave[1]"))
    assert life.now.state is JobState.PREPARING
    assert not any(isinstance(order, Start) for order in life.taken())


def test_a_job_passes_when_every_machine_ended_with_zero() -> None:
    life = Life().reserve().ready().run()
    for name in ("slave[0]", "master", "slave[1]"):
        assert life.now.state is JobState.RUNNING
        life.happen(MachineExited(name, exit_code=0))
    assert life.now.outcome is Outcome.PASSED
    assert life.taken()[-3:] == [Release("master"), Release("slave[0]"), Release("slave[1]")]


def test_a_job_fails_with_the_first_machine_that_did_not_end_well() -> None:
    life = Life().reserve().ready().run()
    life.happen(MachineExited("master", exit_code=0))
    life.happen(MachineExited("slave[1]", exit_code=2))
    life.happen(MachineExited("slave[0]", signal=11))
    assert life.now.outcome is Outcome.FAILED
    assert life.now.reason == "slave[0] died of signal 11."


@pytest.mark.parametrize(
    ("limit", "outcome"), [("wall", Outcome.TIMED_OUT), ("output", Outcome.FAILED)]
)
def test_a_machine_over_its_limit_ends_the_job(limit: str, outcome: Outcome) -> None:
    life = Life().reserve().ready().run()
    life.taken()
    life.happen(MachineKilled("slave[0]", limit))
    assert life.now.state is JobState.FINISHING
    assert life.taken() == [Release("master"), Release("slave[1]")]
    life.happen(MachineKilled("master")).happen(MachineKilled("slave[1]"))
    assert (life.now.outcome, life.now.limit) == (outcome, limit)


def test_a_lost_machine_queues_the_job_again_after_the_others_were_stopped() -> None:
    life = Life().reserve().ready().run()
    life.happen(MachineLost("slave[0]", "gone."))
    assert not life.now.machine("master").ended
    life.happen(MachineKilled("master")).happen(MachineKilled("slave[1]"))
    assert life.now.state is JobState.QUEUED
    assert life.now.losses == 1
    assert "gone." in life.now.reason


def test_a_job_is_given_up_after_three_lost_attempts() -> None:
    life = Life(1)
    for attempt in range(1, ATTEMPTS + 1):
        life.reserve()
        assert life.now.attempt == attempt
        life.happen(MachineLost("master", "gone."))
    assert life.now.outcome is Outcome.LOST


def test_a_source_that_will_not_unpack_refuses_the_job_at_once() -> None:
    life = Life(1).reserve().happen(MachineLost("master", "no Makefile.", source=True))
    assert (life.now.outcome, life.now.reason) == (Outcome.REFUSED, "no Makefile.")


def test_cancelling_a_running_job_stops_every_machine_before_it_is_finished() -> None:
    life = Life().reserve().ready().run()
    event = cancel(life.now, "ann")
    assert event is not None
    life.happen(event)
    for machine in life.now.machines:
        assert life.now.state is JobState.FINISHING
        life.happen(MachineKilled(machine.name))
    assert life.now.outcome is Outcome.CANCELLED


def test_cancelling_while_an_attempt_is_being_given_up_cancels_the_job() -> None:
    life = Life().reserve().happen(MachineLost("slave[0]", "gone."))
    event = cancel(life.now, "ann")
    assert event is not None
    life.happen(event)
    life.happen(MachineKilled("master")).happen(MachineKilled("slave[1]"))
    assert life.now.outcome is Outcome.CANCELLED


def test_a_finished_job_cannot_be_cancelled() -> None:
    life = Life(1)
    event = cancel(life.now, "ann")
    assert event is not None
    life.happen(event)
    assert cancel(life.now, "ann") is None


def test_every_pair_that_is_not_in_the_table_is_refused() -> None:
    life = Life()
    for state in JobState:
        job = attrs.evolve(life.now, state=state)
        for event in (AttemptLost(""), Finished(Outcome.PASSED, ""), Finishing(None, "")):
            if (state, type(event)) in TRANSITIONS:
                assert fold(job, event, 0.0).state is TRANSITIONS[state, type(event)]
            else:
                with pytest.raises(IllegalEvent):
                    fold(job, event, 0.0)


def test_only_finished_is_a_dead_end() -> None:
    leaving = {state for state, _ in TRANSITIONS}
    assert set(JobState) - leaving == {JobState.FINISHED}
    reached = {JobState.QUEUED}
    for _ in JobState:
        reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
    assert reached == set(JobState)


def test_a_machine_that_was_lost_or_given_back_changes_no_more() -> None:
    life = Life().reserve().ready().run().happen(MachineExited("slave[0]", exit_code=0))
    with pytest.raises(IllegalEvent):
        life.happen(MachineLost("slave[0]", "late."))
    life.happen(MachineLost("slave[1]", "gone."))
    for event in (MachineKilled("slave[1]"), MachineRevived("slave[1]")):
        with pytest.raises(IllegalEvent):
            life.happen(event)


def test_what_staff_killed_in_a_job_without_clients_can_be_revived() -> None:
    life = Life().reserve().ready().run().happen(MachineKilled("slave[0]"))
    life.happen(MachineRevived("slave[0]"))
    assert life.now.machine("slave[0]").run == 2
    for machine in life.now.machines:
        life.happen(MachineExited(machine.name, exit_code=0))
    assert life.now.outcome is Outcome.PASSED


events = st.one_of(
    st.builds(
        lambda kind, name: kind(name),
        st.sampled_from((MachineReady, MachineRunning, MachineKilled)),
        st.sampled_from(("master", "slave[0]", "slave[1]", "slave[9]")),
    ),
    st.builds(
        MachineExited,
        st.sampled_from(("master", "slave[0]", "slave[1]")),
        exit_code=st.integers(0, 2),
    ),
    st.builds(
        MachineLost,
        st.sampled_from(("master", "slave[0]", "slave[1]")),
        st.just("gone."),
        st.booleans(),
    ),
    st.just("reserve"),
    st.just("cancel"),
)


def random_life(steps: list[JobEvent | str]) -> Life:
    life = Life()
    for step in steps:
        if step == "reserve":
            if life.now.state is JobState.QUEUED:
                life.reserve()
        elif step == "cancel":
            if event := cancel(life.now, "ann"):
                life.happen(event)
        elif isinstance(step, MachineEvent):
            try:
                life.happen(step)
            except IllegalEvent:
                continue
    return life


@given(st.lists(events, max_size=60))
def test_folding_the_stored_events_gives_the_stored_job(steps: list[JobEvent | str]) -> None:
    life = random_life(steps)
    job: Job | None = None
    for number, (event, at) in enumerate(life.history, 1):
        restored, when = event_from_plain(event_to_plain(event, at, life.now.attempt))
        job = fold(job, restored, when)
        assert job.events == number
    assert job == life.now
    assert from_plain(to_plain(job), Job) == job


@given(st.lists(events, max_size=60))
def test_every_state_leads_to_an_end(steps: list[JobEvent | str]) -> None:
    life = random_life(steps)
    event = cancel(life.now, "ann")
    if event is not None:
        life.happen(event)
    for machine in life.now.machines:
        if life.now.state in ACTIVE and not life.now.machine(machine.name).ended:
            life.happen(MachineKilled(machine.name))
    assert life.now.state is JobState.FINISHED
    assert life.now.outcome is not None


@given(st.lists(events, max_size=60))
def test_every_machine_that_was_prepared_is_released(steps: list[JobEvent | str]) -> None:
    life = random_life(steps)
    if life.now.state in ACTIVE:
        return
    last = [
        list(group)
        for prepared, group in itertools.groupby(life.orders, lambda o: isinstance(o, Prepare))
        if not prepared
    ]
    if life.now.attempt:
        released = {order.machine for order in last[-1] if isinstance(order, Release)}
        assert released == {machine.name for machine in life.now.machines}
