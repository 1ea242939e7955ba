"""The figures of a report, against plain definitions of them."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.report.figures import (
    Aftermath,
    Figures,
    aftermath,
    figures,
    figures_during,
    percentile,
)
from syndicate.report.samples import Series, read_samples


@attrs.frozen
class Sample:
    """Times in whole milliseconds, so that no rounding is in the way."""

    begin: int
    ms: int
    ok: bool

    @property
    def end(self) -> int:
        return self.begin + self.ms


SAMPLES = st.lists(
    st.builds(Sample, st.integers(0, 60), st.integers(0, 30), st.booleans()), max_size=40
)
MOMENTS = st.tuples(st.integers(-5, 100), st.integers(-5, 100)).map(sorted)


def series(samples: Sequence[Sample]) -> Series:
    """A second of the series is a thousandth of these: all its sums are exact."""
    made = Series()
    for sample in samples:
        made.ends.append(float(sample.end))
        made.spans.append(sample.ms * 1000.0)
        made.good.append(sample.ok)
    made.settle()
    return made


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=200))
def test_percentiles_are_those_of_the_statistics_module(values: list[float]) -> None:
    ordered = sorted(values)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for share, place in ((0.5, 49), (0.95, 94), (0.99, 98)):
        assert percentile(ordered, share) == pytest.approx(cuts[place], rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_percentiles_are_within_the_values_and_never_fall(
    values: list[float], one: float, other: float
) -> None:
    ordered = sorted(values)
    low, high = sorted((one, other))
    assert ordered[0] <= percentile(ordered, low) <= percentile(ordered, high) <= ordered[-1]
    assert percentile(ordered, 0) == ordered[0]
    assert percentile(ordered, 1) == ordered[-1]


def test_percentiles_are_of_what_went_well() -> None:
    found = figures("put", series([Sample(0, 10, True), Sample(0, 20, True), Sample(0, 1, False)]))
    assert (found.count, found.errors) == (3, 1)
    assert (found.p50, found.slowest) == (15_000.0, 20_000.0)
    assert found.p99 == pytest.approx(19_900.0)


def test_where_nothing_went_well_there_are_no_percentiles() -> None:
    found = figures("put", series([Sample(0, 10, False)]))
    assert found == Figures("put", 1, 1, None, None, None, None)


@given(SAMPLES, MOMENTS)
def test_an_operation_counts_in_a_window_if_it_was_under_way_in_it(
    samples: list[Sample], window: list[int]
) -> None:
    start, end = window
    within = [each for each in samples if each.begin <= end and each.end >= start]
    found = figures_during("put", series(samples), start, end)
    good = sorted(each.ms * 1000.0 for each in within if each.ok)
    assert (found.count, found.errors) == (len(within), len(within) - len(good))
    assert found.p50 == (percentile(good, 0.5) if good else None)


@given(SAMPLES, SAMPLES, MOMENTS, st.integers(0, 20))
def test_what_follows_a_fault_is_told_by_the_definitions(
    puts: list[Sample], gets: list[Sample], reach: list[int], late: int
) -> None:
    requested, until = reach
    applied = requested + late
    ended = [each for each in puts + gets if requested <= each.end < until]
    errors = [each.end for each in ended if not each.ok]
    good = sorted(each.end for each in ended if each.ok)
    after = [end for end in good if errors and end > max(errors)]
    moments = [requested, *good, until]
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    assert aftermath([series(puts), series(gets)], requested, applied, until) == Aftermath(
        errors=len(errors),
        first_error=max(0, min(errors) - applied) if errors else None,
        recovery=max(0, min(after) - applied) if after else None,
        outage=max(gaps) if ended else None,
    )


def test_an_outage_in_words_and_numbers() -> None:
    """A fault at 10 s; the first error at 10.5, the last at 13.2, the next success at 13.4."""
    rows = [(9.9, 50, True), (10.2, 100, True), (10.45, 50, False), (12.2, 1000, False)]
    rows += [(13.3, 100, True), (14, 10, True)]
    lines = [f"{t},put,{ms},{'true' if ok else 'false'}" for t, ms, ok in rows]
    samples = read_samples("\n".join(["t,op,ms,ok", *lines]).encode().splitlines(keepends=True))
    found = aftermath(samples.series.values(), 9.99, 10.0, 14.1)
    assert found.errors == 2
    assert found.first_error == pytest.approx(0.5)
    assert found.recovery == pytest.approx(3.4)
    assert found.outage == pytest.approx(3.1)
