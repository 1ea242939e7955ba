"""Ports of the wire room: how manager and volunteer see each other, whatever lies between.

The volunteer dials, says `Hello` and gets a `Welcome`; from then on the manager gives orders
through `IVolunteer`, and the volunteer reports through `IManager`. Every order and report may be
repeated without harm: (job, attempt, machine) names what it is about, and the term whose manager
gave it.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from syndicate.domain.errors import WrongVersion
from syndicate.domain.fault import Links
from syndicate.domain.job import Limits
from syndicate.domain.volunteer import Facts, Stage

#: Version of what crosses; both ends must have the same. It rises with every change that an
#: older peer would misunderstand.
PROTOCOL = 3

#: Most reports of ended targets that a hello repeats; the others follow it.
MOST_UNACKED = 100


def other_protocol(theirs: int, name: object) -> WrongVersion:
    """The refusal of a volunteer that speaks another protocol than this manager.

    :param name: what it calls itself, if that can be made out.
    """
    older, newer = ("volunteer", "manager") if theirs < PROTOCOL else ("manager", "volunteer")
    who = name[:64] if isinstance(name, str) and name.isprintable() else "?"
    return WrongVersion(
        f"The manager speaks protocol {PROTOCOL}, the volunteer {who} speaks {theirs}: "
        f"upgrade the {older}. Stop it, install the version of Syndicate that the {newer} has, and "
        "start it again."
    )


@attrs.frozen
class Holding:
    """A part of a job that a volunteer has in hand."""

    job: int
    attempt: int
    machine: str


@attrs.frozen
class Welcome:
    """The manager's answer."""

    protocol: int
    cluster: str
    term: int
    #: Bearer token for the HTTPS door, good for this connection.
    session: str = attrs.field(repr=False)
    #: Seconds between liveness pings, and after which a silent peer is given up.
    ping: float
    deadline: float
    #: Whether what the volunteer holds is wanted no more: kill, clean up, then `IManager.clean`.
    release: bool = False
    #: Digests and sizes of sources that every volunteer should have before a job comes.
    keep: tuple[tuple[str, int], ...] = ()


@attrs.frozen
class Part:
    """Names what an order is about."""

    job: int
    attempt: int
    machine: str
    term: int


@attrs.frozen
class PrepareOrder:
    """Fetch the source and unpack it."""

    part: Part
    #: The target's name in the Makefile.
    target: str
    sha256: str
    size: int
    limits: Limits
    #: Names and addresses of all machines of the attempt, the master first.
    machines: tuple[tuple[str, str], ...]
    env: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()
    linger: bool = False
    #: Given to the target as SYNDICATE_SEED.
    seed: int = 0
    #: Whether it is a benchmark client, which gets a door.
    client: bool = False
    #: Whether the job has clients: machines may be hurt and revived until they are given back.
    hurtful: bool = False


@attrs.frozen
class FaultOrder:
    """Do something to a machine, and prove it."""

    part: Part
    #: The fault's number; the same one again is answered, not done again.
    number: int
    #: ``kill``, ``revive``, ``pause``, ``resume`` or ``links``.
    what: str
    with_disk: bool = True
    #: For ``links``: all that its packets are to meet from now on.
    links: Links | None = None
    #: For ``links``: what they are to meet later, as ``(seconds from now, all)``: leases end even
    #: if no manager is there to end them.
    later: tuple[tuple[float, Links], ...] = ()
    #: For ``kill`` and ``pause``: undo it after so many seconds.
    lease: float | None = None


@attrs.frozen
class FaultDone:
    """What became of a `FaultOrder`, by the volunteer's own timeline in seconds."""

    applied_at: float
    verified_at: float
    #: What was seen that proves it.
    note: str = ""


@attrs.frozen
class Released:
    """What a machine left, all of it on the manager already."""

    log_bytes: int = 0
    #: Digest of the tarball of outputs, if they were taken at the release.
    outputs: str | None = None
    #: Whether it is not free yet, as it does what its operator wants after each job; it will say
    #: when it is clean.
    later: bool = False
    #: What it was to keep and did not, and why, in phrases.
    left_out: tuple[str, ...] = ()


@attrs.frozen
class Ask:
    """A client's request, as it came to the door in its sandbox."""

    part: Part
    verb: str
    body: Any
    #: Tells the request from others, where doing it twice would be wrong; the same again is the
    #: same one.
    token: str | None = None
    #: Whether it was asked before, and the answer was lost.
    again: bool = False


@attrs.frozen
class EndReport:
    """How a machine's target ended, its logs and outputs being on the manager already."""

    part: Part
    #: Which start of the target ended: 1 for the first.
    run: int = 1
    exit_code: int | None = None
    signal: int | None = None
    limit: str | None = None
    #: Stopped by order.
    killed: bool = False
    #: A fault of the host: the target could not be run as it should.
    problem: str = ""
    log_bytes: int = 0
    #: Digest of the tarball of outputs.
    outputs: str | None = None
    #: Names of the limits that it had used up when it ended by itself.
    short: tuple[str, ...] = ()
    #: What it was to keep and did not, and why, in phrases.
    left_out: tuple[str, ...] = ()


@attrs.frozen
class GivenBack:
    """A part that a volunteer has in hand no more."""

    part: Part
    released: Released = Released()
    #: What could not be lifted or removed, and why; empty when it is clean.
    unclean: str = ""


@attrs.frozen
class Hello:
    """A volunteer's first words."""

    protocol: int
    name: str
    #: Made anew at each start of the daemon.
    boot: str
    facts: Facts
    holding: Holding | None = None
    #: Whether it could not clean up after a job, and why; such a one gets no job before it has said
    #: that it is clean.
    unclean: str = ""
    #: Whether it still does what its operator wants after each job; it will say when it is clean.
    tidying: bool = False
    #: The highest term whose orders it has obeyed; it will obey none of a lower one.
    term: int = 0
    #: How far it has come with what it holds, and how often the target was started.
    stage: Stage | None = None
    run: int = 0
    #: How targets ended, as far as no manager has acknowledged it.
    unacked: tuple[EndReport, ...] = ()
    #: What it gave back last: the answer to the order may have been lost.
    gave_back: GivenBack | None = None


class IVolunteer(Interface):
    """A volunteer, as the manager sees it: one live connection.

    Orders fail with the errors of `syndicate.domain.errors` that the volunteer raises, or with
    `VolunteerLost` when the link breaks before the answer.
    """

    name = Attribute("The volunteer's name (str).")

    def prepare(order: PrepareOrder) -> Deferred[None]:
        """Fires when the machine could start at once."""

    def start(part: Part) -> Deferred[None]:
        """Fires when the target's program has been executed."""

    def inflict(order: FaultOrder) -> Deferred[FaultDone]:
        """Do it; fires when it is in force and verified.

        :raises AlreadyRunning: what is to be revived runs.
        :raises Unsupported: this host cannot.
        :raises SandboxFailed: it was done, and could not be verified.
        """

    def release(part: Part) -> Deferred[Released]:
        """Kill what runs, report it, lift all faults, remove everything; fires when the volunteer
        is clean.

        :raises NotClean: something is left.
        """

    def ping() -> Deferred[float]:
        """Fires with what the volunteer's timeline shows."""

    def drop() -> None:
        """Break the connection at once."""


class IManager(Interface):
    """The manager, as a volunteer sees it: one live connection."""

    def ended(report: EndReport) -> Deferred[None]:
        """Fires when the report is stored."""

    def clean(unclean: str) -> Deferred[None]:
        """The volunteer has removed all it held, and done what is to be done after each job; or
        why it could not.
        """

    def ask(ask: Ask) -> Deferred[Any]:
        """What the client on this volunteer asks for; fires with a plain answer."""

    def ping() -> Deferred[None]:
        """Fires with the answer."""

    def drop() -> None:
        """Break the connection at once."""


class IFleet(Interface):
    """What the wire needs of the manager's service."""

    def welcome(hello: Hello, link: IVolunteer) -> Welcome:
        """A volunteer has dialled and is who it says.

        :raises WrongVersion: its protocol does not fit.
        :raises Fenced: it has obeyed a manager of a later term than ours.
        """

    def ended(name: str, report: EndReport) -> Deferred[None]:
        """See `IManager.ended`; ``name`` is the volunteer that reports."""

    def clean(name: str, unclean: str) -> Deferred[None]:
        """See `IManager.clean`."""

    def ask(name: str, ask: Ask) -> Deferred[Any]:
        """See `IManager.ask`."""

    def lost(link: IVolunteer, reason: str) -> None:
        """That connection is gone."""


class IWorker(Interface):
    """What the wire needs of the volunteer's service: the orders, as in `IVolunteer`."""

    def hello() -> Hello:
        """What to say on a new connection."""

    def welcomed(welcome: Welcome, manager: IManager) -> None:
        """The manager has answered; ``manager`` is good until `parted`."""

    def parted(reason: str) -> None:
        """The connection is gone."""

    def prepare(order: PrepareOrder) -> Deferred[None]:
        """See `IVolunteer.prepare`."""

    def start(part: Part) -> Deferred[None]:
        """See `IVolunteer.start`."""

    def inflict(order: FaultOrder) -> Deferred[FaultDone]:
        """See `IVolunteer.inflict`."""

    def release(part: Part) -> Deferred[Released]:
        """See `IVolunteer.release`."""

    def now() -> float:
        """What its timeline shows, in seconds; it never goes back."""
