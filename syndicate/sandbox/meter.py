"""Counting the processor time of a run."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two looks: at least, and at the most.
_SHORTEST = 0.05
_LONGEST = 60.0


class Meter:
    """Tells when a run has used up its processor time.

    It need not look often: with all of the host's cores busy it takes a while to use up the rest.

    :param read: gives the seconds used so far, by whatever was in the group before as well; None
        once nobody counts any more.
    :param limit: seconds that may be used from now on.
    """

    def __init__(
        self,
        clock: IReactorTime,
        read: Callable[[], float | None],
        limit: float,
        when_over: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._read = read
        self._when_over = when_over
        self._cores = os.cpu_count() or 1
        self._end = (read() or 0.0) + limit
        self._timer: IDelayedCall | None = None
        self._look()

    def _look(self) -> None:
        self._timer = None
        used = self._read()
        if used is None:
            return
        left = self._end - used
        if left <= 0:
            self._when_over()
            return
        wait = min(max(left / self._cores, _SHORTEST), _LONGEST)
        self._timer = self._clock.callLater(wait, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
