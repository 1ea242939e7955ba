"""Quantities as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.quantities import parse_span, say_span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0s"),
        (0.000259, "0.259ms"),
        (0.0588, "58.8ms"),
        (0.48, "480ms"),
        (-0.002, "-2ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1.234, "1.23s"),
        (9.999, "10s"),
        (59.7, "1m"),
        (90, "1m30s"),
        (90000, "1d1h"),
    ],
)
def test_a_span_has_three_digits_or_whole_seconds(seconds: float, said: str) -> None:
    assert say_span(seconds) == said


@given(st.floats(min_value=1e-5, max_value=9.99))
def test_a_short_span_is_read_back_as_what_was_meant(seconds: float) -> None:
    assert parse_span(say_span(seconds)) == pytest.approx(seconds, rel=0.01)
