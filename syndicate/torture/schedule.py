"""What a torture does and asks for, as a pure function of its seed.

The schedule says when each job is to be submitted and when each blow is to fall. What the machine
makes of it in time is not repeated when a seed is run again: which step of the manager a blow
meets depends on how fast that was.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence

import attrs

MANAGER = "manager"


class Deed(enum.Enum):
    """What is done to a host."""

    #: The daemon is killed; its supervisor starts it again.
    KILL = "kill"
    #: The daemon is stopped (SIGSTOP), and goes on later (SIGCONT).
    STOP = "stop"
    #: Packets between a volunteer and the manager are dropped, in silence.
    CUT = "cut"
    #: The host's cable is pulled, and put back.
    UNPLUG = "unplug"
    #: The file system of the state directory is filled up, and emptied.
    FILL = "fill"
    #: All that runs there is killed, the network namespace is made anew, and what does not
    #: survive a restart is gone: on a volunteer the state directory too.
    REBOOT = "reboot"


#: Deeds that last for a while.
LASTING = frozenset({Deed.STOP, Deed.CUT, Deed.UNPLUG, Deed.FILL})


@attrs.frozen
class Act:
    """One blow."""

    #: Seconds after the beginning.
    at: float
    deed: Deed
    #: ``manager``, or ``v1`` and so on.
    host: str
    #: Seconds after which it is undone; 0 for what is done at once.
    lasts: float = 0.0


class Manner(enum.Enum):
    """How a job is to behave."""

    #: Prints now and then, and ends well.
    QUIET = "quiet"
    #: Prints many lines.
    LOUD = "loud"
    #: Keeps outputs.
    KEEPS = "keeps"
    #: Ends with an exit code that is not 0.
    FAILS = "fails"
    #: Goes over its limit of time.
    ENDLESS = "endless"
    #: Has a client that makes fault calls.
    HURT = "hurt"
    #: Is cancelled while it waits or runs.
    CANCELLED = "cancelled"


class Asking(enum.Enum):
    """How a job is submitted; always with one token, until there is an answer."""

    ONCE = "once"
    #: The connection is dropped before the answer comes, and the request is sent again.
    CUT_OFF = "cut off"
    #: Sent again although it was answered.
    TWICE = "twice"


@attrs.frozen
class Task:
    """One job."""

    number: int
    #: Seconds after the beginning.
    at: float
    manner: Manner
    machines: int
    clients: int
    #: Seconds that each machine's program runs.
    lasts: float
    #: Lines that each machine prints beside those that say that it lives.
    lines: int
    asking: Asking
    #: Of a hurt job: what its client does, as words of ``syndicate-fault``.
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The job's name."""
        return f"torture-{self.number}"


@attrs.frozen
class Schedule:
    """All of it."""

    seed: str
    seconds: float
    volunteers: tuple[str, ...]
    acts: tuple[Act, ...]
    tasks: tuple[Task, ...]


#: What falls on whom, and how often among all blows; dealt out like cards, so that even a short
#: torture sees most of them.
_CARDS: Sequence[tuple[Deed, bool, int]] = (
    # deed, whether it is done to the manager, how many cards
    (Deed.KILL, True, 4),
    (Deed.KILL, False, 3),
    (Deed.STOP, True, 1),
    (Deed.STOP, False, 2),
    (Deed.CUT, False, 2),
    (Deed.UNPLUG, False, 1),
    (Deed.UNPLUG, True, 1),
    (Deed.FILL, False, 1),
    (Deed.FILL, True, 1),
    (Deed.REBOOT, False, 1),
    (Deed.REBOOT, True, 1),
)

#: Seconds from one blow to the next, on the average; and from one job to the next.
PACE = 3.0
JOB_PACE = 1.2
#: Seconds at the beginning, and at the end, in which nothing is done.
LEAD = 2.0
#: The shortest and longest time that a lasting deed lasts. The longest is longer than the grace
#: of an absent volunteer in a torture.
LASTS = (0.5, 18.0)
#: Seconds that a host is left alone after a blow.
REST = 3.0

#: What a client may do: words of which it does a few.
_FAULTS = (
    "kill",
    "revive",
    "disconnect",
    "reconnect",
    "pause",
    "resume",
    "loss",
    "delay",
    "mark",
)


def draw(seed: str, seconds: float, volunteers: int) -> Schedule:
    """The schedule of a seed.

    :param seconds: how long blows and jobs go on.
    """
    names = tuple(f"v{n + 1}" for n in range(volunteers))
    acts = tuple(_acts(random.Random(f"{seed}/acts/{seconds}/{volunteers}"), seconds, names))
    tasks = tuple(_tasks(random.Random(f"{seed}/jobs/{seconds}/{volunteers}"), seconds, volunteers))
    return Schedule(seed, seconds, names, acts, tasks)


def _acts(dice: random.Random, seconds: float, volunteers: Sequence[str]) -> Iterator[Act]:
    cards: list[tuple[Deed, bool]] = []
    busy: dict[str, float] = {}
    at = LEAD
    while (at := at + dice.uniform(0.2, 2 * PACE - 0.2)) <= seconds - LEAD:
        if not cards:
            cards = [(deed, manager) for deed, manager, count in _CARDS for _ in range(count)]
            dice.shuffle(cards)
        for card in cards:
            deed, to_manager = card
            free = [
                host
                for host in ((MANAGER,) if to_manager else volunteers)
                if busy.get(host, 0.0) <= at
            ]
            # Many short ones, a few that are longer than anybody's patience.
            lasts = min(LASTS[0] + dice.expovariate(1 / 4.0), LASTS[1]) if deed in LASTING else 0.0
            if free and at + lasts <= seconds - LEAD:
                host = dice.choice(free)
                cards.remove(card)
                busy[host] = at + lasts + REST
                yield Act(round(at, 3), deed, host, round(lasts, 3))
                break


def _tasks(dice: random.Random, seconds: float, volunteers: int) -> Iterator[Task]:
    at, number = 0.0, 0
    manners: list[Manner] = []
    while at < seconds - LEAD:
        number += 1
        if not manners:
            manners = [*Manner, Manner.QUIET, Manner.HURT]
            dice.shuffle(manners)
        manner = manners.pop()
        clients = 1 if manner is Manner.HURT and volunteers > 1 else 0
        machines = min(dice.choice((1, 1, 2, 2, 3, 4)), volunteers - clients)
        yield Task(
            number,
            round(at, 3),
            manner,
            machines,
            clients,
            lasts=round(dice.uniform(0.3, 3.0), 3),
            lines=dice.randrange(1000, 4000) if manner is Manner.LOUD else dice.randrange(20),
            asking=dice.choices(list(Asking), (6, 2, 1))[0],
            faults=tuple(_faults(dice, machines)) if clients else (),
        )
        at += dice.uniform(0.1, 2 * JOB_PACE - 0.1)


def _faults(dice: random.Random, machines: int) -> Iterator[str]:
    for _ in range(dice.randrange(1, 5)):
        word = dice.choice(_FAULTS)
        machine = "master" if machines == 1 else f"slave[{dice.randrange(machines - 1)}]"
        lease = " 1" if dice.random() < 0.3 else ""
        yield f"{word} {machine}{lease}"
