"""Whether the manager still answers: it is asked again and again, and dropped when it does not."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from syndicate.domain.errors import SyndicateError
from syndicate.wire.interface import IManager


@attrs.define(eq=False)
class Heartbeat:
    """Pings the manager of the present connection."""

    _clock: IReactorTime
    _manager: IManager | None = attrs.field(init=False, default=None)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)

    def start(self, manager: IManager, pause: float, deadline: float) -> None:
        """Ping this manager from now on, and no other.

        :param pause: seconds between an answer and the next ping.
        :param deadline: seconds within which it must answer.
        """
        self.stop()
        self._manager = manager
        self._timer = self._clock.callLater(
            pause, lambda: Deferred.fromCoroutine(self._ping(manager, pause, deadline))
        )

    def stop(self) -> None:
        """Ping no more."""
        self._manager = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def _ping(self, manager: IManager, pause: float, deadline: float) -> None:
        try:
            await manager.ping().addTimeout(deadline, self._clock)
        except (SyndicateError, TimeoutError):
            manager.drop()
            return
        if self._manager is manager:
            self.start(manager, pause, deadline)
