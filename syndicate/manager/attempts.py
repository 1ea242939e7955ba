"""How often something may be tried from one address, in memory that is bounded for all of them."""

from __future__ import annotations

import collections

import attrs
from twisted.internet.interfaces import IReactorTime

#: Addresses that are remembered, those of late.
MOST_ADDRESSES = 4096


@attrs.define(eq=False)
class Attempts:
    """Counts what came from where; what is counted is forgotten again at a steady pace.

    :param most: that may come at once.
    :param span: seconds in which so many more may come.
    """

    _clock: IReactorTime
    most: int = 10
    span: float = 60.0
    #: By address: how many count now, and when that was so.
    _counts: collections.OrderedDict[str, tuple[float, float]] = attrs.field(
        init=False, factory=collections.OrderedDict
    )

    def count(self, address: str) -> bool:
        """Count one more; False once there are too many."""
        now = self._level(address) + 1
        self._counts[address] = (min(now, self.most + 1.0), self._clock.seconds())
        self._counts.move_to_end(address)
        if len(self._counts) > MOST_ADDRESSES:
            self._counts.popitem(last=False)
        return now <= self.most

    def too_many(self, address: str) -> bool:
        """Whether one more would be too many."""
        return self._level(address) + 1 > self.most

    def wait(self, address: str) -> float:
        """Seconds until one more may come."""
        return max(self._level(address) + 1 - self.most, 0.0) * self.span / self.most

    def _level(self, address: str) -> float:
        count, at = self._counts.get(address, (0.0, 0.0))
        return max(count - (self._clock.seconds() - at) * self.most / self.span, 0.0)
