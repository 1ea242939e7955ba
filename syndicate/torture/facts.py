"""What a torture has seen, and what it finds wrong, as values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs


class Rule(enum.Enum):
    """What must hold; the value is its name in what is printed."""

    #: An acknowledged submission is one job, and that job ends.
    ENDED_ONCE = "every acknowledged submission ended exactly once"
    #: What was told of a finished job is told of it for ever.
    RESULT_KEPT = "no result lost or changed"
    #: Events are numbered without gaps, fold to the job that is shown, and end each attempt once.
    ONE_OUTCOME = "one outcome per attempt"
    #: A job ends as it was made to.
    RIGHT_OUTCOME = "a job ended as it should"
    OWN_MACHINE = "no job on a machine it did not own"
    ONE_JOB = "no two jobs on one volunteer at a time"
    LOG_KEPT = "every log byte that was shown is there"
    LOG_WHOLE = "the log of what ended by itself is whole"
    OUTPUT_KEPT = "outputs are what the job wrote"
    FAULT_HEALED = "every fault was healed or ended with its attempt"
    DATABASE_WHOLE = "the manager's database is whole"
    NOTHING_LEFT = "nothing left behind"
    FLAT = "memory and descriptors of the daemons are flat"
    ALIVE = "no daemon ended by itself"
    ANSWERS = "the manager answers and the volunteers are free in the end"


@attrs.frozen
class Violation:
    """Something that must not be."""

    rule: Rule
    text: str
    #: What shows it.
    evidence: str = ""


@attrs.frozen
class Run:
    """A part of a job that somebody has seen running."""

    job: int
    attempt: int
    machine: str


@attrs.frozen
class Sighting:
    """A process of a job, seen on a host from outside."""

    run: Run
    host: str
    pid: int
    at: float
    #: Whether it was in the host's own network namespace.
    inside: bool = True


@attrs.frozen
class Sample:
    """What a daemon used."""

    host: str
    #: Which of the host's daemons since the beginning, from 1.
    life: int
    #: Seconds after that daemon was started.
    age: float
    #: Bytes of resident memory, and open descriptors.
    memory: int
    descriptors: int


@attrs.frozen
class Ending:
    """All that is known of a finished job."""

    job: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    faults: tuple[Mapping[str, Any], ...]
    #: What each file of the job holds, by path.
    files: Mapping[str, bytes]


@attrs.frozen
class Span:
    """A time in which something was the matter with a host; seconds since the epoch."""

    host: str
    what: str
    begins: float
    ends: float

    def meets(self, begins: float, ends: float) -> bool:
        """Whether it has something in common with another time."""
        return self.begins <= ends and begins <= self.ends
