"""Requests whose body goes where it belongs as it comes.

`twisted.web` gathers a whole body, in memory or in a temporary file, before it asks anybody. Here
somebody is asked as soon as the headers are in, and may refuse the body or take it in pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, AnyStr, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, parse_qs
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from syndicate.domain.errors import SyndicateError

log = Logger()

#: Bytes of a refused body, and of all that comes behind what is no request, that are read and
#: thrown away, so that their sender, who may not look for an answer before all is sent, comes to
#: see it; then the connection is broken.
PATIENCE = 64 << 20
#: Seconds that a peer has to send the head of a request.
HEAD_TIME = 30.0


class Sink(Protocol):
    """Takes a body; `IBlobWriter` is one."""

    def write(self, data: bytes, /) -> None:
        """The next bytes; what it raises refuses the rest."""

    def abandon(self) -> None:
        """No more will come. Called at the end of every request, after a good end too."""


#: Asked when the headers of a request are in: its method, uri, path, args and headers are set.
#: Also given the length of the body, None if that is not told. It returns where the body goes,
#: or None to have it gathered as usual; a `SyndicateError` refuses the request. Until a Deferred
#: has fired nothing more is read from the connection; it is cancelled when its sender goes away.
Begin = Callable[["StreamingRequest", int | None], Sink | Deferred[Sink] | None]

#: Turns an error into the body of an answer; sets the status and the headers.
Refuse = Callable[["StreamingRequest", SyndicateError], bytes]


class StreamingChannel(HTTPChannel):
    """One connection.

    The head of a request, which anybody can send, has to be there in time and must not be long:
    the usual time-out begins anew with every byte, and is for what comes between and behind.
    """

    #: Seconds in which the head of a request has to come, from its first byte on.
    head_time = HEAD_TIME
    #: Set by the site.
    site: StreamingSite
    #: Whether a request was refused before its end; none of what comes then is looked at.
    refused = False
    _discarded = 0
    #: When the head that is coming has to be there.
    _head_due: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        # TLS goes on reading after our end until the peer's, and what is read then would be
        # taken for the rest of a request that was none.
        transport: Any = self.transport
        if transport.disconnecting:
            self._discard(data)
        else:
            super().dataReceived(data)
            self._watch_head()

    def _watch_head(self) -> None:
        transport: Any = self.transport
        begun = self.line_mode and (self._buffer or self._receivedHeaderSize)
        if not begun or transport.disconnecting:
            self._let_head_be()
        elif self._head_due is None:
            self._head_due = self.callLater(self.head_time, self._too_late)

    def _let_head_be(self) -> None:
        due, self._head_due = self._head_due, None
        if due is not None and due.active():
            due.cancel()

    def allHeadersReceived(self) -> None:
        self._let_head_be()
        super().allHeadersReceived()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._let_head_be()
        super().connectionLost(reason)

    def _too_late(self) -> None:
        self._turn_away(b"408 Request Timeout")

    def lineLengthExceeded(self, line: bytes) -> None:
        self._turn_away(b"431 Request Header Fields Too Large")

    def _turn_away(self, status: bytes) -> None:
        """Answer what is no whole head and close, whether the other end does or not."""
        self._let_head_be()
        self.setTimeout(None)
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.loseConnection()
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)

    def lineReceived(self, line: bytes) -> None:
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self.lineLengthExceeded(line)
            return
        before = len(self.requests)
        super().lineReceived(line)
        if len(self.requests) > before:
            self.requests[-1].request_line = line

    def rawDataReceived(self, data: bytes) -> None:
        if self.refused:
            self._discard(data)
        else:
            super().rawDataReceived(data)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > PATIENCE:
            self.forceAbortClient()

    def allContentReceived(self) -> None:
        if not self.refused:
            super().allContentReceived()

    def hold(self) -> None:
        """Read nothing more from the connection; what was read already still comes."""
        self._networkProducer.pauseProducing()

    def go_on(self) -> None:
        """Read again, unless the peer takes none of its answers."""
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()


class StreamingRequest(Request):
    """A request that asks its site what to do with its body."""

    channel: StreamingChannel
    request_line: bytes = b""
    #: Where the body went, if it was not gathered; for whoever answers the request.
    sink: Sink | None = None
    _refused = False
    #: While it is not decided where the body goes: that; what has come of the body so far; and what
    #: to do about its end, if that has come.
    _deciding: Deferred[None] | None = None
    _early: list[bytes]
    _complete: Callable[[], None] | None = None

    def gotLength(self, length: int | None) -> None:
        self.method, self.uri, self.clientproto = self.request_line.split()
        self.path, _, query = self.uri.partition(b"?")
        self.args = parse_qs(query, True)
        try:
            begun = self.channel.site.begin(self, length)
            if isinstance(begun, Deferred):
                self._wait_for(begun)
            else:
                self.sink = begun
        except SyndicateError as error:
            self._refuse(error)
        streamed = self.sink is not None or self._refused or self._deciding is not None
        super().gotLength(0 if streamed else length)

    def _wait_for(self, begun: Deferred[Sink]) -> None:
        self._early = []
        self._deciding = begun.addCallbacks(self._take, self._turn_down)
        self._deciding.addErrback(lambda failure: log.failure("a body had no place", failure))
        if self._deciding.called:
            self._deciding = None
        else:
            self.channel.hold()

    def _take(self, sink: Sink) -> None:
        self._deciding, self.sink, early = None, sink, self._early
        if self._disconnected:
            self.sink.abandon()
            return
        for data in early:
            self.handleContentChunk(data)
        if not self._refused:
            self.channel.go_on()
            if self._complete is not None:
                self._complete()

    def _turn_down(self, failure: Failure) -> None:
        self._deciding = None
        if self._disconnected:
            return  # and nobody is there to be told
        failure.trap(SyndicateError)
        assert isinstance(failure.value, SyndicateError)
        self.channel.go_on()
        self._refuse(failure.value)

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """The last header of that name. Bytes of it that are no text are replaced: they are the
        peer's mistake, and not one of ours.
        """
        if isinstance(key, bytes):
            return super().getHeader(key)
        values = self.requestHeaders.getRawHeaders(key.encode("ascii"))
        return values[-1].decode("utf-8", "replace") if values else None

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        if self._deciding is not None:
            self._early.append(data)
            return
        if self.sink is None:
            super().handleContentChunk(data)
            return
        try:
            self.sink.write(data)
        except SyndicateError as error:
            self._refuse(error)

    def _refuse(self, error: SyndicateError) -> None:
        """Answer before the body has come; no other request can follow on the connection."""
        # The channel is out of reach once the answer is finished.
        self._refused = self.channel.refused = True
        self.channel.persistent = False
        body = self.channel.site.refuse(self, error)
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self.setHeader(b"Content-Length", str(len(body)).encode())
        self.write(body)
        self.finish()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._deciding is None:
            super().requestReceived(command, path, version)
        else:
            self._complete = lambda: super(StreamingRequest, self).requestReceived(
                command, path, version
            )

    def finish(self) -> None:
        self._let_go()
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        self._let_go()
        super().connectionLost(reason)
        if self._deciding is not None:
            self._deciding.cancel()

    def _let_go(self) -> None:
        if self.sink is not None:
            self.sink.abandon()


class StreamingSite(Site):
    """A site for streaming requests.

    :param reactor: for the time-outs of its connections.
    """

    # The usual one is a wrapper that can change to HTTP/2, which has no request line to stream by.
    protocol = StreamingChannel  # type: ignore[assignment]

    def __init__(self, resource: IResource, begin: Begin, refuse: Refuse, reactor: Any) -> None:
        super().__init__(resource, requestFactory=StreamingRequest, reactor=reactor)
        self.begin = begin
        self.refuse = refuse

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone; see ``protocol``."""
        return [b"http/1.1"]
