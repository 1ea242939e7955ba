"""Which links and processes of a job must be up after each fault: said once more, on its own.

It knows nothing of how Syndicate works that out. A fault in force blocks links, or keeps a machine
from running; a link is blocked if any fault in force blocks it. What has a lease ends at a moment
that is not known exactly: until `Fault.ends_from` it is in force for certain, after `Fault.ends_by`
it is not any more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import attrs

#: Seconds after a lease that all it has done must be undone.
SLACK = 5.0

#: Source and target.
Link = tuple[str, str]


@attrs.frozen
class Step:
    """What a client does next."""

    #: ``kill``, ``revive``, ``disconnect``, ``reconnect``, ``pause``, ``resume``, ``partition``,
    #: ``loss``; ``heal`` of all; ``heal one``, which of those in force is told by ``number``;
    #: ``wait`` until all leases are over.
    kind: str
    machine: str = ""
    with_disk: bool = True
    shape: str = ""
    groups: tuple[tuple[str, ...], ...] = ()
    one_way: bool = False
    percent: float = 0.0
    lease: float | None = None
    number: int = 0

    def __str__(self) -> str:
        told = attrs.asdict(self, filter=lambda field, value: value != field.default)
        return " ".join(f"{key}={value}" for key, value in told.items())


@attrs.frozen
class Answer:
    """What it was answered."""

    #: The fault's name; empty where it has none.
    id: str
    #: The code of the error; empty when it was done.
    error: str = ""


@attrs.frozen
class Fault:
    """One that was answered, and is in force for some time."""

    id: str
    step: Step
    ends_from: float = math.inf
    ends_by: float = math.inf

    def blocks(self, link: Link) -> bool:
        """Whether no packet passes this link."""
        step = self.step
        source, target = link
        if step.kind == "disconnect":
            other = target if step.machine == source else source
            return step.machine in link and not other.startswith("client")
        if step.kind == "partition":
            return _parts(step, source, target)
        return self.loses(link) and step.percent == 100

    def loses(self, link: Link) -> bool:
        """Whether packets on this link are lost by chance."""
        mine = self.step.kind == "loss" and self.step.machine == link[0]
        return mine and not link[1].startswith("client")

    def stops(self, machine: str) -> bool:
        """Whether nothing of it runs."""
        return self.step.kind in ("kill", "pause") and self.step.machine == machine


def _parts(step: Step, source: str, target: str) -> bool:
    groups = step.groups
    if step.shape == "ring":
        (ring,) = groups
        if source not in ring or target not in ring:
            return False
        apart = abs(ring.index(source) - ring.index(target))
        return apart not in (1, len(ring) - 1)
    sides = groups[:2] if step.shape == "bridge" else groups
    mine = next((n for n, group in enumerate(sides) if source in group), None)
    theirs = next((n for n, group in enumerate(sides) if target in group), None)
    if mine is None or theirs is None or mine == theirs:
        return False
    return mine < theirs or not step.one_way


class Disagreement(AssertionError):
    """What was seen is not what the model says."""


@attrs.define
class Model:
    """A job's machines, and the faults in force on them."""

    machines: tuple[str, ...]
    faults: list[Fault] = attrs.field(factory=list)

    @property
    def links(self) -> Iterator[Link]:
        """All there are."""
        return itertools.permutations(self.machines, 2)

    def take(self, step: Step, answer: Answer, called: float, answered: float) -> None:
        """A step was answered.

        :param called: when, at the earliest, a lease of it began, by the clock of the probes.
        :param answered: when, at the latest.
        :raises Disagreement: with another answer than it must have.
        """
        self.faults = [fault for fault in self.faults if fault.ends_by > answered]
        self._check(step, answer, called)
        if answer.error:
            if answer.error == "already_running":
                # Then a lease was over already.
                self._end(("kill",), step.machine)
            return
        undone = {
            "kill": ("kill", "pause"),
            "revive": ("kill", "pause"),
            "reconnect": ("disconnect",),
            "resume": ("pause",),
            "pause": ("pause", "kill"),
            "loss": ("loss",),
        }.get(step.kind, ())
        self._end(undone, step.machine)
        if step.kind == "heal":
            self.faults = []
        elif step.kind in ("kill", "disconnect", "pause", "partition", "loss"):
            lease = math.inf if step.lease is None else step.lease
            self.faults.append(Fault(answer.id, step, called + lease, answered + lease + SLACK))

    def heal_one(self, fault: Fault, answered: float) -> None:
        """A fault was healed by its name."""
        if fault.step.kind == "kill":
            self._end(("kill", "pause"), fault.step.machine)
        elif fault.step.kind == "pause":
            self._end(("pause",), fault.step.machine)
        else:
            self.faults = [other for other in self.faults if other.id != fault.id]
        self.faults = [other for other in self.faults if other.ends_by > answered]

    def waited(self) -> None:
        """All leases are over."""
        self.faults = [fault for fault in self.faults if fault.ends_from == math.inf]

    def leases_over(self) -> float:
        """When no lease is in force for certain any more; 0 where there are none."""
        return max((f.ends_from for f in self.faults if f.ends_from < math.inf), default=0.0)

    def _end(self, kinds: tuple[str, ...], machine: str) -> None:
        self.faults = [
            fault
            for fault in self.faults
            if fault.step.kind not in kinds or fault.step.machine != machine
        ]

    def _check(self, step: Step, answer: Answer, called: float) -> None:
        dead = [f for f in self.faults if f.stops(step.machine) and f.step.kind == "kill"]
        surely = any(fault.ends_from == math.inf for fault in dead)
        allowed = {""}
        if step.kind == "revive":
            allowed = {""} if surely else {"", "already_running"} if dead else {"already_running"}
        elif step.kind == "pause":
            allowed = {"conflict"} if surely else {"", "conflict"} if dead else {""}
        if answer.error not in allowed:
            raise Disagreement(f"{step} was answered with {answer}; {allowed} would be right")

    def must_flow(self) -> set[tuple[str, str, str]]:
        """The links that are up for certain, as way, source and target. A connection needs both
        directions, and goes on at once only where nothing is lost by chance.
        """
        up = {link for link in self.links if self._is_up(link)}
        lossy = {link for link in up if any(fault.loses(link) for fault in self.faults)}
        streams = {link for link in up - lossy if link[::-1] in up - lossy}
        return {("udp", *link) for link in up} | {("tcp", *link) for link in streams}

    def _is_up(self, link: Link) -> bool:
        return not any(f.blocks(link) or f.stops(link[0]) or f.stops(link[1]) for f in self.faults)


@attrs.frozen
class Period:
    """From the answer to one step until the call of the next."""

    begin: float
    end: float
    faults: tuple[Fault, ...]

    def down_until(self, link: Link) -> float:
        """Until when nothing that is sent may come by this link."""
        ends = [f.ends_from for f in self.faults if f.blocks(link) or f.stops(link[0])]
        return min(self.end, max(ends, default=-math.inf))


@attrs.frozen
class Message:
    """One that came, and when the round of sending that it was part of began and was over, by the
    clock of the hub.
    """

    way: str
    link: Link
    sent: float
    sent_by: float
    came: float


def violations(periods: Iterable[Period], messages: Iterable[Message]) -> list[str]:
    """What came by links that were down, from senders that did not run.

    A datagram must not come at all that was sent while its link was down. What a connection was
    given while it was down may come later: it is sent again.
    """
    periods = sorted(periods, key=lambda period: period.begin)
    found = []
    for message in messages:
        for number, period in enumerate(periods):
            if not period.begin <= message.sent <= period.end:
                continue
            until = period.down_until(message.link)
            done = message.sent_by if message.way == "udp" else message.came
            if done <= until:
                found.append(
                    f"after step {number}: {message.way} {message.link[0]} > {message.link[1]}"
                    f" sent {1000 * (message.sent - period.begin):.1f} ms into it,"
                    f" came after {1000 * (message.came - message.sent):.1f} ms,"
                    f" {1000 * (until - message.came):.1f} ms before it may be up"
                )
    return found
