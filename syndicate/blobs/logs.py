"""Logs as files: ``<job>/<attempt>/<machine>.log``."""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import NoReturn

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from syndicate.blobs.interface import ILogStore
from syndicate.blobs.names import check_log, is_machine, machine_order
from syndicate.blobs.writer import storage_error
from syndicate.domain.errors import Conflict, Invalid, StorageFull, TooLarge

#: Most files kept open at once, so that many small appends cost one system call each.
OPEN_FILES = 256

_SUFFIX = ".log"
_Key = tuple[int, int, str]


@attrs.define(eq=False)
class _Open:
    fd: int
    length: int


@implementer(ILogStore)
class FileLogStore:
    """Keeps logs below one directory; its files are closed by `close`.

    :param directory: made when it is not there.
    :param cap: most bytes of one log.
    :param reactor: whose threads do what waits for the disk.
    :param reserve: bytes of the disk that are left to others.
    """

    def __init__(
        self, directory: Path, cap: int, reactor: IReactorThreads, reserve: int = 0
    ) -> None:
        self._directory = directory
        self._reactor = reactor
        self._reserve = reserve
        #: Logs that were begun, and whose names may not be on the disk.
        self._begun: set[_Key] = set()
        self._cap = cap
        self._files: OrderedDict[_Key, _Open] = OrderedDict()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(directory, error) from error

    def append(self, job: int, attempt: int, machine: str, offset: int, data: bytes) -> int:
        key = check_log(job, attempt, machine)
        file = self._files.get(key)
        length = self.length(*key) if file is None else file.length
        fresh = fresh_part(length, offset, data, self._cap)
        if not fresh:
            return length
        if self._reserve:
            self._check_room(key, len(fresh))
        if file is None:
            file = self._open(key)
        self._files.move_to_end(key)
        try:
            while fresh:
                written = os.pwrite(file.fd, fresh, file.length)
                file.length += written
                fresh = fresh[written:]
        except OSError as error:
            # Nothing stays open on a disk that may have to be unmounted.
            self._shut(key)
            raise storage_error(self._path(key), error) from error
        return file.length

    def _check_room(self, key: _Key, size: int) -> None:
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise storage_error(self._directory, error) from error
        if free - size < self._reserve:
            raise StorageFull(
                f"The disk of {self._path(key)} is full but for its reserve of {self._reserve} "
                "bytes. Free some room; what waits for it goes on by itself."
            )

    def _shut(self, key: _Key) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            os.close(file.fd)

    def _open(self, key: _Key) -> _Open:
        path = self._path(key)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                self._begun.add(key)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(path, error) from error
        file = self._files[key] = _Open(fd, os.fstat(fd).st_size)
        if len(self._files) > OPEN_FILES:
            _, oldest = self._files.popitem(last=False)
            os.close(oldest.fd)
        return file

    def sync(self, job: int, attempt: int, machine: str) -> Deferred[None]:
        key = check_log(job, attempt, machine)
        path = self._path(key)
        # All directories up to ours, as they may be as new as the file.
        above = path.parents[:3] if key in self._begun else ()
        self._begun.discard(key)
        done: Deferred[None] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), _bring_to_disk, (path, *above)
        )
        return done.addErrback(self._not_synced, key)

    def _not_synced(self, failure: Failure, key: _Key) -> NoReturn:
        self._begun.add(key)
        error = failure.value
        if isinstance(error, OSError):
            self._shut(key)
            raise storage_error(self._path(key), error) from error
        failure.raiseException()

    def length(self, job: int, attempt: int, machine: str) -> int:
        key = check_log(job, attempt, machine)
        if key in self._files:
            return self._files[key].length
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, job: int, attempt: int, machine: str, offset: int, limit: int) -> bytes:
        path = self._path(check_log(job, attempt, machine))
        try:
            with path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), max(0, limit), max(0, offset))
        except FileNotFoundError:
            return b""

    def list(self, job: int) -> list[tuple[int, str]]:
        top = f"{self._directory}/{int(job)}"
        # Followers ask at every event of a job: `Path.glob` would take ten times as long.
        found = [
            (int(attempt), name.removesuffix(_SUFFIX))
            for attempt in _names(top)
            if attempt.isdecimal()
            for name in _names(f"{top}/{attempt}")
            if name.endswith(_SUFFIX) and is_machine(name.removesuffix(_SUFFIX))
        ]
        return sorted(found, key=lambda each: (each[0], machine_order(each[1])))

    def delete(self, job: int) -> Deferred[None]:
        place = self._directory / str(int(job))
        self._begun = {key for key in self._begun if key[0] != job}
        for key in [key for key in self._files if key[0] == job]:
            os.close(self._files.pop(key).fd)
        # The blocks of a long file are freed one by one.
        done: Deferred[None] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), _remove, place
        )
        return done

    def close(self) -> None:
        """Close all files; they are opened again when something is appended."""
        while self._files:
            _, file = self._files.popitem()
            os.close(file.fd)

    def _path(self, key: _Key) -> Path:
        job, attempt, machine = key
        return self._directory / str(job) / str(attempt) / (machine + _SUFFIX)


def _remove(place: Path) -> None:
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(place, error) from error


def _bring_to_disk(paths: tuple[Path, ...]) -> None:
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # It has printed nothing, or was deleted meanwhile.
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def fresh_part(length: int, offset: int, data: bytes, cap: int) -> memoryview:
    """Of bytes for an offset in a log of a length, those that are not there yet.

    :raises Conflict: some in between are lacking.
    :raises TooLarge: the log would be over its cap; nothing of them may be written.
    """
    if offset < 0:
        raise Invalid(f"A log has no offset {offset}.")
    if offset > length:
        raise Conflict(
            f"The log has {length} bytes, so those from {offset} on cannot come next. "
            f"Send what lies between.",
            length=length,
        )
    if offset + len(data) > cap:
        raise TooLarge(f"The log would grow over its cap of {cap} bytes.", limit=cap, length=length)
    return memoryview(data)[length - offset :]


def _names(directory: str) -> list[str]:
    """What is in a directory; nothing if there is none."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
