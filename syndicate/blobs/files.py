"""Blobs as files: ``ab/<sha256>``, ``partial/<sha256>`` while they are being written, and ``gone``
when they are to be removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from zope.interface import implementer

from syndicate.blobs import sweeping
from syndicate.blobs.interface import IBlobStore, IBlobWriter
from syndicate.blobs.names import check_announced, check_digest
from syndicate.blobs.writer import FileBlobWriter, Place, storage_error
from syndicate.domain.errors import Conflict, NotFound, StorageFull

T = TypeVar("T")

#: For there, where `list` is a method.
Names = list[str]

PARTIAL = "partial"
GONE = "gone"

#: Seconds after which an unfinished write that nobody goes on with is given up.
GIVEN_UP = 24 * 3600.0

#: Identifies this run of the kernel.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@implementer(IBlobStore)
class FileBlobStore:
    """Keeps blobs below one directory; safe to use from several threads.

    :param directory: made when it is not there.
    :param blob_limit: most bytes of one blob.
    :param reactor: whose threads do what waits for the disk.
    :param reserve: bytes of the disk that are left to others.
    :param durable: whether a blob survives a power cut once its writer is finished. A cache can
        do without and be much faster: what lay in it when the machine went down is checked
        before it is used again.
    """

    def __init__(
        self,
        directory: Path,
        blob_limit: int,
        reactor: IReactorThreads,
        *,
        durable: bool = True,
        reserve: int = 0,
    ) -> None:
        self._directory = directory
        self._limit = blob_limit
        self._reactor = reactor
        self._threads = sweeping.Threads(reactor)
        self._durable = durable
        self._reserve = reserve
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        #: For each sweep under way: what has been used since it began.
        self._used: list[set[str]] = []
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            (directory / PARTIAL).mkdir(mode=0o700, exist_ok=True)
            if not durable:
                self._distrust_after_boot()
        except OSError as error:
            raise storage_error(directory, error) from error

    def _distrust_after_boot(self) -> None:
        """Without fsync a file can come out of a power cut with its name and not its bytes."""
        mark, boot = self._directory / "boot", _BOOT_ID.read_text()
        if mark.exists() and mark.read_text() == boot:
            return
        for sha256 in self.list():
            # Whoever wants it next finishes it: nothing is lacking, but its digest is checked.
            self._path(sha256).rename(self._partial(sha256))
        mark.write_text(boot)

    def size(self, sha256: str) -> int | None:
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def held(self, sha256: str) -> int:
        if self.size(sha256) is not None:
            return 0
        try:
            return self._partial(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, sha256: str, size: int) -> IBlobWriter:
        check_announced(sha256, size, self._limit, self.size(sha256))
        with self._lock:
            if sha256 in self._in_hand:
                raise Conflict(f"The blob {sha256[:12]}… is being written already; wait for that.")
            self._in_hand.add(sha256)
        self._note_use(sha256)
        try:
            self._check_room(sha256, size)
            place = Place(self._path(sha256), self._partial(sha256))
            return FileBlobWriter(
                self._reactor, place, sha256, size, self._durable, lambda: self._let_go(sha256)
            )
        except BaseException:
            self._let_go(sha256)
            raise

    def _let_go(self, sha256: str) -> None:
        with self._lock:
            self._in_hand.discard(sha256)

    def _check_room(self, sha256: str, size: int) -> None:
        lacking = size - (self.size(sha256) or self.held(sha256))
        if lacking > (free := self.free()):
            raise StorageFull(
                f"{self._directory} has room for {free} more bytes, and the blob "
                f"{sha256[:12]}… needs {lacking}. Free some room and try again."
            )

    def free(self) -> int:
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise storage_error(self._directory, error) from error
        return max(0, free - self._reserve)

    def used(self, sha256: str) -> float | None:
        try:
            return self._path(sha256).stat().st_mtime
        except FileNotFoundError:
            return None

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        def run() -> T:
            try:
                return work()
            except OSError as error:
                raise storage_error(self._directory, error) from error

        return self._threads.run(run)

    def total(self) -> Deferred[int]:
        return self._in_thread(self._total)

    def _total(self) -> int:
        total = 0
        for path in (*sweeping.blobs(self._directory), *self._partials()):
            if self._threads.closed:
                break
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def open(self, sha256: str) -> BinaryIO:
        with self._use(sha256) as path:
            return path.open("rb")

    def path(self, sha256: str) -> Path:
        with self._use(sha256) as path:
            return path

    def _note_use(self, sha256: str) -> None:
        for used in tuple(self._used):
            used.add(sha256)

    @contextlib.contextmanager
    def _use(self, sha256: str) -> Iterator[Path]:
        path = self._path(sha256)
        self._note_use(sha256)
        try:
            # The time of modification, which an immutable file has no other use for.
            try:
                os.utime(path)
            except OSError as error:
                # Reading goes on, from a disk that takes no writes as well.
                if error.errno == errno.ENOENT:
                    raise
            yield path
        except FileNotFoundError as error:
            raise NotFound(f"The blob {sha256} is not held here.") from error

    def delete(self, sha256: str) -> Deferred[None]:
        path = self._path(sha256)
        return Deferred.fromCoroutine(self._delete(path))

    async def _delete(self, path: Path) -> None:
        if self._hide(path):
            await self._in_thread(self._empty)

    def list(self) -> list[str]:
        return [path.name for path in sweeping.blobs(self._directory)]

    def sweep(
        self, keep: Callable[[], frozenset[str]], capacity: int, since: float | None = None
    ) -> Deferred[Sequence[str]]:
        return Deferred.fromCoroutine(self._sweep(keep, capacity, since))

    async def _sweep(
        self, keep: Callable[[], frozenset[str]], capacity: int, since: float | None
    ) -> Sequence[str]:
        used, needed = set[str](), keep()
        deleted: Names = []
        self._used.append(used)
        try:
            chosen = await self._in_thread(
                lambda: sweeping.choose(self._look(), needed, capacity, since)
            )
            for start in range(0, len(chosen), sweeping.PORTION):
                if self._threads.closed:
                    break
                spared = used | keep()
                portion = chosen[start : start + sweeping.PORTION]
                deleted += [
                    path.name for path in portion if path.name not in spared and self._hide(path)
                ]
                await self._in_thread(self._empty)
        finally:
            # Itself: those of sweeps at the same time may be equal to it.
            self._used = [each for each in self._used if each is not used]
        return deleted

    def _look(self) -> Sequence[sweeping.Found]:
        self._give_up_old_partials()
        self._empty()  # of what a former process has left there
        return sweeping.look(self._directory, lambda: self._threads.closed)

    def _hide(self, path: Path) -> bool:
        """Take a blob's name from it; false if it has none."""
        gone = self._directory / GONE
        try:
            if not path.exists():
                return False
            gone.mkdir(mode=0o700, exist_ok=True)
            path.rename(gone / f"{path.name}.{os.urandom(4).hex()}")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(path, error) from error
        return True

    def _empty(self) -> None:
        sweeping.empty(self._directory / GONE, lambda: self._threads.closed)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._threads.close())

    def _give_up_old_partials(self) -> None:
        for path in self._partials():
            with self._lock, contextlib.suppress(FileNotFoundError):
                old = time.time() - path.stat().st_mtime > GIVEN_UP
                if old and path.name not in self._in_hand:
                    path.unlink()

    def _partials(self) -> tuple[Path, ...]:
        return sweeping.files(self._directory / PARTIAL)

    def _path(self, sha256: str) -> Path:
        check_digest(sha256)
        return self._directory / sha256[:2] / sha256

    def _partial(self, sha256: str) -> Path:
        return self._directory / PARTIAL / check_digest(sha256)
