"""Writing one blob into a file, and whatever can go wrong with that."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from syndicate.blobs.interface import IBlobWriter
from syndicate.domain.errors import Invalid, StorageFull, StorageReadOnly, TooLarge, Unavailable
from syndicate.durable import sync_directory

#: Bytes read at once when a file is hashed.
PORTION = 1 << 20


def storage_error(path: Path, error: OSError) -> Unavailable:
    """What the operating system says of a file, as an error of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"The disk of {path} is full. Free some room and try again.")
    if error.errno == errno.EROFS:
        return StorageReadOnly(
            f"The file system of {path} is read-only. Check it, and mount it writable again."
        )
    return Unavailable(
        f"{path} cannot be written: {error.strerror}. Look at the disk and the file's owner."
    )


@attrs.frozen
class Place:
    """Where a blob is to lie, and where it grows."""

    whole: Path
    partial: Path


@implementer(IBlobWriter)
class FileBlobWriter:
    """Writes the partial file and renames it; a blob that is whole already needs no bytes."""

    def __init__(
        self,
        reactor: IReactorThreads,
        place: Place,
        sha256: str,
        size: int,
        durable: bool,
        let_go: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._place = place
        self._sha256 = sha256
        self._size = size
        self._durable = durable
        self._let_go = let_go
        self._fd: int | None = None
        self._hash = hashlib.sha256()
        #: Bytes that `_hash` has seen.
        self._hashed = 0
        self._finishing = False
        self._whole = place.whole.exists()
        self.offset = size if self._whole else self._open()

    def _open(self) -> int:
        try:
            self._fd = os.open(self._place.partial, os.O_RDWR | os.O_CREAT, 0o644)
            held = os.lseek(self._fd, 0, os.SEEK_END)
            if held > self._size:
                # Of another size than was announced then: one of the two is wrong.
                os.ftruncate(self._fd, 0)
                held = os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            raise storage_error(self._place.partial, error) from error
        return held

    def write(self, data: bytes | memoryview) -> None:
        if self.offset + len(data) > self._size:
            raise TooLarge(
                f"The blob {self._sha256[:12]}… was announced with {self._size} bytes, "
                "and more have come."
            )
        assert self._fd is not None, "the writer is not in use any more"
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._fd, rest)
                if self._hashed == self.offset:
                    # Else an earlier try has left the beginning, and `finish` reads it all.
                    self._hash.update(rest[:written])
                    self._hashed += written
                self.offset += written
                rest = rest[written:]
        except OSError as error:
            raise storage_error(self._place.partial, error) from error

    def finish(self) -> Deferred[int]:
        self._finishing = True
        finished: Deferred[int] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), self._finish
        )
        return finished

    def _finish(self) -> int:
        try:
            if not self._whole:
                self._check()
                self._show()
        except OSError as error:
            raise storage_error(self._place.whole, error) from error
        finally:
            self._close()
        return self._size

    def _check(self) -> None:
        assert self._fd is not None
        if self._hashed != self.offset:
            with open(self._place.partial, "rb", buffering=0) as file:
                self._hash = hashlib.file_digest(file, "sha256")
        if self.offset != self._size or self._hash.hexdigest() != self._sha256:
            self._place.partial.unlink(missing_ok=True)
            raise Invalid(
                f"The {self.offset} bytes that came for the blob {self._sha256[:12]}… are not "
                f"its own, of which there are {self._size}; they were thrown away. Send it again."
            )

    def _show(self) -> None:
        assert self._fd is not None
        shelf = self._place.whole.parent
        if self._durable:
            os.fsync(self._fd)
        made = not shelf.exists()
        shelf.mkdir(mode=0o700, exist_ok=True)
        self._place.partial.rename(self._place.whole)
        os.utime(self._place.whole)
        if self._durable:
            for directory in (shelf, shelf.parent) if made else (shelf,):
                sync_directory(directory)

    def abandon(self) -> None:
        if not self._finishing:
            self._finishing = True
            if self.offset == 0 and self._fd is not None:
                self._place.partial.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._let_go()
