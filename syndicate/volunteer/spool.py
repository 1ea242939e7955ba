"""A machine's output on its way to the manager: first on disk, then sent, then forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobTransfer
from syndicate.domain.errors import Conflict, Forbidden, NotFound, SyndicateError, TooLarge
from syndicate.domain.log import Frame, encode

log = Logger()

#: Seconds that output gathers before it is sent, so that many lines go at once.
GATHER = 0.05
#: Most bytes of one request.
PORTION = 256 << 10
#: Seconds between tries to reach a manager that is away.
RETRY = 1.0


@attrs.define(eq=False)
class Spool:
    """The log of one machine of one attempt.

    Output is written to a file at once, so that memory does not grow while the manager is slow
    or away; one request at a time carries it on.
    """

    _clock: IReactorTime
    _transfer: IBlobTransfer
    _path: Path
    _job: int
    _attempt: int
    _machine: str
    #: Bytes written, and bytes that the manager has confirmed.
    length: int = 0
    sent: int = 0
    #: Why what is spooled is not whole, if it is not.
    problem: str = ""
    _timer: IDelayedCall | None = None
    _sending: bool = False
    _closed: bool = False
    _flushed: list[Deferred[None]] = attrs.field(factory=list)
    _file: BinaryIO = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._file = self._path.open("w+b", buffering=0)

    def write(self, stream: int, data: bytes) -> None:
        """Take a piece of output."""
        if self._closed or self.problem:
            return
        frame = encode(Frame(self._clock.seconds(), stream, data))
        try:
            self._file.seek(self.length)
            rest = memoryview(frame)
            while rest:
                # A disk that becomes full takes a part first, and says so only to the next.
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # The disk is full: what came so far stays, and the report tells of the rest.
            self.problem = f"The volunteer could not keep the output: {error.strerror}."
            return
        self.length += len(frame)
        if not self._sending and self._timer is None:
            self._timer = self._clock.callLater(GATHER, self._send_soon)

    def flush(self) -> Deferred[None]:
        """Fires once the manager has everything that was written; keeps trying until then."""
        done: Deferred[None] = Deferred()
        if self.sent >= self.length:
            done.callback(None)
            return done
        self._flushed.append(done)
        if not self._sending:
            self._stop_timer()
            self._send_soon()
        return done

    def close(self) -> None:
        """Send no more and remove the file."""
        self._closed = True
        self._stop_timer()
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _send_soon(self) -> None:
        self._timer = None
        if not self._closed and not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send()).addErrback(
                lambda failure: log.failure("the log of a machine is not being sent", failure)
            )

    async def _send(self) -> None:
        try:
            while self.sent < self.length and not self._closed:
                self._file.seek(self.sent)
                portion = self._file.read(PORTION)
                self.sent = await self._append(portion)
        except (Forbidden, NotFound, TooLarge) as error:
            # The attempt is over and its log not wanted, or it is over its cap.
            log.warn("The rest of a log is let go: {why}", why=str(error))
            self.sent = self.length
        except SyndicateError as error:
            log.warn("The log waits for the manager: {why}", why=str(error))
            if not self._closed:
                self._timer = self._clock.callLater(RETRY, self._send_soon)
            return
        finally:
            self._sending = False
        flushed, self._flushed = self._flushed, []
        for done in flushed:
            done.callback(None)

    async def _append(self, portion: bytes) -> int:
        try:
            return await self._transfer.append_log(
                self._job, self._attempt, self._machine, self.sent, portion
            )
        except Conflict as error:
            # The manager holds another length than was thought, after a crash perhaps.
            length = error.details.get("length")
            if isinstance(length, int) and 0 <= length <= self.length and length != self.sent:
                return length
            raise
