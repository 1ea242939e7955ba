"""Fuzzes a daemon that runs, batch by batch, and looks after it in between.

A finding is: an answer that must not be, or whatever the target finds wrong with itself.
What was said in the batch before it is kept in a file, a line for each connection.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Protocol

import attrs

from tests.fuzz import lines
from tests.fuzz.attacked import Attacked, attacked
from tests.fuzz.lines import Line, Refused
from tests.fuzz.watch import Watch

#: Connections at a time, and in a crowd.
AT_ONCE = 12
CROWD = 300

#: Batches after which the daemon is warm; between two looks at all that it holds.
WARM = 2
LOOK = 10

#: Findings after which it is enough.
ENOUGH = 20


class Attempt(Protocol):
    """One connection, or some, with what is said on it."""

    @property
    def record(self) -> str:
        """What it says, for whoever wants to know what led to a finding."""

    def __call__(self) -> str:
        """Do it; gives what came of it, in a word.

        :raises AssertionError: something that must not.
        :raises Refused: it was not let in.
        """


class Target(Protocol):
    """What is fuzzed."""

    watches: list[Watch]

    def check(self) -> Iterable[str]:
        """What is wrong with it now."""

    def holds(self) -> Iterable[str]:
        """What it has been given and should not have taken."""

    def rest(self) -> None:
        """Let go of what we hold of it, so that it can be measured."""

    def restart(self) -> Iterable[str]:
        """What is wrong with its end, or with what comes after."""

    def held(self) -> str:
        """What it holds, counted."""


@attrs.define(eq=False)
class Campaign:
    """All batches on one target.

    :param batch: makes what is tried, of the seed and the batch's number.
    :param connect: makes one connection of a crowd.
    :param bare: makes one that has said nothing, not even in TLS.
    """

    target: Target
    seed: int
    batch: Callable[[int, int], Sequence[Attempt]]
    connect: Callable[[Random], Line]
    bare: Callable[[Random], Line]
    #: Where it is kept what led to a finding.
    place: Path
    at_once: int = AT_ONCE
    crowd_size: int = CROWD
    findings: list[str] = attrs.field(factory=list)
    outcomes: Counter[str] = attrs.field(factory=Counter)
    connections: int = 0
    batches: int = 0

    def run(self, until: float, most: int = 1 << 30) -> None:
        """Go on until a moment of the monotonic clock, or for so many batches."""
        self._note(self.target.check())
        while time.monotonic() < until and self.batches < most and len(self.findings) < ENOUGH:
            self.one()
            if self.batches == WARM or self.batches % LOOK == 0:
                self.look()
                used = ", ".join(f"{each.name} {each.usage[-1]}" for each in self.target.watches)
                print(f"batch {self.batches}, {self.connections} connections: {used}", flush=True)
                self._note(self.target.check())
        self.look()
        self._note(self.target.restart())

    def look(self) -> None:
        """See what it holds."""
        self._note(self.target.holds())
        self.target.rest()
        for watch in self.target.watches:
            watch.measure()
            self._note(watch.flat())

    def one(self) -> None:
        """One batch."""
        self.batches += 1
        attempts = self.batch(self.seed, self.batches)
        known = len(self.findings)
        with ThreadPoolExecutor(self.at_once) as pool:
            for word in pool.map(self._try, attempts):
                self.outcomes[word] += 1
        self.connections += len(attempts)
        if self.batches % 5 == WARM:
            self.crowd(Random(f"{self.seed}/{self.batches}/crowd"))
        self._note(self.target.check())
        if len(self.findings) > known:
            kept = self.place / f"batch-{self.seed}-{self.batches}.jsonl"
            kept.write_text("\n".join(each.record for each in attempts) + "\n")
            print(f"what was said is in {kept}", file=sys.stderr, flush=True)

    def _try(self, attempt: Attempt) -> str:
        try:
            return attempt()
        except Refused:
            return "refused"
        except Exception as error:  # noqa: BLE001  (an answer that must not be, or one that is none)
            told = "".join(traceback.format_exception(error))
            self._note([f"{told}\n{attempt.record[:4000]}"])
            return "a finding"

    def crowd(self, random: Random) -> None:
        """Very many connections, most of which stop somewhere; others are served meanwhile."""
        held: list[Line] = []
        for _ in range(self.crowd_size):
            try:
                held.append(self._one_of_many(random))
            except Refused:
                self.outcomes["refused"] += 1
        self.connections += self.crowd_size
        self._note(self.target.check())
        for line in held:
            line.end(random.choice(("close", "unsaid", "reset")))

    def _one_of_many(self, random: Random) -> Line:
        if random.random() < 0.4:
            return self.connect(random)
        line = self.bare(random)
        line.raw(
            random.choice((b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\xff\xff"))
        )
        return line

    def _note(self, findings: Iterable[str]) -> None:
        for found in findings:
            self.findings.append(f"{self.seed}/{self.batches}: {found}")
            print(self.findings[-1][:8000], file=sys.stderr, flush=True)

    def told(self) -> str:
        """What was done, and what came of it."""
        watched = "; ".join(watch.told() for watch in self.target.watches)
        return (
            f"{dict(self.outcomes.most_common())}\n{self.connections} connections in "
            f"{self.batches} batches, {len(self.findings)} findings; {watched}; there are "
            f"{self.target.held()}"
        )


def on_manager(
    options: argparse.Namespace,
    batch: Callable[[Attacked, int, int], Sequence[Attempt]],
    connect: Callable[[Attacked, Random], Line],
    port: str,
) -> int:
    """Fuzz a port of a manager until the time is over; gives the exit code.

    :param port: the name of the port, as `ManagerDaemon` has it.
    """
    with tempfile.TemporaryDirectory() as directory, attacked(Path(directory)) as found:
        number = getattr(found.daemon, port)
        return fuzz(
            options,
            found,
            functools.partial(batch, found),
            functools.partial(connect, found),
            lambda random: Line(lines.tcp(number, lines.address(random))),
        )


def fuzz(
    options: argparse.Namespace,
    target: Target,
    batch: Callable[[int, int], Sequence[Attempt]],
    connect: Callable[[Random], Line],
    bare: Callable[[Random], Line],
    crowd_size: int = CROWD,
) -> int:
    """Fuzz until the time is over; the exit code tells whether anything was found."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    campaign = Campaign(target, options.seed, batch, connect, bare, place, crowd_size=crowd_size)
    campaign.run(time.monotonic() + 60 * options.minutes)
    for watch in target.watches if campaign.findings else ():
        (place / f"{watch.name}.log").write_bytes(watch.log.read_bytes())
    print(campaign.told())
    if not campaign.findings:
        place.rmdir()
    return bool(campaign.findings)
