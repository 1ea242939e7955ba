"""What a job is: its specification, its machines, and the record of where it stands."""

from __future__ import annotations

import enum
import re

import attrs

from syndicate.domain.errors import NotFound


class Role(enum.Enum):
    """What a machine of a job runs; the value is the Makefile's target."""

    MASTER = "master"
    SLAVE = "slave"
    CLIENT = "client"


class JobState(enum.Enum):
    """Where a job stands; see `syndicate.domain.lifecycle.TRANSITIONS`."""

    QUEUED = "queued"
    RESERVED = "reserved"
    PREPARING = "preparing"
    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"


class MachineState(enum.Enum):
    """Where one machine of an attempt stands."""

    WAITING = "waiting"
    PREPARING = "preparing"
    READY = "ready"
    RUNNING = "running"
    EXITED = "exited"
    KILLED = "killed"
    LOST = "lost"


#: States in which nothing of the job runs on the machine any more.
ENDED = frozenset({MachineState.EXITED, MachineState.KILLED, MachineState.LOST})


class Outcome(enum.Enum):
    """How a finished job ended."""

    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    LOST = "lost"
    REFUSED = "refused"


#: Seconds' worth of a client's calls that may come at once.
BURST = 5.0


@attrs.frozen
class Limits:
    """What each machine of a job may use. Going over ``wall``, ``cpu``, ``memory`` or ``output``
    ends the job; ``cores`` slows it down; the others make the program's own calls fail (ENOSPC,
    EAGAIN, EMFILE).
    """

    #: Seconds from the start of the machine's target.
    wall: float = 3600.0
    #: Seconds of processor time, of all processes together, in one run of the target.
    cpu: float = 86400.0
    #: Processor cores kept busy at once; more than the host has are no cap.
    cores: float = 1024.0
    #: Bytes, of all processes together.
    memory: int = 1 << 30
    #: Processes and threads at once.
    pids: int = 512
    #: Open files of one process.
    files: int = 1024
    #: Bytes printed on standard output and standard error together.
    output: int = 50 << 20
    #: Bytes of the machine's disk, its root.
    disk: int = 2 << 30
    #: Files, directories and links on that disk, about; never more than one for each 4 KiB of it.
    inodes: int = 100_000
    #: Of each benchmark client, at its door, in a second: faults asked for, other calls that go to
    #: the manager, and samples; `BURST` seconds' worth may come at once, but for samples.
    fault_calls: float = 100.0
    calls: float = 100.0
    samples: float = 50_000.0
    #: Connections of each client to its door at once.
    connections: int = 64


@attrs.frozen
class Resources:
    """What a volunteer must have to be one of the job's machines."""

    #: Processor cores.
    cores: float = 0.0
    #: Bytes of memory; ``0`` asks for nothing.
    memory: int = 0
    #: Processor architectures as ``uname -m`` names them; empty means any.
    arch: tuple[str, ...] = ()


@attrs.frozen
class JobSpec:
    """What its user asks for; it never changes after submission."""

    name: str
    #: The source tarball's SHA-256 in hexadecimal, and its size in bytes.
    sha256: str
    size: int
    #: One master and ``machines - 1`` slaves.
    machines: int = 1
    limits: Limits = Limits()
    resources: Resources = Resources()
    #: Glob patterns, below the source directory, of files to keep after the end.
    outputs: tuple[str, ...] = ()
    #: Environment of make, beside what Syndicate itself sets.
    env: tuple[tuple[str, str], ...] = ()
    #: Whether a machine goes on while any process of its target lives, after make itself ended.
    linger: bool = False
    #: Benchmark clients, beside the machines (-1: as many as the site gives every job, until the
    #: manager has found out how many); their source's digest and size, empty for the site's own.
    clients: int = -1
    client_sha256: str = ""
    client_size: int = 0
    #: Given to all targets, so that a run can be repeated.
    seed: int = 0

    @property
    def with_clients(self) -> bool:
        """Whether benchmark clients decide when the job is over, and may hurt it."""
        return self.clients > 0

    @property
    def volunteers(self) -> int:
        """How many volunteers the job takes."""
        return self.machines + max(self.clients, 0)

    def source_of(self, role: Role) -> tuple[str, int]:
        """Digest and size of the tarball that a role's target is made from."""
        if role is Role.CLIENT:
            return self.client_sha256, self.client_size
        return self.sha256, self.size


@attrs.frozen
class Result:
    """What a client said when it was done."""

    passed: bool = True
    score: float | None = None
    notes: str = ""


@attrs.frozen
class Machine:
    """One machine of the present attempt."""

    role: Role
    index: int
    #: The volunteer's name, and the address the other machines reach it by.
    volunteer: str
    address: str
    state: MachineState = MachineState.WAITING
    exit_code: int | None = None
    signal: int | None = None
    #: The limit it went over: ``wall``, ``cpu``, ``memory`` or ``output``.
    limit: str | None = None
    #: One sentence on how it ended or why it was lost.
    reason: str = ""
    #: Bytes of log, and digest of the outputs' tarball, that the manager holds.
    log_bytes: int = 0
    outputs: str | None = None
    #: What the job wanted to keep of it and is not in there, and why, in phrases.
    left_out: tuple[str, ...] = ()
    #: Counts the starts of its target; each revival is one more.
    run: int = 0
    #: Of a client: what it said with Finish.
    result: Result | None = None
    #: Whether its volunteer has given it back, all faults lifted and everything removed.
    released: bool = False
    #: Of a client: whether staff has taken its handle away.
    revoked: bool = False
    #: Which start of the volunteer's daemon it was given to.
    boot: str = ""

    @property
    def name(self) -> str:
        """``master`` or ``slave[0]``: the name people and programs use."""
        return machine_name(self.role, self.index)

    @property
    def ended(self) -> bool:
        """Whether nothing of the job runs on it any more."""
        return self.state in ENDED

    @property
    def done(self) -> bool:
        """Of a client: whether it has finished, or its process has ended."""
        return self.ended or self.result is not None


@attrs.frozen
class Job:
    """The record of a job: the fold of its events, and what the store keeps.

    Times are seconds since the epoch, UTC, by the manager's clock.
    """

    number: int
    spec: JobSpec
    user: str
    submitted_at: float
    state: JobState = JobState.QUEUED
    outcome: Outcome | None = None
    #: One sentence: why it waits, or why it ended so.
    reason: str = ""
    #: The limit that ended it, if one did.
    limit: str | None = None
    #: Counts from 1 with the first reservation; 0 before it.
    attempt: int = 0
    #: Attempts that ended because a volunteer was lost or failed.
    losses: int = 0
    machines: tuple[Machine, ...] = ()
    started_at: float | None = None
    finished_at: float | None = None
    #: The outcome decided on while the machines are being stopped.
    verdict: Outcome | None = None
    #: How many events it has had; the number of the last one.
    events: int = 0

    def over(self, machine: Machine) -> bool:
        """Whether nothing more can happen on a machine of this attempt. In a job with clients an
        ended target may be revived, and faults may be in force, until the machine is given back.
        """
        if not self.spec.with_clients:
            return machine.ended
        return machine.released or machine.state is MachineState.LOST

    def machine(self, name: str) -> Machine:
        """The machine of that name (``slave0`` is taken for ``slave[0]``) or address.

        :raises NotFound: the present attempt has none such.
        """
        wanted = canonical_machine(name)
        for machine in self.machines:
            if wanted in (machine.name, machine.address):
                return machine
        known = ", ".join(machine.name for machine in self.machines) or "none yet"
        raise NotFound(f"Job {self.number} has no machine {name!r}; it has: {known}.")


def machine_name(role: Role, index: int) -> str:
    """``master`` or ``slave[0]``."""
    return role.value if role is Role.MASTER else f"{role.value}[{index}]"


def canonical_machine(name: str) -> str:
    """``slave0`` and ``slave[0]`` both as ``slave[0]``; anything else as it is."""
    found = re.fullmatch(r"(slave|client)\[?(\d+)\]?", name)
    return f"{found[1]}[{int(found[2])}]" if found else name
