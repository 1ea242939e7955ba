"""Who is told when a job has a new event, or a longer log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable


class Feed:
    """Calls back subscribers of a job; they look up for themselves what is new."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[int, set[Callable[[], None]]] = defaultdict(set)

    def subscribe(self, job: int, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` after every stored event and log growth of a job.

        :returns: ends the subscription.
        """
        self._subscribers[job].add(callback)

        def end() -> None:
            self._subscribers[job].discard(callback)
            if not self._subscribers[job]:
                del self._subscribers[job]

        return end

    def publish(self, job: int) -> None:
        """Something new of a job can be read."""
        for callback in tuple(self._subscribers.get(job, ())):
            callback()
