"""Blobs and logs without a disk, for tests and trials; they end with their object."""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs
from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from syndicate.blobs.files import GIVEN_UP
from syndicate.blobs.interface import IBlobStore, IBlobWriter, ILogStore
from syndicate.blobs.logs import fresh_part
from syndicate.blobs.names import check_announced, check_digest, check_log, machine_order
from syndicate.domain.errors import Conflict, Invalid, NotFound, TooLarge


@attrs.define(eq=False)
class _Blob:
    data: bytes
    #: A number that grows with every use of any blob; and when that was.
    used: int
    at: float


@attrs.define(eq=False)
class _Partial:
    data: bytearray = attrs.field(factory=bytearray)
    at: float = 0.0
    in_hand: bool = True


@implementer(IBlobStore)
@attrs.define(eq=False)
class MemoryBlobStore:
    """Keeps blobs in memory; those asked for by path come into a temporary directory.

    :param blob_limit: most bytes of one blob.
    :param now: epoch seconds, for the age of unfinished writes.
    """

    blob_limit: int = sys.maxsize
    now: Callable[[], float] = time.time
    _blobs: dict[str, _Blob] = attrs.field(init=False, factory=dict)
    _partials: dict[str, _Partial] = attrs.field(init=False, factory=dict)
    _uses: itertools.count[int] = attrs.field(init=False, factory=itertools.count)
    _directory: Path | None = attrs.field(init=False, default=None)

    def size(self, sha256: str) -> int | None:
        blob = self._blobs.get(check_digest(sha256))
        return None if blob is None else len(blob.data)

    def held(self, sha256: str) -> int:
        partial = self._partials.get(check_digest(sha256))
        return 0 if partial is None else len(partial.data)

    def write(self, sha256: str, size: int) -> IBlobWriter:
        check_announced(sha256, size, self.blob_limit, self.size(sha256))
        partial = self._partials.setdefault(sha256, _Partial(in_hand=False))
        if partial.in_hand:
            raise Conflict(f"The blob {sha256[:12]}… is being written already; wait for that.")
        partial.in_hand = True
        if len(partial.data) > size:
            partial.data.clear()
        if self.size(sha256) is not None:
            partial.data[:] = self._blobs[sha256].data
        return MemoryBlobWriter(self, sha256, size, partial)

    def put(self, data: bytes) -> str:
        """Hold a blob, without the ceremony; gives its digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._blobs[sha256] = _Blob(data, next(self._uses), self.now())
        return sha256

    def let_go(self, sha256: str, *, whole: bool, keep: bool) -> None:
        """A writer is done: with all of it, or with what may be kept for a later one."""
        partial = self._partials[sha256]
        partial.in_hand, partial.at = False, self.now()
        if whole:
            self.put(bytes(partial.data))
        if whole or not keep:
            del self._partials[sha256]

    def open(self, sha256: str) -> BinaryIO:
        return io.BytesIO(self._use(sha256))

    def path(self, sha256: str) -> Path:
        data = self._use(sha256)
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="blobs-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        path = self._directory / sha256
        path.write_bytes(data)
        return path

    def _use(self, sha256: str) -> bytes:
        blob = self._blobs.get(check_digest(sha256))
        if blob is None:
            raise NotFound(f"The blob {sha256} is not held here.")
        blob.used, blob.at = next(self._uses), self.now()
        return blob.data

    def delete(self, sha256: str) -> Deferred[None]:
        self._blobs.pop(check_digest(sha256), None)
        return succeed(None)

    def list(self) -> list[str]:
        return sorted(self._blobs)

    def used(self, sha256: str) -> float | None:
        blob = self._blobs.get(check_digest(sha256))
        return None if blob is None else blob.at

    def total(self) -> Deferred[int]:
        unfinished = sum(len(partial.data) for partial in self._partials.values())
        return succeed(unfinished + sum(len(blob.data) for blob in self._blobs.values()))

    def free(self) -> int:
        return sys.maxsize

    def sweep(
        self, keep: Callable[[], frozenset[str]], capacity: int, since: float | None = None
    ) -> Deferred[Sequence[str]]:
        spared = keep()
        total = sum(len(blob.data) for blob in self._blobs.values())
        deleted = []
        for sha256, blob in sorted(self._blobs.items(), key=lambda each: each[1].used):
            if total <= capacity:
                break
            if sha256 not in spared and (since is None or blob.at < since):
                del self._blobs[sha256]
                deleted.append(sha256)
                total -= len(blob.data)
        for sha256, partial in list(self._partials.items()):
            if not partial.in_hand and self.now() - partial.at > GIVEN_UP:
                del self._partials[sha256]
        return succeed(deleted)

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(IBlobWriter)
@attrs.define(eq=False)
class MemoryBlobWriter:
    """Writes into memory."""

    _store: MemoryBlobStore
    _sha256: str
    _size: int
    _partial: _Partial
    _done: bool = False

    @property
    def offset(self) -> int:
        """Bytes held so far."""
        return len(self._partial.data)

    def write(self, data: bytes | memoryview) -> None:
        if self.offset + len(data) > self._size:
            raise TooLarge(f"More has come than the {self._size} bytes that were announced.")
        self._partial.data += data

    def finish(self) -> Deferred[int]:
        return execute(self._finish)

    def _finish(self) -> int:
        self._done = True
        good = (
            self.offset == self._size
            and hashlib.sha256(self._partial.data).hexdigest() == self._sha256
        )
        self._store.let_go(self._sha256, whole=good, keep=False)
        if not good:
            raise Invalid("The bytes that came are not those of the blob; send it again.")
        return self._size

    def abandon(self) -> None:
        if not self._done:
            self._done = True
            self._store.let_go(self._sha256, whole=False, keep=self.offset > 0)


@implementer(ILogStore)
@attrs.define(eq=False)
class MemoryLogStore:
    """Keeps logs in memory.

    :param cap: most bytes of one log.
    """

    cap: int = sys.maxsize
    _logs: dict[tuple[int, int, str], bytearray] = attrs.field(init=False, factory=dict)

    def append(self, job: int, attempt: int, machine: str, offset: int, data: bytes) -> int:
        key = check_log(job, attempt, machine)
        fresh = fresh_part(self.length(*key), offset, data, self.cap)
        if fresh:
            self._logs.setdefault(key, bytearray()).extend(fresh)
        return self.length(*key)

    def sync(self, job: int, attempt: int, machine: str) -> Deferred[None]:
        return execute(lambda: check_log(job, attempt, machine) and None)

    def length(self, job: int, attempt: int, machine: str) -> int:
        return len(self._logs.get(check_log(job, attempt, machine), b""))

    def read(self, job: int, attempt: int, machine: str, offset: int, limit: int) -> bytes:
        log = self._logs.get(check_log(job, attempt, machine), b"")
        start = max(0, offset)
        return bytes(log[start : start + max(0, limit)])

    def list(self, job: int) -> list[tuple[int, str]]:
        return sorted(
            ((attempt, machine) for number, attempt, machine in self._logs if number == job),
            key=lambda each: (each[0], machine_order(each[1])),
        )

    def delete(self, job: int) -> Deferred[None]:
        for key in [key for key in self._logs if key[0] == job]:
            del self._logs[key]
        return succeed(None)
