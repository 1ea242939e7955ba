"""What happens next to a job: the transition tables, the fold, and the decisions. All pure.

`fold` turns an event into the next record; `react` says what follows from an event: further
events, and orders to volunteers. The manager stores what `fold` gives before it carries out what
`react` asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from syndicate.domain.errors import IllegalEvent
from syndicate.domain.events import (
    AttemptLost,
    ClientFinished,
    Finished,
    Finishing,
    HandleRevoked,
    JobEvent,
    MachineEvent,
    MachineExited,
    MachineKilled,
    MachineLost,
    MachineReady,
    MachineReleased,
    MachineRevived,
    MachineRunning,
    Preparing,
    Remark,
    Reserved,
    Running,
    Submitted,
)
from syndicate.domain.job import ENDED, Job, JobState, Machine, MachineState, Outcome, Role

#: How many attempts a job has when volunteers are lost, before it is given up.
ATTEMPTS = 3

#: Which events a job may have in which state, and where they lead. A pair that is not here is
#: refused. Events of one machine are in `MACHINE_TRANSITIONS` and leave the job's state alone.
TRANSITIONS: Mapping[tuple[JobState, type[JobEvent]], JobState] = {
    (JobState.QUEUED, Reserved): JobState.RESERVED,
    (JobState.QUEUED, Finished): JobState.FINISHED,
    (JobState.RESERVED, Preparing): JobState.PREPARING,
    (JobState.RESERVED, Finishing): JobState.FINISHING,
    (JobState.PREPARING, Running): JobState.RUNNING,
    (JobState.PREPARING, Finishing): JobState.FINISHING,
    (JobState.RUNNING, Finishing): JobState.FINISHING,
    (JobState.FINISHING, Finishing): JobState.FINISHING,
    (JobState.FINISHING, AttemptLost): JobState.QUEUED,
    (JobState.FINISHING, Finished): JobState.FINISHED,
}

#: States of a job in which its machines may have events.
ACTIVE = frozenset({JobState.RESERVED, JobState.PREPARING, JobState.RUNNING, JobState.FINISHING})

#: Which events a machine may have in which state, and where they lead.
MACHINE_TRANSITIONS: Mapping[tuple[MachineState, type[MachineEvent]], MachineState] = {
    (MachineState.PREPARING, MachineReady): MachineState.READY,
    (MachineState.READY, MachineRunning): MachineState.RUNNING,
    (MachineState.RUNNING, MachineExited): MachineState.EXITED,
    **{
        (state, MachineKilled): MachineState.KILLED
        for state in (
            MachineState.WAITING,
            MachineState.PREPARING,
            MachineState.READY,
            MachineState.RUNNING,
        )
    },
    **{(state, MachineLost): MachineState.LOST for state in MachineState},
    (MachineState.EXITED, MachineRevived): MachineState.RUNNING,
    (MachineState.KILLED, MachineRevived): MachineState.RUNNING,
    (MachineState.RUNNING, ClientFinished): MachineState.RUNNING,
    **{(state, MachineReleased): state for state in ENDED},
    **{(state, HandleRevoked): state for state in MachineState},
}


@attrs.frozen
class Prepare:
    """Tell a machine to fetch and unpack the source."""

    machine: str


@attrs.frozen
class Start:
    """Tell a machine to run its target."""

    machine: str


@attrs.frozen
class Release:
    """Tell a machine to kill what runs, report it, and clean up."""

    machine: str


Order = Prepare | Start | Release


def fold(job: Job | None, event: JobEvent, at: float) -> Job:
    """The record after an event.

    :param at: when it happened, seconds since the epoch.
    :raises IllegalEvent: the event does not fit the state.
    """
    if isinstance(event, Submitted):
        if job is not None:
            raise _illegal(job, event)
        return Job(
            event.number,
            event.spec,
            event.user,
            submitted_at=at,
            events=1,
            reason="Just submitted.",
        )
    assert job is not None, "every job begins with Submitted"
    job = attrs.evolve(job, events=job.events + 1)
    if isinstance(event, Remark):
        return job
    if isinstance(event, MachineEvent):
        return _fold_machine(job, event)
    state = TRANSITIONS.get((job.state, type(event)))
    if state is None:
        raise _illegal(job, event)
    return _fold_job(attrs.evolve(job, state=state), event, at)


def _illegal(job: Job, event: JobEvent) -> IllegalEvent:
    return IllegalEvent(
        f"Job {job.number} is {job.state.value} and cannot have the event {event.kind!r}.",
        job=job.number,
        event=event.kind,
    )


def _fold_job(job: Job, event: JobEvent, at: float) -> Job:
    match event:
        case Reserved():
            machines = tuple(
                Machine(p.role, p.index, p.volunteer, p.address, boot=p.boot)
                for p in event.placements
            )
            return attrs.evolve(
                job, attempt=event.attempt, machines=machines, verdict=None, reason=event.text
            )
        case Preparing():
            machines = tuple(
                attrs.evolve(machine, state=MachineState.PREPARING)
                if machine.state is MachineState.WAITING
                else machine
                for machine in job.machines
            )
            return attrs.evolve(job, machines=machines, reason=event.text)
        case Running():
            return attrs.evolve(job, started_at=at, reason="Runs.")
        case Finishing():
            return attrs.evolve(job, verdict=event.verdict, reason=event.reason, limit=event.limit)
        case AttemptLost():
            return attrs.evolve(
                job, started_at=None, losses=job.losses + event.counted, reason=event.text
            )
        case Finished():
            return attrs.evolve(
                job, outcome=event.outcome, finished_at=at, reason=event.reason, limit=event.limit
            )
    raise _illegal(job, event)


def _fold_machine(job: Job, event: MachineEvent) -> Job:
    machine = next((m for m in job.machines if m.name == event.machine), None)
    if machine is None or job.state not in ACTIVE:
        raise _illegal(job, event)
    # Staff may revive what they killed in a job without clients too, as long as it runs.
    revived = isinstance(event, MachineRevived) and job.state is JobState.RUNNING
    if job.over(machine) and not revived:
        raise _illegal(job, event)
    state = MACHINE_TRANSITIONS.get((machine.state, type(event)))
    if state is None:
        raise _illegal(job, event)
    machine = attrs.evolve(machine, state=state)
    match event:
        case MachineExited() | MachineKilled():
            machine = attrs.evolve(
                machine,
                log_bytes=event.log_bytes,
                outputs=event.outputs,
                left_out=event.left_out,
                reason=event.text,
            )
            if isinstance(event, MachineExited):
                machine = attrs.evolve(machine, exit_code=event.exit_code, signal=event.signal)
            else:
                machine = attrs.evolve(machine, limit=event.limit)
        case MachineLost():
            machine = attrs.evolve(machine, reason=event.reason)
        case MachineRunning() | MachineRevived():
            machine = attrs.evolve(
                machine, run=machine.run + 1, exit_code=None, signal=None, limit=None, reason=""
            )
        case MachineReleased():
            machine = attrs.evolve(
                machine,
                released=True,
                log_bytes=event.log_bytes or machine.log_bytes,
                outputs=event.outputs or machine.outputs,
                left_out=event.left_out or machine.left_out,
            )
        case ClientFinished():
            machine = attrs.evolve(machine, result=machine.result or event.result)
        case HandleRevoked():
            machine = attrs.evolve(machine, revoked=True)
    machines = tuple(machine if m.name == machine.name else m for m in job.machines)
    return attrs.evolve(job, machines=machines)


@attrs.frozen
class Step:
    """One event, and the job after it."""

    event: JobEvent
    job: Job


def unfold(
    job: Job | None, event: JobEvent, at: float
) -> tuple[tuple[Step, ...], tuple[Order, ...]]:
    """An event with all that follows from it: they are to be stored together or not at all.

    :returns: the events in their order, and the orders to send once all of them are stored.
    :raises IllegalEvent: the event does not fit the state.
    """
    steps: list[Step] = []
    orders: list[Order] = []
    following: list[JobEvent] = [event]
    while following:
        now = following.pop(0)
        job = fold(job, now, at)
        steps.append(Step(now, job))
        for reaction in react(job, now):
            if isinstance(reaction, Order):
                orders.append(reaction)
            else:
                following.append(reaction)
    return tuple(steps), tuple(orders)


def react(job: Job, event: JobEvent) -> tuple[JobEvent | Order, ...]:
    """What follows from an event that has just led to ``job``: at most one further event, which
    is to be folded (and reacted to) in its turn, then orders to machines.
    """
    return tuple(_reactions(job, event))


def _reactions(job: Job, event: JobEvent) -> Iterator[JobEvent | Order]:
    match event:
        case Reserved():
            yield Preparing()
        case Preparing():
            yield from (Prepare(machine.name) for machine in job.machines)
        case MachineReady() if job.state is JobState.PREPARING:
            if all(machine.state is MachineState.READY for machine in job.machines):
                yield Running()
        case Running():
            yield from (Start(m.name) for m in job.machines if m.role is Role.MASTER)
        case MachineRunning() if job.state is JobState.RUNNING:
            yield from _starts(job, event.machine)
        case ClientFinished() if job.state is JobState.RUNNING:
            if _clients_done(job):
                yield _verdict(job)
        case MachineExited() | MachineKilled() | MachineLost() | MachineReleased():
            yield from _after_end(job, event)
        case Finishing():
            if _all_over(job):
                yield _close(job)
            else:
                yield from (Release(m.name) for m in job.machines if not job.over(m))
        case Finished() | AttemptLost():
            yield from (Release(machine.name) for machine in job.machines)


def _starts(job: Job, started: str) -> Iterator[Start]:
    """The machines whose turn has come with a start."""
    first = started == Role.MASTER.value
    for machine in job.machines:
        # The slaves were told when the master had started.
        told = machine.role is Role.SLAVE and not first
        if not told and job.machine(started).role is not Role.CLIENT and due(job, machine):
            yield Start(machine.name)


def due(job: Job, machine: Machine) -> bool:
    """Whether it is a machine's turn to start: the slaves come after the master, the clients
    after all.
    """
    if job.state is not JobState.RUNNING or machine.state is not MachineState.READY:
        return False
    ready = {m.role for m in job.machines if m.state is MachineState.READY}
    match machine.role:
        case Role.MASTER:
            return True
        case Role.SLAVE:
            return Role.MASTER not in ready
    return not ready & {Role.MASTER, Role.SLAVE}


def _all_over(job: Job) -> bool:
    return all(job.over(machine) for machine in job.machines)


def _clients_done(job: Job) -> bool:
    return all(m.done for m in job.machines if m.role is Role.CLIENT)


def _after_end(
    job: Job, event: MachineExited | MachineKilled | MachineLost | MachineReleased
) -> Iterator[JobEvent | Order]:
    if job.state is JobState.FINISHING:
        if _all_over(job):
            yield _close(job)
    elif isinstance(event, MachineLost):
        yield _loss(job, event)
    elif isinstance(event, MachineKilled) and event.limit:
        outcome = Outcome.TIMED_OUT if event.limit == "wall" else Outcome.FAILED
        yield Finishing(outcome, event.text, event.limit)
    elif job.spec.with_clients:
        if job.machine(event.machine).role is Role.CLIENT and _clients_done(job):
            yield _verdict(job)
    elif _all_over(job):
        yield _verdict(job)


def _loss(job: Job, event: MachineLost) -> Finishing:
    if event.source:
        return Finishing(Outcome.REFUSED, event.reason)
    if job.losses + 1 >= ATTEMPTS:
        return Finishing(Outcome.LOST, f"{ATTEMPTS} attempts were lost; the last one: {event.text}")
    return Finishing(None, event.text)


def _verdict(job: Job) -> Finishing:
    if job.spec.with_clients:
        return _clients_verdict(job)
    for machine in job.machines:
        if machine.state is not MachineState.EXITED or machine.exit_code != 0:
            return Finishing(Outcome.FAILED, machine.reason)
    return Finishing(Outcome.PASSED, "Every machine ended with exit code 0.")


def _clients_verdict(job: Job) -> Finishing:
    clients = [machine for machine in job.machines if machine.role is Role.CLIENT]
    for client in clients:
        if client.result is None:
            return Finishing(Outcome.FAILED, f"{client.reason} It had not called finish.")
    for client in clients:
        if client.result is not None and not client.result.passed:
            notes = f": {client.result.notes}" if client.result.notes else ""
            return Finishing(Outcome.FAILED, f"{client.name} says that it failed{notes}.")
    return Finishing(Outcome.PASSED, "Every client has finished and passed.")


def _close(job: Job) -> AttemptLost | Finished:
    if job.verdict is None:
        return AttemptLost(job.reason)
    return Finished(job.verdict, job.reason, job.limit)


def cancel(job: Job, by: str) -> JobEvent | None:
    """The event that cancels a job, or None when it is finished or about to be."""
    reason = f"Cancelled by {by}."
    if job.state is JobState.QUEUED:
        return Finished(Outcome.CANCELLED, reason)
    if job.state is JobState.FINISHED or (
        job.state is JobState.FINISHING and job.verdict is not None
    ):
        return None
    return Finishing(Outcome.CANCELLED, reason)
