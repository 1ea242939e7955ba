"""Everything that can happen to a job, as values.

An event is a fact in the past: it is stored, numbered per job, shown to people and folded into
the job's record by `syndicate.domain.lifecycle.fold`. ``kind`` is its name everywhere; ``text``
the sentence people read.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from syndicate.domain.fault import Fault
from syndicate.domain.job import JobSpec, Outcome, Result, Role


@attrs.frozen
class Placement:
    """Which volunteer is to be which machine."""

    role: Role
    index: int
    volunteer: str
    address: str
    #: Which start of the volunteer's daemon it was given to.
    boot: str = ""


@attrs.frozen
class Submitted:
    """A user asked for a job; the first event of each."""

    kind: ClassVar[str] = "submitted"
    number: int
    user: str
    spec: JobSpec

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.user} submitted {self.spec.name!r} for {count(self.spec.machines)}."


@attrs.frozen
class Reserved:
    """All machines of a new attempt were reserved at once; the first placement is the master."""

    kind: ClassVar[str] = "reserved"
    attempt: int
    placements: tuple[Placement, ...]

    @property
    def text(self) -> str:
        """The sentence for people."""
        names = ", ".join(placement.volunteer for placement in self.placements)
        return f"Attempt {self.attempt} was given {names}."


@attrs.frozen
class Preparing:
    """The machines were told to fetch and unpack the source."""

    kind: ClassVar[str] = "preparing"

    @property
    def text(self) -> str:
        """The sentence for people."""
        return "The machines fetch and unpack the source."


@attrs.frozen
class MachineReady:
    """A machine has unpacked the source and could start."""

    kind: ClassVar[str] = "machine-ready"
    machine: str

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.machine} is ready."


@attrs.frozen
class Running:
    """Every machine is ready: the targets are being started."""

    kind: ClassVar[str] = "running"

    @property
    def text(self) -> str:
        """The sentence for people."""
        return "All machines are ready; the targets start."


@attrs.frozen
class MachineRunning:
    """A machine's target runs."""

    kind: ClassVar[str] = "machine-running"
    machine: str

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.machine} runs."


@attrs.frozen
class MachineExited:
    """A machine's target ended by itself, and its output is safe on the manager."""

    kind: ClassVar[str] = "machine-exited"
    machine: str
    exit_code: int | None = None
    signal: int | None = None
    log_bytes: int = 0
    outputs: str | None = None
    #: What it had used up when it ended, that its own calls then fail for: names of limits.
    short: tuple[str, ...] = ()
    #: What was to be kept and is not, and why, in phrases.
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence for people."""
        short = f", short of {' and '.join(self.short)}" if self.short else ""
        if self.signal is not None:
            return f"{self.machine} died of signal {self.signal}{short}."
        return f"{self.machine} ended with exit code {self.exit_code}{short}."


@attrs.frozen
class MachineKilled:
    """A machine's target was stopped: by order, or because it went over a limit."""

    kind: ClassVar[str] = "machine-killed"
    machine: str
    limit: str | None = None
    log_bytes: int = 0
    outputs: str | None = None
    #: Of one that was killed on purpose: who asked for it, and the fault, such as ``f3``.
    by: str = ""
    by_fault: str = ""
    #: What was to be kept and is not, and why, in phrases.
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.limit:
            return f"{self.machine} was stopped: it went over its {self.limit} limit."
        if self.by_fault:
            return f"{self.machine} was killed by {self.by} ({self.by_fault})."
        return f"{self.machine} was stopped."


@attrs.frozen
class MachineRevived:
    """A machine's target was started again."""

    kind: ClassVar[str] = "machine-revived"
    machine: str
    with_disk: bool = True

    @property
    def text(self) -> str:
        """The sentence for people."""
        disk = "on its disk as it was" if self.with_disk else "on an emptied disk"
        return f"{self.machine} was revived, {disk}."


@attrs.frozen
class MachineReleased:
    """A machine's volunteer has given it back; or could not lift or remove all, and why."""

    kind: ClassVar[str] = "machine-released"
    machine: str
    problem: str = ""
    log_bytes: int = 0
    outputs: str | None = None
    #: What was to be kept and is not, and why, in phrases.
    left_out: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.problem:
            return f"{self.machine} could not be cleaned: {self.problem}"
        return f"{self.machine} was given back clean."


@attrs.frozen
class ClientFinished:
    """A benchmark client has said that it is done."""

    kind: ClassVar[str] = "client-finished"
    machine: str
    result: Result

    @property
    def text(self) -> str:
        """The sentence for people."""
        how = "passed" if self.result.passed else "failed"
        score = "" if self.result.score is None else f", score {self.result.score:g}"
        notes = f": {self.result.notes}" if self.result.notes else ""
        return f"{self.machine} finished: {how}{score}{notes}."


@attrs.frozen
class Marked:
    """A client has noted a moment."""

    kind: ClassVar[str] = "mark"
    by: str
    name: str
    #: Of the request, so that the same one again is the same mark.
    token: str | None = None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.by} marks: {self.name}"


@attrs.frozen
class FaultChanged:
    """A fault was requested, or has become what it is now."""

    kind: ClassVar[str] = "fault"
    fault: Fault

    @property
    def text(self) -> str:
        """The sentence for people."""
        fault = self.fault
        on = ", ".join(fault.machines) or "all"
        note = f": {fault.said}" if fault.said else ""
        return (
            f"f{fault.number} {fault.kind.value} of {on} by {fault.by}: {fault.state.value}{note}"
        )


@attrs.frozen
class HandleRevoked:
    """Staff has taken a client's handle away."""

    kind: ClassVar[str] = "handle-revoked"
    machine: str
    by: str

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.by} revoked the handle of {self.machine}."


@attrs.frozen
class MachineLost:
    """A machine went away, or could not be used, before its target ended."""

    kind: ClassVar[str] = "machine-lost"
    machine: str
    reason: str
    #: Whether the job's source is to blame rather than the volunteer.
    source: bool = False

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"{self.machine} was lost: {self.reason}"


@attrs.frozen
class Finishing:
    """The attempt is over: what still runs is stopped. Without a verdict the job queues again."""

    kind: ClassVar[str] = "finishing"
    verdict: Outcome | None
    reason: str
    limit: str | None = None

    @property
    def text(self) -> str:
        """The sentence for people."""
        return self.reason


@attrs.frozen
class AttemptLost:
    """Nothing of the attempt runs any more, and the job waits for another."""

    kind: ClassVar[str] = "attempt-lost"
    reason: str
    #: Whether it counts towards `syndicate.domain.lifecycle.ATTEMPTS`.
    counted: bool = True

    @property
    def text(self) -> str:
        """The sentence for people."""
        return f"Queued again: {self.reason}"


@attrs.frozen
class Finished:
    """Nothing of the job runs any more, and its outputs and logs are safe; the last event."""

    kind: ClassVar[str] = "finished"
    outcome: Outcome
    reason: str
    limit: str | None = None

    @property
    def text(self) -> str:
        """The sentence for people."""
        by_itself = self.outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.TIMED_OUT)
        return f"The job {'' if by_itself else 'was '}{self.outcome.value}: {self.reason}"


JobEvent = (
    Submitted
    | Reserved
    | Preparing
    | MachineReady
    | Running
    | MachineRunning
    | MachineExited
    | MachineKilled
    | MachineLost
    | MachineRevived
    | MachineReleased
    | ClientFinished
    | HandleRevoked
    | Marked
    | FaultChanged
    | Finishing
    | AttemptLost
    | Finished
)

#: Events that change one machine.
MachineEvent = (
    MachineReady
    | MachineRunning
    | MachineExited
    | MachineKilled
    | MachineLost
    | MachineRevived
    | MachineReleased
    | ClientFinished
    | HandleRevoked
)

#: Events that tell something, and change nothing in the job's record but its count.
Remark = Marked | FaultChanged

#: Every event class by its kind.
BY_KIND: dict[str, type[JobEvent]] = {
    event.kind: event
    for event in (
        Submitted,
        Reserved,
        Preparing,
        MachineReady,
        Running,
        MachineRunning,
        MachineExited,
        MachineKilled,
        MachineLost,
        MachineRevived,
        MachineReleased,
        ClientFinished,
        HandleRevoked,
        Marked,
        FaultChanged,
        Finishing,
        AttemptLost,
        Finished,
    )
}


def count(machines: int) -> str:
    """``1 machine``, ``6 machines``."""
    return f"{machines} machine{'' if machines == 1 else 's'}"
