"""What clients have measured, read as a stream and kept in few bytes: 17 for each sample.

A sample says that an operation began at ``t`` (epoch seconds), took ``ms``, and went well or not.
So it *ended* at ``t + ms / 1000``, which is when its client knew; what follows after a fault is
told by that.
"""

from __future__ import annotations

import csv
import itertools
import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import attrs

#: Longest line, in bytes: what is longer is no sample, and is not kept until its end comes.
LINE_CAP = 10_000

_TRUTH = {b"true": True, b"false": False}


@attrs.define(eq=False)
class Series:
    """All samples of one operation, in the order in which they ended once `settle` was called."""

    #: When each ended, epoch seconds.
    ends: array[float] = attrs.field(factory=lambda: array("d"))
    #: How long each took, milliseconds.
    spans: array[float] = attrs.field(factory=lambda: array("d"))
    #: Whether each went well: 1 or 0.
    good: bytearray = attrs.field(factory=bytearray)
    #: The longest that any took, seconds.
    longest: float = 0.0

    def __len__(self) -> int:
        return len(self.ends)

    def settle(self) -> None:
        """Bring them into order; nothing is to be added after it."""
        ends = self.ends
        order = sorted(range(len(ends)), key=ends.__getitem__)
        self.ends = array("d", map(ends.__getitem__, order))
        self.spans = array("d", map(self.spans.__getitem__, order))
        self.good = bytearray(map(self.good.__getitem__, order))
        self.longest = max(self.spans, default=0.0) / 1000

    def during(self, start: float, end: float) -> Iterator[int]:
        """The places of those that were under way at some moment from ``start`` to ``end``."""
        for place in range(bisect_left(self.ends, start), len(self.ends)):
            if self.ends[place] > end + self.longest:
                return
            if self.ends[place] - self.spans[place] / 1000 <= end:
                yield place

    def ended(self, start: float, end: float) -> range:
        """The places of those that ended from ``start`` on, and before ``end``."""
        return range(bisect_left(self.ends, start), bisect_left(self.ends, end))


@attrs.define(eq=False)
class Samples:
    """What the clients of one attempt have measured."""

    #: By the name of the operation, once `settle` was called; in the order of names.
    series: dict[str, Series] = attrs.field(factory=dict)
    #: Lines that were no samples; the last of a client that was killed may be one.
    unreadable: int = 0
    _taken: dict[bytes, Series] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.series.values()))

    def add(self, op: bytes, t: float, ms: float, ok: bool) -> None:
        """Take one more.

        :raises ValueError: it is none.
        """
        series = self._taken.get(op)
        if series is None:
            if not op:
                raise ValueError("an operation has a name")
            series = self._taken[op] = Series()
        end = t + ms / 1000
        if not (-1e15 < end < 1e15 and 0 <= ms < 1e15):  # which no NaN is
            raise ValueError(f"{ms!r} ms at {t!r} is nothing that was measured")
        series.ends.append(end)
        series.spans.append(ms)
        series.good.append(ok)

    def settle(self) -> None:
        """Bring all into order; nothing is to be added after it."""
        named = {op.decode("utf-8", "replace"): series for op, series in self._taken.items()}
        self.series = {op: named[op] for op in sorted(named) if len(named[op])}
        for series in self.series.values():
            series.settle()


def read_samples(chunks: Iterable[bytes], attempt: int | None = None) -> Samples:
    """Read samples, as CSV with a first line of column names, or as JSON lines.

    :param chunks: the bytes, cut anywhere.
    :param attempt: the attempt whose samples are wanted, where they say of which they are; None
        for those of all.
    """
    samples = Samples()
    told = lines(chunks)
    for first in told:
        if first.startswith(b"{"):
            _take_json(samples, itertools.chain([first], told), attempt)
        else:
            _take_csv(samples, first, told, attempt)
    samples.settle()
    return samples


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in a stream of bytes, without their ends; empty ones are passed over."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if bare := line.rstrip(b"\r"):
                yield bare
        # What is too long is known to be so from its begin alone.
        rest = rest[:LINE_CAP]
    if bare := rest.rstrip(b"\r"):
        yield bare


def _take_csv(samples: Samples, first: bytes, rest: Iterator[bytes], attempt: int | None) -> None:
    columns = first.decode("utf-8", "replace").split(",")
    try:
        t, op, ms, ok = (columns.index(name) for name in ("t", "op", "ms", "ok"))
    except ValueError:
        samples.unreadable += 1
        return
    of = columns.index("attempt") if attempt is not None and "attempt" in columns else None
    wanted, width = str(attempt).encode(), len(columns)
    for line in rest:
        # There may be a million of them: no function is called for a plain one that need not be.
        fields = line.split(b",") if b'"' not in line else _quoted(line)
        if of is not None and len(fields) > of and fields[of] != wanted:
            continue
        if len(fields) != width:
            samples.unreadable += 1
            continue
        try:
            samples.add(fields[op], float(fields[t]), float(fields[ms]), _TRUTH[fields[ok]])
        except (ValueError, KeyError):
            samples.unreadable += 1


def _quoted(line: bytes) -> list[bytes]:
    try:
        fields = next(csv.reader((line.decode("utf-8", "replace"),)))
    except csv.Error:
        return []
    return [field.encode() for field in fields]


def _take_json(samples: Samples, told: Iterator[bytes], attempt: int | None) -> None:
    for line in told:
        try:
            sample = json.loads(line)
        except (ValueError, RecursionError):
            sample = None
        match sample:
            case {"attempt": other} if attempt not in (None, other):
                continue
            case {
                "t": int() | float() as t,
                "op": str(op),
                "ms": int() | float() as ms,
                "ok": bool(ok),
            }:
                try:
                    samples.add(op.encode("utf-8", "replace"), t, ms, ok)
                except (ValueError, OverflowError):
                    samples.unreadable += 1
            case _:
                samples.unreadable += 1
