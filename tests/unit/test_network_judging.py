"""What was seen of packets proves a fault only if it is what the fault would do."""

from __future__ import annotations

import errno

import pytest

from syndicate.domain.fault import Links
from syndicate.network.judging import Asked
from syndicate.network.probe import Tally

PEER = "10.0.0.2"
NOTHING = Links()
CUT = Links(blocked=(PEER,))
HALF = Links(loss=((PEER, 50.0),))
SLOW = Links(rate=((PEER, 10_000.0),))
LATE = Links(delay=((PEER, 0.2),))
DEAF = Links(refused=(PEER,))


def tally(sent: int = 1, left: int = 0, turned: int = 0, error: int = 0, after: int = 50) -> Tally:
    return Tally(PEER, sent, left, turned, error, 1 if left else 0, after if left else -1)


def proves(links: Links, seen: Tally, heard: tuple[str, ...] | None = None) -> bool:
    return Asked.of(links, PEER).judge(seen, heard)[1]


@pytest.mark.parametrize(
    ("links", "seen"),
    [
        (NOTHING, tally(left=1)),
        (NOTHING, tally()),  # nobody answers for the address, and it waits
        (CUT, tally(turned=1)),
        (HALF, tally(50, left=25, turned=25)),
        (HALF, tally(50, left=32, turned=18)),
        (SLOW, tally(19, left=14, turned=5)),
        (LATE, tally(left=1, after=200_000)),
        (LATE, tally()),
    ],
)
def test_what_a_fault_would_do_proves_it(links: Links, seen: Tally) -> None:
    assert proves(links, seen)


@pytest.mark.parametrize(
    ("links", "seen"),
    [
        (NOTHING, tally(turned=1)),
        (NOTHING, tally(error=errno.ENETUNREACH)),
        (CUT, tally(left=1)),
        (CUT, tally()),
        (CUT, tally(sent=0, error=errno.ENETUNREACH)),
        (HALF, tally(50, left=50)),
        (HALF, tally(50, turned=50)),
        (SLOW, tally(19, left=19)),
        (LATE, tally(left=1)),
        (LATE, tally(left=1, after=900_000)),
        (LATE, tally(turned=1)),
    ],
)
def test_what_it_would_not_do_refutes_it(links: Links, seen: Tally) -> None:
    assert not proves(links, seen)


@pytest.mark.parametrize(
    ("links", "heard", "good"),
    [
        (DEAF, (), True),
        (DEAF, ("10.0.0.3",), True),
        (DEAF, (PEER,), False),
        (NOTHING, (PEER,), True),
        (NOTHING, (), False),
        (NOTHING, ("10.0.0.3",), False),
    ],
)
def test_what_comes_in_is_looked_at_too(links: Links, heard: tuple[str, ...], good: bool) -> None:
    assert proves(links, tally(left=1), heard) is good


def test_a_delay_that_goes_on_after_its_end_is_noticed() -> None:
    asked = Asked.of(NOTHING, PEER, [0.2])
    assert asked.judge(tally(left=1), None)[1]
    assert not asked.judge(tally(left=1, after=200_000), None)[1]
