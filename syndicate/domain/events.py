"""Everything that can happen to a job, as values.

An event is a fact in the past: it is stored, numbered per job, shown to people and folded into
the job's record by `syndicate.domain.lifecycle.fold`. ``kind`` is its name everywhere; ``text``
the sentence people read.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from syndicate.domain.job import JobSpec, Outcome, Role


@attrs.frozen
class Placement:
    """Which volunteer is to be which machine."""

    role: Role
    index: int
    volunteer: str
    address: str


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

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.signal is not None:
            return f"{self.machine} died of signal {self.signal}."
        return f"{self.machine} ended with exit code {self.exit_code}."


@attrs.frozen
class MachineKilled:
    """A machine's target was stopped: by order, or because it went over a limit."""

    kind: ClassVar[str] = "machine-killed"
    machine: str
    limit: str | None = None
    log_bytes: int = 0
    outputs: str | None = None

    @property
    def text(self) -> str:
        """The sentence for people."""
        if self.limit:
            return f"{self.machine} was stopped: it went over its {self.limit} limit."
        return f"{self.machine} was stopped."


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
        return (
            f"The job {self.outcome.value}: {self.reason}"
            if self.outcome
            in (
                Outcome.PASSED,
                Outcome.FAILED,
                Outcome.TIMED_OUT,
            )
            else f"The job was {self.outcome.value}: {self.reason}"
        )


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
    | Finishing
    | AttemptLost
    | Finished
)

#: Events that change one machine.
MachineEvent = MachineReady | MachineRunning | MachineExited | MachineKilled | MachineLost

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
        Finishing,
        AttemptLost,
        Finished,
    )
}


def count(machines: int) -> str:
    """``1 machine``, ``6 machines``."""
    return f"{machines} machine{'' if machines == 1 else 's'}"
