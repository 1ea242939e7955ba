"""Times of a volunteer's clock by the manager's."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.timeline import DRIFT, Offset

moments = st.floats(0, 1e6)
#: From sending to their look at the clock, from there to hearing, and until the next exchange.
exchanges = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 600)), min_size=1)


def test_nothing_is_known_at_first() -> None:
    assert math.isinf(Offset().uncertainty)
    assert Offset().value == 0.0


@given(moments, exchanges, st.floats(-0.9, 0.9))
def test_the_true_offset_is_always_within_the_uncertainty(
    begin: float, exchanged: list[tuple[float, float, float]], drift: float
) -> None:
    found, now = Offset(), begin
    for there, back, pause in exchanged:
        sent, look, heard = now, now + there, now + there + back
        theirs = look * (1 + drift * DRIFT) + 1000
        found = found.seen(sent, theirs, heard)
        # What is found holds for a moment between sending and hearing.
        true = look - theirs
        assert abs(found.value - true) <= found.uncertainty + 10 * DRIFT + 1e-6
        assert found.uncertainty <= (heard - sent) / 2 + 1e-6
        now = heard + pause


def test_a_slow_answer_spoils_nothing_of_what_a_fast_one_has_shown() -> None:
    fast = Offset().seen(10.0, 1.0, 10.002)
    slow = fast.seen(11.0, 2.02, 11.04)
    assert slow.uncertainty < 0.0012
    assert abs(slow.value - 9.001) < 0.0012


def test_a_clock_that_was_set_is_believed_anew() -> None:
    before = Offset().seen(10.0, 1.0, 10.002)
    after = before.seen(3611.0, 2.0, 3611.004)
    assert (after.low, after.high) == (3609.0, 3609.004)


def test_what_has_happened_over_there_happened_before_it_was_heard_of() -> None:
    found = Offset().seen(10.0, 1.0, 10.04).narrowed(-math.inf, 9.01, 10.5)
    assert abs(found.high - 9.01) < 1e-9
    assert found.uncertainty < 0.006
