"""Figures of many samples: counts, percentiles, and how things went after a fault.

Percentiles are of operations that went well; how long it took to be refused says nothing of how
fast a service is. They are interpolated between the two nearest samples, as
``statistics.quantiles(…, method="inclusive")`` does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import compress
from math import floor

import attrs

from syndicate.report.samples import Series


@attrs.frozen
class Figures:
    """Of some operations of one kind. Times in milliseconds; None where none went well."""

    op: str
    #: All of them, and those that did not go well.
    count: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None
    slowest: float | None


@attrs.frozen
class Aftermath:
    """What came of a fault, in seconds from its application; None where there was no such thing.

    An operation counts when it has *ended*, which is when its client knew; all kinds together.
    """

    #: Operations that failed within the fault's reach.
    errors: int
    #: Until the first of these.
    first_error: float | None
    #: Until the first success after the last of these; with errors and without a recovery, the
    #: reach has ended before there was a success.
    recovery: float | None
    #: The longest time within the reach in which nothing succeeded.
    outage: float | None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that a share of all values do not exceed.

    :param ordered: at least one value, from the least to the greatest.
    :param share: from 0 to 1.
    """
    place = share * (len(ordered) - 1)
    below = min(floor(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    low, high = ordered[below], ordered[above]
    # Never outside of the two, whatever the rounding.
    return min(max(low + (high - low) * (place - below), low), high)


def figures(op: str, series: Series) -> Figures:
    """Of all operations of a kind."""
    return _figures(op, len(series), sorted(compress(series.spans, series.good)))


def figures_during(op: str, series: Series, start: float, end: float) -> Figures:
    """Of those that were under way at some moment between two times."""
    places = list(series.during(start, end))
    spans, good = series.spans, series.good
    return _figures(op, len(places), sorted(spans[place] for place in places if good[place]))


def _figures(op: str, count: int, spans: Sequence[float]) -> Figures:
    if not spans:
        return Figures(op, count, count, None, None, None, None)
    p50, p95, p99 = (percentile(spans, share) for share in (0.5, 0.95, 0.99))
    return Figures(op, count, count - len(spans), p50, p95, p99, spans[-1])


def aftermath(
    all_series: Iterable[Series], requested: float, applied: float, until: float
) -> Aftermath:
    """What came of a fault.

    :param requested: when its reach begins, for it acts from then on; epoch seconds, as all here.
    :param applied: from when times are counted. What shows before it counts as none.
    :param until: where its reach ends.
    """
    ended = [(series, series.ended(requested, until)) for series in all_series]
    failed = [s.ends[place] for s, places in ended for place in places if not s.good[place]]
    succeeded = sorted(s.ends[place] for s, places in ended for place in places if s.good[place])
    return Aftermath(
        errors=len(failed),
        first_error=max(0.0, min(failed) - applied) if failed else None,
        recovery=_recovery(max(failed), succeeded, applied) if failed else None,
        outage=_longest_gap(succeeded, requested, until) if failed or succeeded else None,
    )


def _recovery(last_error: float, succeeded: Sequence[float], applied: float) -> float | None:
    place = bisect_right(succeeded, last_error)
    return max(0.0, succeeded[place] - applied) if place < len(succeeded) else None


def _longest_gap(moments: Sequence[float], start: float, end: float) -> float:
    """The longest time between two of these, the start and the end among them."""
    longest, last = 0.0, start
    for moment in moments:
        longest, last = max(longest, moment - last), moment
    return max(longest, end - last)
