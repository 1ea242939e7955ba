"""What the manager knows of a volunteer."""

from __future__ import annotations

import enum

import attrs


class VolunteerState(enum.Enum):
    """What a volunteer is doing, in the words shown to people."""

    #: Registered, clean and without a job.
    FREE = "free"
    #: Reserved for, or working on, a job.
    BUSY = "busy"
    #: Has given back its job and is removing what it left.
    CLEANING = "cleaning"
    #: Could not clean itself, and tries again.
    UNCLEAN = "unclean"
    #: Gets no job until an operator resumes it, as an operator wants it so.
    DRAINED = "drained"
    #: The same, as it is not to be trusted: an operator said so, or it failed too often to clean
    #: itself.
    QUARANTINED = "quarantined"
    #: Its link is down.
    GONE = "gone"


class Stage(enum.Enum):
    """How far a volunteer has come with a machine that it has in hand."""

    PREPARING = "preparing"
    READY = "ready"
    RUNNING = "running"
    #: Its target has ended, and may be revived.
    ENDED = "ended"
    RELEASING = "releasing"


@attrs.frozen
class Facts:
    """What a volunteer says of its host when it registers."""

    #: The address by which machines of a job reach each other.
    address: str
    cores: int
    #: Bytes.
    memory: int
    arch: str
    kernel: str
    #: ``root`` (all limits) or ``user`` (user namespaces), see doc/operating.
    sandbox: str
    #: Names of the limits that are enforced there, and of what else keeps jobs in.
    enforced: tuple[str, ...] = ()
    #: Kinds of faults that work there, and ``(kind, why)`` of those that do not.
    faults: tuple[str, ...] = ()
    unsupported: tuple[tuple[str, str], ...] = ()
    #: Names and versions of programs: ``(("syndicate", "0.1.0"), ("python", "3.11.2"))``.
    versions: tuple[tuple[str, str], ...] = ()
    #: Sentences on what is not enforced there, why, and how to get it.
    remarks: tuple[str, ...] = ()


@attrs.frozen
class Volunteer:
    """A volunteer as `syndicate.domain.scheduler.plan` and the pages see it."""

    name: str
    facts: Facts
    state: VolunteerState
    #: The job and attempt it is reserved for or working on.
    job: int | None = None
    attempt: int | None = None
    reason: str = ""
    #: Seconds since the epoch, UTC; 0 if that is not known.
    registered_at: float = 0.0
    heard_at: float = 0.0
