"""The manager's side of blobs over HTTPS: sends them, and takes them as they come.

Used with `syndicate.blobs.streaming`; who may do what is found out by whoever calls this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from typing import BinaryIO

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPullProducer
from twisted.web.http import Request
from zope.interface import implementer

from syndicate.blobs.interface import IBlobStore, IBlobWriter
from syndicate.blobs.streaming import StreamingRequest
from syndicate.domain.errors import Conflict, Invalid, TooLarge

#: Bytes sent at a time: with more, the reactor does nothing else for longer; with fewer, it sends
#: less in a second.
CHUNK = 128 << 10

_RANGE = re.compile(r"bytes=(\d{1,18})-")


async def send_blob(request: Request, store: IBlobStore, sha256: str) -> bytes:
    """Answer a GET or a HEAD for a blob, except for the end of the request.

    A HEAD for one that is not whole tells how much of it is held in ``X-Syndicate-Held``, then
    fails like a GET. Of ranges, only ``bytes=N-`` is known.

    :returns: nothing more to send; for handlers that return the rest of their answer.
    :raises NotFound: it is not held whole.
    :raises Invalid: the range begins behind the end.
    """
    if store.size(sha256) is None:
        request.setHeader(b"X-Syndicate-Held", str(store.held(sha256)).encode())
    with store.open(sha256) as file:
        size = file.seek(0, os.SEEK_END)
        start = _start(request, size)
        request.setHeader(b"Content-Type", b"application/octet-stream")
        request.setHeader(b"Accept-Ranges", b"bytes")
        request.setHeader(b"Content-Length", str(size - start).encode())
        if request.method != b"HEAD" and start < size:
            file.seek(start)
            await _send(request, file)
    return b""


def _start(request: Request, size: int) -> int:
    found = _RANGE.fullmatch(request.getHeader("range") or "")
    if found is None:
        return 0
    start = int(found[1])
    if start >= size:
        request.setHeader(b"Content-Range", f"bytes */{size}".encode())
        raise Invalid(f"The blob has {size} bytes, so none from {start} on.")
    request.setResponseCode(206)
    request.setHeader(b"Content-Range", f"bytes {start}-{size - 1}/{size}".encode())
    return start


def _send(request: Request, file: BinaryIO) -> Deferred[None]:
    consumer = IConsumer(request)
    producer = _FileProducer(consumer, file)
    # Not from `stopProducing`, which comes before the request knows that its reader is gone.
    request.notifyFinish().addErrback(lambda _: producer.end())
    consumer.registerProducer(producer, False)
    return producer.sent


@implementer(IPullProducer)
@attrs.define(eq=False)
class _FileProducer:
    """Sends the rest of a file whenever there is room for more."""

    _consumer: IConsumer
    _file: BinaryIO
    #: Fires at the end, or when the reader is gone.
    sent: Deferred[None] = attrs.field(factory=Deferred)

    def resumeProducing(self) -> None:
        """Send some more."""
        if self.sent.called:
            return
        data = self._file.read(CHUNK)
        if data:
            self._consumer.write(data)
        else:
            self._consumer.unregisterProducer()
            self.end()

    def stopProducing(self) -> None:
        """Nothing can be sent any more."""

    def end(self) -> None:
        """All is sent, or the reader is gone."""
        if not self.sent.called:
            self.sent.callback(None)


@attrs.define(eq=False)
class Upload:
    """The body of a PUT of a blob on its way into the store."""

    #: None when the store has the blob already, and the body is not looked at.
    _writer: IBlobWriter | None
    _size: int
    #: Bytes of the body that the store has of an earlier try.
    _skip: int = 0

    @property
    def new(self) -> bool:
        """Whether the blob was not held before."""
        return self._writer is not None

    def write(self, data: bytes) -> None:
        """See `syndicate.blobs.streaming.Sink`."""
        if self._writer is None:
            return
        fresh = data[self._skip :]
        self._skip -= len(data) - len(fresh)
        if fresh:
            self._writer.write(fresh)

    def abandon(self) -> None:
        """See `syndicate.blobs.streaming.Sink`."""
        if self._writer is not None:
            self._writer.abandon()

    def finish(self) -> Deferred[int]:
        """See `IBlobWriter.finish`."""
        return succeed(self._size) if self._writer is None else self._writer.finish()


async def let_in(size: int) -> None:
    """Anybody may send anything."""


async def begin_upload(
    request: StreamingRequest,
    length: int | None,
    store: IBlobStore,
    sha256: str,
    admit: Callable[[int], Awaitable[None]] = let_in,
) -> Upload:
    """Where the body of a PUT of a blob goes; for `syndicate.blobs.streaming.Begin`.

    ``X-Syndicate-Size`` is the blob's size and ``X-Syndicate-Offset`` where the body begins in
    it; without them the body is all of the blob.

    :param admit: called with the size of a blob that is to come, and waited for; what it raises is
        answered.
    :raises Conflict: another request is writing it; or ``details["held"]`` bytes are held, and
        the body begins behind them.
    :raises SyndicateError: see `IBlobStore.write`.
    """
    offset = _number(request, "X-Syndicate-Offset", 0)
    size = _number(request, "X-Syndicate-Size", length)
    if length is not None and length != size - offset:
        raise Invalid(f"A body of {length} bytes cannot be the rest of {size} from {offset} on.")
    if store.size(sha256) is not None:
        return Upload(None, size)
    await admit(size)
    writer = store.write(sha256, size)
    if writer.offset < offset:
        held = writer.offset
        writer.abandon()
        raise Conflict(f"{held} bytes of the blob are held; go on from there.", held=held)
    return Upload(writer, size, writer.offset - offset)


def _number(request: Request, header: str, otherwise: int | None) -> int:
    value = request.getHeader(header)
    if value is None and otherwise is not None:
        return otherwise
    if value is None or not re.fullmatch(r"[0-9]{1,18}", value):
        raise Invalid(f"The header {header} must be a number of bytes, not {value!r}.")
    return int(value)


@attrs.define(eq=False)
class Gathered:
    """A body that is kept in memory, up to a cap; for small ones, which then need no file.

    :param cap: most bytes of it.
    """

    _cap: int
    data: bytearray = attrs.field(init=False, factory=bytearray)

    def write(self, data: bytes) -> None:
        """See `syndicate.blobs.streaming.Sink`."""
        if len(self.data) + len(data) > self._cap:
            raise TooLarge(f"The body of this request is over {self._cap} bytes.")
        self.data += data

    def abandon(self) -> None:
        """See `syndicate.blobs.streaming.Sink`."""
