"""Whether what a daemon uses stays flat over its life."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from syndicate.torture.facts import Rule, Sample, Violation

#: Seconds that a daemon gets to become warm, and that it must have lived after that.
WARM = 15.0
LIFE = 30.0
#: How much more it may use in the last third than in the first third of its life after that:
#: bytes, bytes per minute of that life, and descriptors. The manager keeps its jobs in memory.
MEMORY = 24 << 20
MEMORY_PER_MINUTE = 2 << 20
DESCRIPTORS = 40
#: The most descriptors at any time. The manager keeps up to 256 logs open.
MOST_DESCRIPTORS = 512


def judge(samples: Sequence[Sample]) -> Iterator[Violation]:
    """What is not flat."""
    lives: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        lives.setdefault((sample.host, sample.life), []).append(sample)
    for (host, life), found in lives.items():
        most = max(sample.descriptors for sample in found)
        name = f"the daemon of {host} in its life {life}"
        if most > MOST_DESCRIPTORS:
            yield Violation(Rule.FLAT, f"{name} had {most} descriptors open")
        warm = [sample for sample in found if sample.age >= WARM]
        if not warm or warm[-1].age - warm[0].age < LIFE:
            continue
        third = max(len(warm) // 3, 1)
        yield from _grown(name, host, warm[:third], warm[-third:])


def _grown(
    name: str, host: str, first: Sequence[Sample], last: Sequence[Sample]
) -> Iterator[Violation]:
    minutes = (last[-1].age - first[0].age) / 60
    memory = _middle(last, "memory") - _middle(first, "memory")
    if memory > MEMORY + MEMORY_PER_MINUTE * minutes:
        yield Violation(
            Rule.FLAT,
            f"{name} grew by {memory / (1 << 20):.0f} MiB in {minutes:.1f} minutes",
            f"{first[0]} … {last[-1]}",
        )
    descriptors = _middle(last, "descriptors") - _middle(first, "descriptors")
    allowed = DESCRIPTORS + (256 if host == "manager" else 0)
    if descriptors > allowed:
        yield Violation(
            Rule.FLAT,
            f"{name} opened {descriptors:.0f} more descriptors in {minutes:.1f} minutes",
            f"{first[0]} … {last[-1]}",
        )


def _middle(samples: Sequence[Sample], what: str) -> float:
    return float(statistics.median(getattr(sample, what) for sample in samples))
