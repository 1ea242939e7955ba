"""How often something may be asked for: so often in a second, and some at once."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IReactorTime

from syndicate.domain.errors import TooMany
from syndicate.domain.job import BURST


@attrs.define(eq=False)
class Rate:
    """A bucket that fills at a rate, and has room for `BURST` seconds' worth, but for one call at
    least.

    :param rate: calls in a second.
    :param what: is limited, for people.
    """

    _clock: IReactorTime
    _rate: float
    _what: str
    _left: float = attrs.field(init=False)
    _at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left, self._at = self._room, self._clock.seconds()

    @property
    def _room(self) -> float:
        return max(self._rate * BURST, 1.0)

    def take(self) -> TooMany | None:
        """Take one call out of it; gives the error to answer with if there is none."""
        now = self._clock.seconds()
        # A clock that is set back fills nothing, and takes nothing away.
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, self._room)
        self._at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return None
        wait = round((1.0 - self._left) / self._rate, 3)
        return TooMany(
            f"A client of this job may make {self._rate:g} {self._what} in a second, and has made "
            f"more; try again in {wait:g} s.",
            retry_after=wait,
        )
