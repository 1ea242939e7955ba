"""Answers that go on: written bit by bit, never faster than the reader takes them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

#: Seconds after which a quiet stream says that it is alive; proxies close silent ones.
HEARTBEAT = 15.0


@implementer(IPushProducer)
class Stream:
    """The body of one answer.

    :param heartbeat: what to write when nothing else was for `HEARTBEAT` seconds.
    """

    def __init__(self, request: Request, clock: IReactorTime, heartbeat: bytes = b"") -> None:
        self._request, self._clock, self._heartbeat = request, clock, heartbeat
        self.gone = False
        self._paused = False
        self._news = False
        self._waiting: Deferred[None] | None = None
        self._beat: IDelayedCall | None = None
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Accel-Buffering", b"no")
        request.notifyFinish().addBoth(self._finished)
        request.registerProducer(self, True)
        # The head goes out now, so that the reader sees at once that it is served.
        request.write(b"")
        self._restart()

    async def write(self, data: bytes) -> bool:
        """Write, and wait until more can be written; False when the reader is gone."""
        if not self.gone:
            self._request.write(data)
            self._restart()
        while self._paused and not self.gone:
            await self._wait()
        return not self.gone

    async def news(self) -> bool:
        """Wait for `wake`; at once when it was called since. False when the reader is gone."""
        while not self._news and not self.gone:
            await self._wait()
        self._news = False
        return not self.gone

    def wake(self) -> None:
        """There is something new to write."""
        self._news = True
        self._go_on()

    def end(self) -> None:
        """No more will be written."""
        self._stop_beat()
        if not self.gone:
            self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        """The reader is slow."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The reader has caught up."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """The reader is gone; `_finished` is called too."""

    def _wait(self) -> Deferred[None]:
        self._waiting = Deferred()
        return self._waiting

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _finished(self, _: Any) -> None:
        self.gone = True
        self._stop_beat()
        self._go_on()

    def _restart(self) -> None:
        self._stop_beat()
        if self._heartbeat and not self.gone:
            self._beat = self._clock.callLater(HEARTBEAT, self._pulse)

    def _pulse(self) -> None:
        if not self.gone and not self._paused:
            self._request.write(self._heartbeat)
        self._restart()

    def _stop_beat(self) -> None:
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
