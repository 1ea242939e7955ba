"""The decoder of Banana: what it makes of what Twisted sends, and what it never begins to make."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.spread.decoder import Bounds, Decoder, Violation
from tests.support.banana import encoded

BOUNDS = Bounds(string=1000, message=4000, items=100, depth=5, calls=1)

ITEMS = st.one_of(
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.binary(max_size=50),
    st.sampled_from([b"message", b"tuple", b"None"]),
)
VALUES = st.recursive(ITEMS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def depth_of(value: Any) -> int:
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def size_of(value: Any) -> int:
    return 1 + sum(map(size_of, value)) if isinstance(value, list) else 1


def decode(pieces: list[bytes], bounds: Bounds = BOUNDS) -> list[Any]:
    found: list[Any] = []
    decoder = Decoder(bounds, found.append)
    for piece in pieces:
        decoder.feed(piece)
    return found


@given(st.lists(VALUES, max_size=4), st.integers(1, 40))
def test_what_twisted_sends_arrives_however_it_is_cut_up(values: list[Any], cut: int) -> None:
    data = b"".join(map(encoded, values))
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    wide = Bounds(string=1000, message=100_000, items=1000, depth=50, calls=1)
    assert decode(pieces, wide) == values


@given(st.binary(max_size=300), st.integers(1, 40))
def test_nothing_beyond_the_bounds_is_ever_made(data: bytes, cut: int) -> None:
    bounds = Bounds(string=8, message=60, items=10, depth=3, calls=1)
    found: list[Any] = []
    decoder = Decoder(bounds, found.append)
    try:
        for at in range(0, len(data), cut):
            decoder.feed(data[at : at + cut])
            assert len(decoder._buffer) <= 12
    except Violation:
        pass
    for value in found:
        assert depth_of(value) <= 3
        assert size_of(value) <= 10


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (encoded([b"x" * 900] * 5), "more than 4000 bytes"),
        (encoded([1] * 100), "more than 100 items"),
        (encoded([[1] * 40, [1] * 60]), "more than 100 items"),
        (encoded([[[[[[1]]]]]]), "more than 5 lists"),
        (encoded(b"x" * 1001), "a string of 1001 bytes"),
        (encoded([[]] * 100), "more than 100 items"),
        # Each list is within the bound when it begins, and what follows the inner one is not.
        (encoded([[1] * 50, *[1] * 60]), "more than 100 items"),
        (b"\x7f" * 8 + b"\x82", "a string of"),
        (b"\x7f" * 8 + b"\x80", "more than 100 items"),
        (b"\x01" * 10, "more than 9 digits"),
        (b"\x01" * 10 + b"\x81", "more than 9 digits"),
        (b"\x7f\x87", "unknown kind"),
        (b"\x01\xff", "unknown kind"),
    ],
)
def test_what_goes_beyond_a_bound_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(Violation, match=why):
        decode([data])


def test_a_string_that_is_announced_too_long_is_refused_before_it_comes() -> None:
    announced = encoded(b"x" * 1001)[:3]
    with pytest.raises(Violation, match="1001 bytes"):
        decode([announced])


def test_what_is_at_its_bounds_passes() -> None:
    values = [[[[[[1]]]]][0], [1] * 99, b"x" * 1000, [b"x" * 900] * 4]
    assert decode(list(map(encoded, values))) == values


def test_a_peer_that_only_opens_lists_costs_no_memory() -> None:
    data = b"\x01\x80" * 1_000_000
    tracemalloc.start()
    with pytest.raises(Violation):
        decode([data])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_what_comes_byte_by_byte_costs_no_more_than_its_bytes() -> None:
    """A string that arrives in a million pieces is not copied a million times."""
    bounds = Bounds(string=1 << 20, message=2 << 20, items=10, depth=1, calls=1)
    found: list[Any] = []
    decoder = Decoder(bounds, found.append)
    for byte in encoded(b"x" * 600_000):
        decoder.feed(bytes([byte]))
    assert found == [b"x" * 600_000]
