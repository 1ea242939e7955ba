"""The door's HTTP: JSON in, JSON out, and server-sent events.

It stands on `twisted.web.http` alone. A tree of resources would cost a fault call more than
everything else that is done here for it.
"""

from __future__ import annotations

import json
import math
from typing import Any, Never

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from syndicate.client.calls import FAULTS, Calls
from syndicate.client.gate import Gate
from syndicate.client.stream import EventStream
from syndicate.domain.errors import (
    Internal,
    Invalid,
    NotFound,
    SyndicateError,
    TooLarge,
    Unavailable,
)

log = Logger()

#: Longest body of a request, in bytes.
BODY_CAP = 1 << 20
#: Bytes of a body over the cap that are read and thrown away, so that its sender, who may not
#: look for an answer before all is sent, comes to see it; then the connection is broken.
PATIENCE = 16 << 20

#: The verb behind a path, by method.
_VERBS = {
    b"GET": {b"/v1/job": "job", b"/v1/faults": "faults", b"/v1/events": "events"},
    b"POST": {
        b"/v1/finish": "finish",
        b"/v1/samples": "samples",
        b"/v1/marks": "mark",
        b"/v1/heal": "heal",
        **{f"/v1/faults/{kind}".encode(): kind for kind in FAULTS},
    },
}


def _not_a_number(text: str) -> Never:
    raise ValueError(f"{text} is no number")


_decoder = json.JSONDecoder(parse_constant=_not_a_number)


class DoorRequest(Request):
    """One request."""

    channel: DoorChannel

    def gotLength(self, length: int | None) -> None:
        self.body = bytearray()
        self._size = 0

    def handleContentChunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= BODY_CAP:
            self.body += data
        elif self._size > BODY_CAP + PATIENCE:
            self.channel.forceAbortClient()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self.query = path.partition(b"?")
        try:
            self._begin()
        except SyndicateError as error:
            self._refuse(error)

    def _begin(self) -> None:
        if self.channel.turned_away:
            self.channel.persistent = False
            raise Unavailable("The door has all the connections open that it serves; close some.")
        if self._size > BODY_CAP:
            raise TooLarge(f"The body of a request may have {BODY_CAP} bytes; send several.")
        verb, argument = self._asked()
        calls = self.channel.calls
        if verb == "events":
            EventStream(self, self.channel.clock, calls, argument, self._refuse)
            return
        key = self.getHeader(b"idempotency-key")
        token = None if key is None else key.decode("utf-8", "replace")
        answer = calls.call(verb, argument, token).addCallback(_encode)
        answer.addCallbacks(self._send, self._tell_failure)

    def _asked(self) -> tuple[str, Any]:
        """The verb and what goes with it.

        :raises NotFound: there is no such address.
        :raises Invalid: the body or the query is none.
        """
        verb = _VERBS.get(self.method, {}).get(self.path)
        if verb == "events":
            return verb, _after(self)
        if verb == "faults":
            return verb, _after(self) if self.query else None
        if verb == "samples":
            return verb, bytes(self.body)
        if verb is not None:
            return verb, _read(self.body)
        if self.path.startswith(b"/v1/faults/"):
            fault, _, rest = self.path[len(b"/v1/faults/") :].partition(b"/")
            which = fault.decode("utf-8", "replace")
            if self.method == b"POST" and rest == b"heal":
                return "heal", {**_read(self.body), "id": which}
            if self.method == b"GET" and fault and not rest and which not in FAULTS:
                return "show", which
        self._no_such_address()

    def _no_such_address(self) -> Never:
        shown = self.path[:100].decode("utf-8", "replace")
        for method, paths in _VERBS.items():
            if self.path in paths:
                self.setResponseCode(405)
                self.setHeader(b"Allow", method)
                raise Invalid(f"{shown} is asked for with {method.decode()}.")
        raise NotFound(f"There is nothing at {shown}.")

    def _send(self, data: bytes) -> None:
        if not self._disconnected:
            self.setHeader(b"Content-Type", b"application/json")
            self.setHeader(b"Content-Length", b"%d" % len(data))
            self.write(data)
            self.channel.finish_when_read(self)

    def _tell_failure(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, SyndicateError):
            log.failure("a request to a door failed: {path}", failure, path=self.path)
            error = Internal("The volunteer failed; its log tells more.")
        self._refuse(error)

    def _refuse(self, error: SyndicateError) -> None:
        if self.code == 200:
            self.setResponseCode(error.status)
        if "retry_after" in error.details:
            self.setHeader(b"Retry-After", b"%d" % math.ceil(error.details["retry_after"]))
        told = {"code": error.code, "message": error.message, "details": dict(error.details)}
        if not self.channel_is_kept:
            self.setHeader(b"Connection", b"close")
        self._send(_encode({"error": told}))

    @property
    def channel_is_kept(self) -> bool:
        """Whether another request may follow on the connection."""
        return self._disconnected or bool(self.channel.persistent)


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str).encode() + b"\n"


def _read(body: bytearray) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = _decoder.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body of the request is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Invalid("The body of the request is no JSON object.")
    return value


def _after(request: DoorRequest) -> int:
    """The number of the last event, or fault, that whoever asks has seen."""
    text = request.getHeader(b"last-event-id") or b"0"
    for pair in request.query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"after":
            text = value
    if not text.isdigit() or len(text) > 15:
        raise Invalid(f"They are asked for after the number of one, not {text[:100]!r}.")
    return int(text)


class DoorChannel(HTTPChannel):
    """One connection. It may be idle for as long as its client likes."""

    requestFactory = DoorRequest
    timeOut = None

    def __init__(self, gate: Gate, calls: Calls, clock: IReactorTime) -> None:
        super().__init__()
        self._gate, self.calls, self.clock = gate, calls, clock
        #: Whether it is one too many, and every request is refused.
        self.turned_away = gate.full
        self._choked = False
        self._unfinished: Request | None = None

    def finish_when_read(self, request: Request) -> None:
        """Finish a request as soon as its reader has read enough: else those who send requests
        and never read would fill our memory with answers.
        """
        if self._choked:
            self._unfinished = request
        else:
            request.finish()

    def pauseProducing(self) -> None:
        super().pauseProducing()
        self._choked = True

    def resumeProducing(self) -> None:
        self._choked = False
        super().resumeProducing()
        request, self._unfinished = self._unfinished, None
        if request is not None:
            request.finish()

    def connectionMade(self) -> None:
        super().connectionMade()
        self._gate.enter(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._unfinished = None
        super().connectionLost(reason)
        self._gate.leave(self)


class DoorSite(Factory):
    """Makes the connections."""

    noisy = False

    def __init__(self, gate: Gate, calls: Calls, clock: IReactorTime) -> None:
        self._gate, self._calls, self._clock = gate, calls, clock

    def buildProtocol(self, addr: object) -> DoorChannel | None:
        if self._gate.crowded:
            return None
        channel = DoorChannel(self._gate, self._calls, self._clock)
        channel.factory = self
        return channel

    def log(self, request: Request) -> None:
        """Say nothing: the job's events tell what was asked."""
