"""What becomes of jobs and machines when their manager was started again: decisions alone."""

from __future__ import annotations

import contextlib
import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.adoption import missed, never_prepared, resume, stands
from syndicate.domain.errors import IllegalEvent
from syndicate.domain.events import (
    ClientFinished,
    JobEvent,
    MachineEvent,
    MachineExited,
    MachineKilled,
    MachineLost,
    MachineReady,
    MachineReleased,
    MachineRevived,
    MachineRunning,
    Placement,
    Reserved,
    Submitted,
)
from syndicate.domain.job import Job, JobState, MachineState, Result, Role
from syndicate.domain.lifecycle import (
    ACTIVE,
    Order,
    Prepare,
    Release,
    Start,
    cancel,
    fold,
    react,
    unfold,
)
from tests.support.histories import SHA, spec

PLACES = (
    Placement(Role.MASTER, 0, "v0", "10.0.0.1", "b0"),
    Placement(Role.SLAVE, 0, "v1", "10.0.0.2", "b1"),
    Placement(Role.SLAVE, 1, "v2", "10.0.0.3", "b2"),
    Placement(Role.CLIENT, 0, "v3", "10.0.0.4", "b3"),
)
NAMES = ("master", "slave[0]", "slave[1]", "client[0]")


class World:
    """A job, and volunteers that do as they are told; orders may be lost with their manager."""

    def __init__(self, clients: int) -> None:
        values = {"clients": clients, "client_sha256": SHA, "client_size": 1} if clients else {}
        self.places = PLACES if clients else PLACES[:3]
        self.job = fold(None, Submitted(1, "ann", spec(3, **values)), 0.0)
        #: Every job that was durable at some moment, one for each change of the store.
        self.durable: list[Job] = [self.job]
        #: Every job that was there only until the event that followed from its last one.
        self.between: list[tuple[Job, JobEvent]] = []
        self.orders: list[Order] = []

    def happen(self, event: JobEvent) -> None:
        steps, orders = unfold(self.job, event, 1.0)
        if isinstance(event, Reserved):
            self.orders.clear()
        self.between += [(a.job, b.event) for a, b in itertools.pairwise(steps)]
        self.job = steps[-1].job
        self.durable.append(self.job)
        self.orders += orders


def events() -> st.SearchStrategy[JobEvent | str]:
    names = st.sampled_from(NAMES)
    return st.one_of(
        st.builds(MachineReady, names),
        st.builds(MachineRunning, names),
        st.builds(MachineExited, names, exit_code=st.integers(0, 1)),
        st.builds(MachineKilled, names, limit=st.sampled_from((None, None, "wall", "memory"))),
        st.builds(MachineRevived, names),
        st.builds(MachineReleased, names),
        st.builds(MachineLost, names, st.just("gone.")),
        st.builds(ClientFinished, names, st.just(Result())),
        st.sampled_from(("ready", "run", "reserve", "cancel")),
    )


def lived(steps: list[JobEvent | str], clients: int) -> World:
    world = World(clients)
    for step in ["reserve", *steps]:
        if step == "reserve" and world.job.state is JobState.QUEUED:
            world.happen(Reserved(world.job.attempt + 1, world.places))
        elif step == "cancel" and (event := cancel(world.job, "ann")):
            world.happen(event)
        elif step in ("ready", "run"):
            kind = MachineReady if step == "ready" else MachineRunning
            for machine in world.job.machines:
                _try(world, kind(machine.name))
        elif isinstance(step, MachineEvent):
            _try(world, step)
    return world


def _try(world: World, event: JobEvent) -> None:
    with contextlib.suppress(IllegalEvent):
        world.happen(event)


lives = st.builds(lived, st.lists(events(), max_size=25), st.sampled_from((0, 1)))


@given(lives)
def test_a_job_that_was_stored_waits_for_nothing_but_its_machines(world: World) -> None:
    for job in world.durable:
        assert resume(job) is None


@given(lives)
def test_a_job_found_between_two_events_goes_on_with_the_second(world: World) -> None:
    for job, event in world.between:
        found = resume(job)
        assert found is not None
        assert type(found) is type(event)
        lost = any(machine.state is MachineState.LOST for machine in job.machines)
        if not lost:  # What had lost it is told by the event alone.
            assert found == event


@given(lives)
def test_every_order_that_may_have_been_lost_is_given_again(world: World) -> None:
    """A manager that never sent what it had decided sends it when the volunteer is back."""
    job = world.job
    for machine in job.machines:
        again = missed(job, machine, machine.run)
        if job.state is JobState.FINISHING and not job.over(machine):
            assert again == (Release(machine.name),)
        elif job.state is JobState.PREPARING and machine.state is MachineState.PREPARING:
            assert again == (Prepare(machine.name),)
        elif job.state is JobState.RUNNING and machine.state is MachineState.READY:
            if Start(machine.name) in world.orders:
                assert again == (Start(machine.name),)
        else:
            assert again == ()


@given(lives)
def test_a_machine_is_started_again_by_nobody(world: World) -> None:
    for machine in world.job.machines:
        again = missed(world.job, machine, machine.run)
        if machine.run or machine.ended:
            assert not any(isinstance(order, Prepare | Start) for order in again)


@given(lives, st.sampled_from(NAMES), st.integers(0, 3), st.sampled_from(("v0", "v1", "v9")))
def test_only_the_present_allocation_stands(
    world: World, name: str, attempt: int, volunteer: str
) -> None:
    job = world.job
    machine = stands(job, attempt, name, volunteer)
    if machine is not None:
        assert job.state in ACTIVE
        assert (attempt, volunteer) == (job.attempt, machine.volunteer)
        assert machine.name == name
        assert machine.state is not MachineState.LOST
    assert stands(None, attempt, name, volunteer) is None


def test_what_was_given_up_does_not_stand_while_others_are_being_given_back() -> None:
    job = lived(["ready", "run", MachineLost("slave[0]", "gone.")], 1).job
    assert job.state is JobState.FINISHING
    assert stands(job, 1, "slave[0]", "v1") is None
    assert stands(job, 1, "slave[1]", "v2") is not None


@given(lives, st.sampled_from(("b0", "b1", "other")))
def test_what_was_not_begun_may_be_begun_by_the_same_daemon_alone(world: World, boot: str) -> None:
    for machine in world.job.machines:
        if never_prepared(world.job, machine, boot):
            assert machine.boot == boot
            assert machine.state is MachineState.PREPARING
            assert machine.run == 0


@pytest.mark.parametrize("run", [1, 2])
def test_a_revival_that_was_not_heard_of_is_written_down(run: int) -> None:
    world = lived(["ready", "run", MachineKilled("slave[0]")], 1)
    machine = world.job.machine("slave[0]")
    wanted = (MachineRevived("slave[0]"),) if run > machine.run else ()
    assert missed(world.job, machine, run) == wanted
    ended = attrs.evolve(machine, released=True)
    assert missed(world.job, ended, run) == ()


def test_a_job_of_an_older_manager_that_was_only_reserved_goes_on() -> None:
    job = fold(fold(None, Submitted(1, "ann", spec(3)), 0.0), Reserved(1, PLACES[:3]), 1.0)
    event = resume(job)
    assert event is not None
    steps, orders = unfold(job, event, 2.0)
    assert steps[-1].job.state is JobState.PREPARING
    assert [type(order) for order in orders] == [Prepare] * 3
    assert react(job, Reserved(1, PLACES[:3])) == (event,)
