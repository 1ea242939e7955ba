"""Who is told when a job has a new event, or a longer log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


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

    def until(
        self, job: int, there: Callable[[], bool], clock: IReactorTime, seconds: float
    ) -> Deferred[bool]:
        """Wait, but not for ever, for what comes with an event of a job.

        :param there: asked now, and whenever something is new.
        :returns: fires with True once it is there, and with False after so many seconds, or at once
            when it is cancelled.
        """
        over: Deferred[bool] = Deferred(lambda waiting: waiting.callback(False))

        def look() -> None:
            if not over.called and there():
                over.callback(True)

        def end(result: bool) -> bool:
            unsubscribe()
            if timer.active():
                timer.cancel()
            return result

        unsubscribe = self.subscribe(job, look)
        timer = clock.callLater(seconds, over.cancel)
        over.addBoth(end)
        look()
        return over

    def publish(self, job: int) -> None:
        """Something new of a job can be read."""
        for callback in tuple(self._subscribers.get(job, ())):
            callback()
