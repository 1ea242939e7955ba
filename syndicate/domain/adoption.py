"""What becomes of a job whose manager was started again, or whose volunteer has come back.

A job goes on: its record says what was ordered, its volunteers say what they have in hand, and
where both fit the machine is adopted and told once more what it may have missed. All pure.
"""

from __future__ import annotations

from syndicate.domain.events import (
    ClientFinished,
    JobEvent,
    MachineExited,
    MachineKilled,
    MachineLost,
    MachineReady,
    MachineRevived,
    Preparing,
)
from syndicate.domain.job import Job, JobState, Machine, MachineState
from syndicate.domain.lifecycle import ACTIVE, Order, Prepare, Release, Start, due, react


def resume(job: Job) -> JobEvent | None:
    """What should have happened to a job when its manager ended, and was not stored; None when
    it only waits for its machines. Events that follow from each other are stored together, so
    this is for what an older manager wrote.
    """
    if job.state not in ACTIVE:
        return None
    if job.state is JobState.RESERVED:
        return Preparing()
    for machine in job.machines:
        event = _last(machine)
        for reaction in () if event is None else react(job, event):
            if not isinstance(reaction, Order):
                return reaction
    return None


def _last(machine: Machine) -> JobEvent | None:
    """The event that has brought a machine to where it is."""
    match machine.state:
        case MachineState.READY:
            return MachineReady(machine.name)
        case MachineState.RUNNING if machine.result is not None:
            return ClientFinished(machine.name, machine.result)
        case MachineState.EXITED:
            return MachineExited(machine.name, machine.exit_code, machine.signal)
        case MachineState.KILLED:
            return MachineKilled(machine.name, machine.limit)
        case MachineState.LOST:
            return MachineLost(machine.name, machine.reason)
    return None


def stands(job: Job | None, attempt: int, name: str, volunteer: str) -> Machine | None:
    """The machine that a volunteer says it has in hand, if the allocation still stands."""
    if job is None or job.state not in ACTIVE or job.attempt != attempt:
        return None
    for machine in job.machines:
        mine = machine.name == name and machine.volunteer == volunteer
        if mine and not machine.released and machine.state is not MachineState.LOST:
            return machine
    return None


def missed(job: Job, machine: Machine, run: int) -> tuple[JobEvent | Order, ...]:
    """What a volunteer that has a machine in hand may have missed, and what we have missed of it.

    :param run: how often the volunteer has started the target.
    """
    if job.state is JobState.FINISHING:
        return () if job.over(machine) else (Release(machine.name),)
    if machine.state is MachineState.PREPARING:
        return (Prepare(machine.name),)
    if due(job, machine):
        return (Start(machine.name),)
    if machine.ended and run > machine.run and not job.over(machine):
        # It was revived, by an order whose answer was lost or by the end of a lease.
        return (MachineRevived(machine.name),)
    return ()


def never_prepared(job: Job, machine: Machine, boot: str) -> bool:
    """Whether a volunteer that does not have a machine in hand is still good for it: the order
    to prepare has not reached it. A daemon that was started anew meanwhile may have died of it.
    """
    return (
        job.state is JobState.PREPARING
        and machine.state is MachineState.PREPARING
        and machine.boot == boot
    )
