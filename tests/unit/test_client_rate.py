"""How often clients may ask."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from syndicate.client.rate import Rate
from syndicate.domain.job import BURST


def test_a_burst_is_let_through_and_the_rate_after_it() -> None:
    clock = Clock()
    rate = Rate(clock, 10.0, "calls")
    taken = list(itertools.takewhile(lambda refused: refused is None, iter(rate.take, ...)))
    assert len(taken) == 10 * BURST
    refused = rate.take()
    assert refused is not None
    assert (refused.code, refused.status) == ("too_many", 429)
    assert refused.details["retry_after"] == 0.1
    clock.advance(0.1)
    assert rate.take() is None
    assert rate.take() is not None


def test_a_slow_rate_lets_one_call_through() -> None:
    clock = Clock()
    rate = Rate(clock, 0.1, "calls")
    assert rate.take() is None
    refused = rate.take()
    assert refused is not None
    clock.advance(refused.details["retry_after"])
    assert rate.take() is None


@given(
    st.floats(0.1, 1000),
    st.lists(st.floats(0, 2), max_size=100),
)
def test_no_pattern_of_calls_gets_more_than_burst_and_rate(
    per_second: float, pauses: list[float]
) -> None:
    clock = Clock()
    rate = Rate(clock, per_second, "calls")
    taken = 0
    for pause in pauses:
        clock.advance(pause)
        taken += rate.take() is None
    assert taken <= max(per_second * BURST, 1) + per_second * sum(pauses) + 1e-6
