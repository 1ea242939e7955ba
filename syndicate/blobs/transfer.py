"""A volunteer's bytes on their way from and to the manager.

They move in threads of their own; the reactor's thread only says what is to be done, and decides
what becomes of a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from syndicate.blobs.connections import Door
from syndicate.blobs.exchanges import (
    BROKEN,
    held_at_manager,
    receive_blob,
    send_blob,
    send_log,
)
from syndicate.blobs.interface import IBlobStore, IBlobTransfer, IBlobWriter
from syndicate.blobs.names import check_digest, check_log
from syndicate.domain.errors import (
    Conflict,
    Internal,
    Invalid,
    StorageFull,
    StorageReadOnly,
    SyndicateError,
    TooMany,
    Unauthorized,
    Unavailable,
    VolunteerLost,
)

log = Logger()

T = TypeVar("T")

#: Threads, and so connections, at once.
THREADS = 3

#: Seconds without any progress after which a download or an upload is given up.
DEADLINE = 60.0

#: The same while the manager answers that it has no room: an operator has to see to that, and what
#: is being sent is nowhere else.
FULL_DEADLINE = 3600.0

#: Seconds before the second try; each later one waits twice as long, up to the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

#: Refusals that may be over at the next try: a manager that starts or stops, a session that is
#: about to be renewed, another writer of the same blob.
PASSING = (Unavailable, Unauthorized, Internal, Conflict)


@attrs.define(eq=False)
class Trials:
    """How long a transfer has been tried without getting any further."""

    _clock: IReactorTime
    _what: str
    #: Whether the other side's full disk is waited for: what is sent is nowhere else.
    _through_full: bool = False
    #: When there was progress last, how far it had got, and the seconds before the next try.
    _since: float = attrs.field(init=False)
    _reached: int = attrs.field(init=False, default=0)
    _pause: float = attrs.field(init=False, default=FIRST_PAUSE)

    def __attrs_post_init__(self) -> None:
        self._since = self._clock.seconds()

    def pause(self, error: Exception, reached: int) -> float:
        """Seconds to wait before the next try.

        :param reached: bytes that have arrived by now.
        :raises VolunteerLost: there were enough of them; the link was broken each time.
        :raises SyndicateError: the same, and it was the manager who refused.
        """
        if isinstance(error, SyndicateError) and (
            (isinstance(error, StorageFull) and not self._through_full)
            or not isinstance(error, PASSING)
        ):
            raise error
        now = self._clock.seconds()
        full = isinstance(error, StorageFull | StorageReadOnly | TooMany)
        if reached > self._reached:
            self._since, self._reached, self._pause = now, reached, FIRST_PAUSE
        if now - self._since >= (FULL_DEADLINE if full else DEADLINE):
            if isinstance(error, SyndicateError):
                raise error
            raise lost(self._what, error)
        log.debug("{what} is tried again: {error}", what=self._what, error=error)
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause


def lost(what: str, error: Exception) -> VolunteerLost:
    """The error for a manager who cannot be reached."""
    return VolunteerLost(
        f"{what} was given up: the manager cannot be reached ({error!r}). "
        "Check the network between the two."
    )


@implementer(IBlobTransfer)
class HttpsTransfer:
    """Moves bytes over HTTPS.

    :param reactor: whose thread this is used from.
    :param ca_file: the cluster's authority, the only one that is trusted.
    :param bearer: gives the present session's token.
    :param clock: for deadlines and the pauses between tries.
    :raises Invalid: the authority's file cannot be used.
    """

    def __init__(
        self,
        reactor: IReactorThreads,
        host: str,
        port: int,
        ca_file: Path,
        bearer: Callable[[], str],
        clock: IReactorTime,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._bearer = bearer
        self._door = Door.of(host, port, ca_file)
        self._pool = ThreadPool(0, THREADS, "transfer")
        self._downloads: dict[tuple[str, int], list[Deferred[Path]]] = {}
        self._under_way: set[Deferred[Any]] = set()
        self._pauses: set[Deferred[None]] = set()
        #: Fired when nothing is under way any more.
        self._ended: list[Deferred[None]] = []
        self._closed = False

    def download(self, sha256: str, size: int, store: IBlobStore) -> Deferred[Path]:
        answer: Deferred[Path] = Deferred()
        key = sha256, id(store)
        waiting = self._downloads.setdefault(key, [])
        waiting.append(answer)
        if len(waiting) == 1:

            def tell(result: Path | Failure) -> None:
                for each in self._downloads.pop(key):
                    each.callback(result)

            self._start(self._download(sha256, size, store)).addBoth(tell)
        return answer

    async def _download(self, sha256: str, size: int, store: IBlobStore) -> Path:
        if store.size(sha256) is None:
            writer = store.write(sha256, size)
            resumed = writer.offset > 0
            try:
                await self._bring(sha256, size, writer)
            except Invalid:
                if not resumed:
                    raise
                # What an earlier try had left was damaged; it has been forgotten by now.
                await self._bring(sha256, size, store.write(sha256, size))
        return store.path(sha256)

    async def _bring(self, sha256: str, size: int, writer: IBlobWriter) -> None:
        trials = Trials(self._clock, f"The download of {sha256[:12]}…")
        try:
            while writer.offset < size:
                try:
                    await self._exchange(receive_blob, sha256, size, writer)
                except (*BROKEN, SyndicateError) as error:
                    await self._sleep(trials.pause(error, writer.offset))
            await writer.finish()
        finally:
            writer.abandon()

    def upload(self, path: Path, sha256: str) -> Deferred[None]:
        return self._start(self._upload(path, sha256))

    async def _upload(self, path: Path, sha256: str) -> None:
        check_digest(sha256)
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            raise Invalid(f"{path} cannot be read: {error.strerror}.") from error
        with file:
            await self._bring_there(sha256, os.fstat(file.fileno()).st_size, file)

    async def _bring_there(self, sha256: str, size: int, file: BinaryIO) -> None:
        trials = Trials(self._clock, f"The upload of {sha256[:12]}…", through_full=True)
        held, damaged = 0, False
        while True:
            try:
                found = await self._exchange(held_at_manager, sha256)
                if found is None:
                    return
                held = found if found <= size else 0
                await self._exchange(send_blob, sha256, size, file, held)
            except Invalid:
                if damaged or not held:
                    raise
                # What an earlier try had left there was; it has been forgotten by now.
                damaged = True
            except (*BROKEN, SyndicateError) as error:
                await self._sleep(trials.pause(error, held))
            else:
                return

    def append_log(
        self, job: int, attempt: int, machine: str, offset: int, data: bytes
    ) -> Deferred[int]:
        return self._start(self._append_log(job, attempt, machine, offset, data))

    async def _append_log(
        self, job: int, attempt: int, machine: str, offset: int, data: bytes
    ) -> int:
        name = check_log(job, attempt, machine)
        try:
            return await self._exchange(send_log, name, offset, data)
        except BROKEN as error:
            # Not tried again here: whoever keeps the log does, with more of it by then.
            raise lost(f"A log of {machine} in job {job}", error) from error

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closed = True
        self._door.close()
        for pause in list(self._pauses):
            pause.cancel()
        if self._under_way:
            ended: Deferred[None] = Deferred()
            self._ended.append(ended)
            await ended
        if self._pool.started:
            # All of its threads are idle by now.
            self._pool.stop()

    def _start(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Do something that `close` waits for, and that no caller can cancel half way."""
        answer: Deferred[T] = Deferred()
        running = Deferred.fromCoroutine(work)
        self._under_way.add(running)
        running.addBoth(lambda result: self._end(running, result)).addBoth(answer.callback)
        return answer

    def _end(self, running: Deferred[Any], result: Any) -> Any:
        self._under_way.discard(running)
        if not self._under_way:
            ended, self._ended = self._ended, []
            for each in ended:
                each.callback(None)
        return result

    async def _exchange(self, exchange: Callable[..., T], *arguments: Any) -> T:
        """Have a thread say something to the manager."""
        self._check_open()
        token = self._bearer()

        def talk() -> T:
            with self._door.connection() as connection:
                return exchange(connection, token, *arguments)

        if not self._pool.started:
            self._pool.start()
        try:
            done: Deferred[T] = deferToThreadPool(self._reactor, self._pool, talk)
            return await done
        except BROKEN:
            # It was broken off from here, more likely than not.
            self._check_open()
            raise

    async def _sleep(self, seconds: float) -> None:
        self._check_open()
        pause: Deferred[None] = deferLater(self._clock, seconds, lambda: None)
        self._pauses.add(pause)
        try:
            await pause
        except CancelledError:
            self._check_open()
            raise
        finally:
            self._pauses.discard(pause)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("The transfer was broken off: this side is stopping.")
