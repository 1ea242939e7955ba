"""A job's events as server-sent events: as they happen, never faster than they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from syndicate.client.calls import Calls
from syndicate.domain.errors import SyndicateError, Timeout, Unavailable, VolunteerLost

log = Logger()

#: Seconds after which a quiet stream says that it is alive.
HEARTBEAT = 15.0
#: Seconds between tries to hear of events while the manager is away.
RETRY = 1.0
#: Seconds until the next question when none has happened within one.
PAUSE = 0.05


@implementer(IPushProducer)
class EventStream:
    """One answer. It ends with an event ``end`` that says why.

    :param after: the number of the event that was seen last.
    :param refuse: answers with an error, as long as nothing has been written.
    """

    def __init__(
        self,
        request: Request,
        clock: IReactorTime,
        calls: Calls,
        after: int,
        refuse: Callable[[SyndicateError], None],
    ) -> None:
        self._request, self._clock, self._calls = request, clock, calls
        self._after, self._refuse = after, refuse
        self._beat: IDelayedCall | None = None
        self._paused: Deferred[None] | None = None
        self._gone = False
        request.notifyFinish().addErrback(self._lost)
        self._doing = Deferred.fromCoroutine(self._run())
        self._doing.addErrback(lambda failure: log.failure("a stream of events broke off", failure))

    async def _run(self) -> None:
        try:
            await self._answer()
        except CancelledError:
            pass  # by `_lost`
        finally:
            self._stop_beat()

    async def _answer(self) -> None:
        try:
            await self._calls.call("job")  # whether its client may ask for anything
        except SyndicateError as error:
            if not self._gone:
                self._refuse(error)
            return
        if self._gone:
            return
        self._request.setHeader(b"Content-Type", b"text/event-stream")
        self._request.setHeader(b"Cache-Control", b"no-store")
        self._request.registerProducer(self, True)
        self._write(b": here\n\n")
        why = await self._follow()
        if not self._gone:
            data = json.dumps({"code": why.code, "message": why.message}, ensure_ascii=False)
            self._request.write(f"event: end\ndata: {data}\n\n".encode())
            self._request.unregisterProducer()
            self._request.finish()

    async def _follow(self) -> SyndicateError:
        """Write what happens until there is nothing more to hear of; gives the reason."""
        while True:
            try:
                events = await self._calls.call("events", self._after)
            except (Timeout, Unavailable, VolunteerLost):
                await deferLater(self._clock, RETRY)
                continue
            except SyndicateError as error:
                return error
            if events:
                self._write(b"".join(map(_as_text, events)))
                self._after = events[-1]["n"]
            else:
                await deferLater(self._clock, PAUSE)
            if self._paused is not None:
                await self._paused

    def _write(self, data: bytes) -> None:
        if not self._gone:
            self._request.write(data)
        self._stop_beat()
        self._beat = self._clock.callLater(HEARTBEAT, self._pulse)

    def _pulse(self) -> None:
        if self._paused is None:
            self._write(b": alive\n\n")
        else:
            self._beat = self._clock.callLater(HEARTBEAT, self._pulse)

    def _stop_beat(self) -> None:
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = None

    def _lost(self, failure: Failure) -> None:
        """The reader is gone."""
        self._gone = True
        self._doing.cancel()

    def pauseProducing(self) -> None:
        """The reader is slow."""
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        """The reader has caught up."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        """The reader is gone; `_lost` is called too."""


def _as_text(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, ensure_ascii=False)
    return f"id: {event['n']}\nevent: {event['kind']}\ndata: {data}\n\n".encode()
