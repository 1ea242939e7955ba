"""Reading what the witnesses in the jobs have said, and whether it can be the truth."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import attrs

from syndicate.torture.facts import Rule, Run, Violation
from syndicate.torture.witness import proof

_LINE = re.compile(r"W (\d+) ([0-9a-f]{24}) (\d+\.\d+) (\w+) (.*)")
#: The beginning of what a target says when it is started, perhaps behind half a line of the
#: former run, which was killed.
_START = re.compile(r"W 0 [0-9a-f]{24} \d+\.\d+ start ")


@attrs.frozen
class Testimony:
    """What one start of one machine's target has said."""

    run: Run
    address: str
    begins: float
    #: The last time it said something.
    ends: float
    lines: int
    #: Whether it said that it ended.
    whole: bool


@attrs.frozen
class Heard:
    """What is to be learned from the output of one machine of one attempt."""

    testimonies: tuple[Testimony, ...]
    violations: tuple[Violation, ...]


def hear(task: int, machine: str, path: str, data: bytes) -> Heard:
    """Read a machine's output.

    :param path: names it in what is found wrong.
    """
    text = data.decode("utf-8", "replace")
    starts = [found.start() for found in _START.finditer(text)]
    testimonies: list[Testimony] = []
    violations: list[Violation] = []
    if starts[:1] != [0] and "\n" in text:  # without, it was killed in its first line
        what = f"{path} begins with something else than its first line"
        violations.append(Violation(Rule.LOG_KEPT, what, repr(text[:200])))
    for begin, end in itertools.pairwise([*starts, len(text)]):
        said = tuple(_read(task, machine, path, text[begin:end]))
        testimonies += [each for each in said if isinstance(each, Testimony)]
        violations += [each for each in said if isinstance(each, Violation)]
    return Heard(tuple(testimonies), tuple(violations))


def _read(task: int, machine: str, path: str, text: str) -> Iterator[Testimony | Violation]:
    # What stands behind the last line end is a line that was cut off when its program was killed.
    lines = text.split("\n")[:-1]
    begins = ends = 0.0
    facts: dict[str, object] = {}
    whole = False
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line)
        if found is None or int(found[1]) != number or found[2] != proof(task, machine, number):
            yield Violation(
                Rule.LOG_KEPT,
                f"{path}: line {number} is not what the job has printed there",
                repr(line[:200]),
            )
            return
        ends = float(found[3])
        if number == 0:
            begins, facts = ends, json.loads(found[5])
        whole = found[4] == "end"
    if facts:
        run = Run(int(str(facts["job"])), int(str(facts["attempt"])), str(facts["machine"]))
        yield Testimony(run, str(facts["address"]), begins, ends, len(lines), whole)


def overlaps(testimonies: list[Testimony]) -> Iterator[Violation]:
    """Two attempts, of one job or two, that ran on one host at one time."""
    by_address: dict[str, list[Testimony]] = {}
    for each in testimonies:
        by_address.setdefault(each.address, []).append(each)
    for address, found in by_address.items():
        found.sort(key=lambda each: each.begins)
        last: Testimony | None = None
        for each in found:
            if last is not None and each.begins < last.ends and _other(each.run, last.run):
                yield Violation(
                    Rule.ONE_JOB,
                    f"two jobs say that they ran on {address} at one time",
                    f"{last} and {each}",
                )
            if last is None or each.ends > last.ends:
                last = each


def _other(one: Run, two: Run) -> bool:
    return (one.job, one.attempt) != (two.job, two.attempt)
