"""Times of another machine's clock by our own.

A peer's clock is looked at between two moments of ours, so what is to be added to it for our time
lies between two bounds; every look narrows them. How they are joined is that of Marzullo's
algorithm with one source (K. Marzullo, Maintaining the Time in a Distributed System, 1984).
"""

from __future__ import annotations

import math

import attrs

#: Seconds that two clocks may drift apart in one second: twice what quartz does.
DRIFT = 1e-4


@attrs.frozen
class Offset:
    """What to add to a peer's time: somewhere between two bounds, in seconds."""

    low: float = -math.inf
    high: float = math.inf
    #: When it was narrowed last, by our clock.
    at: float = 0.0

    @property
    def value(self) -> float:
        """The middle; 0 as long as nothing is known."""
        return (self.low + self.high) / 2 if math.isfinite(self.uncertainty) else 0.0

    @property
    def uncertainty(self) -> float:
        """How far the middle may be off; infinite as long as nothing is known."""
        return (self.high - self.low) / 2

    def seen(self, sent: float, theirs: float, heard: float) -> Offset:
        """After their clock has shown ``theirs`` between two moments of ours."""
        return self.narrowed(sent - theirs, heard - theirs, heard)

    def narrowed(self, low: float, high: float, now: float) -> Offset:
        """After new bounds were found. When they contradict the old ones, somebody has set a clock,
        and the old ones are worth nothing.
        """
        slack = DRIFT * max(0.0, now - self.at)
        both = max(low, self.low - slack), min(high, self.high + slack)
        return Offset(*(both if both[0] <= both[1] else (low, high)), now)
