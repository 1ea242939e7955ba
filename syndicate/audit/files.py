"""The audit log as files: ``person.jsonl``, ``client.jsonl``, ``stranger.jsonl``, and older ones.

One entry is one ``write`` to a file that is open for appending, before `record` returns: it
outlives the daemon at once. It is brought to the disk (``fdatasync``, in a thread) within
`SYNC_AFTER`, so a power cut can take the entries of about that long. A full file becomes
``person.jsonl.1``, that one ``.2``, and so on; the oldest is removed.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from syndicate.audit.interface import Actor, Entry, IAudit, Kind, Wanted
from syndicate.audit.lines import from_line, to_line

log = Logger()

#: Seconds until what was written is on the disk, at the most.
SYNC_AFTER = 1.0
#: Bytes that are read at once from the end of a file.
BLOCK = 256 << 10


@attrs.define(eq=False)
class _Stream:
    """One of the files that are written to."""

    path: Path
    fd: int = -1
    size: int = 0
    #: Whether the last line that was written has its end.
    whole: bool = True
    dirty: bool = False


@implementer(IAudit)
@attrs.define(eq=False)
class FileAudit:
    """Keeps entries below one directory, which is made when it is not there.

    :param file_size: bytes after which a file is full.
    :param files: full ones that are kept of each stream.
    """

    _clock: IReactorTime
    _directory: Path
    _file_size: int = 16 << 20
    _files: int = 8
    _streams: dict[Kind, _Stream] = attrs.field(init=False)
    #: Entries that could not be written since the last one that was, and why.
    _lost: int = attrs.field(init=False, default=0)
    _why: str = attrs.field(init=False, default="")
    _sync: IDelayedCall | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._streams = {kind: _Stream(self._directory / f"{kind.value}.jsonl") for kind in Kind}

    def record(self, entry: Entry) -> None:
        try:
            if self._lost:
                self._write(_of_lost(entry.at, self._lost, self._why))
                self._lost = 0
            self._write(entry)
        except OSError as error:
            # Nothing stays open on a disk that may have to be unmounted.
            self.close()
            if not self._lost:
                log.critical(
                    "The audit log in {directory} cannot be written: {why}. Make room there; what"
                    " is done meanwhile is counted only.",
                    directory=self._directory,
                    why=error.strerror,
                )
            self._lost, self._why = self._lost + 1, str(error.strerror)

    def tail(self, count: int, wanted: Wanted) -> Deferred[list[Entry]]:
        return deferToThread(self._tail, count, wanted)

    def close(self) -> None:
        if self._sync is not None and self._sync.active():
            self._sync.cancel()
        for stream in self._streams.values():
            if stream.fd >= 0:
                _sync_quietly([stream.fd])
                os.close(stream.fd)
                stream.fd, stream.dirty = -1, False

    # Writing.

    def _write(self, entry: Entry) -> None:
        stream, line = self._streams[entry.actor.kind], to_line(entry)
        self._open(stream)
        if not stream.whole:
            # Half a line is no entry; the next one begins on its own.
            line = b"\n" + line
        if stream.size + len(line) > self._file_size and stream.size:
            self._rotate(stream)
        written = os.write(stream.fd, line)
        stream.size, stream.whole = stream.size + written, written == len(line)
        stream.dirty = True
        if not stream.whole:
            raise OSError(28, "No space left on device")
        if self._sync is None or not self._sync.active():
            self._sync = self._clock.callLater(SYNC_AFTER, self._bring_to_disk)

    def _open(self, stream: _Stream) -> None:
        if stream.fd >= 0:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        stream.fd = os.open(stream.path, flags, 0o600)
        stream.size = os.fstat(stream.fd).st_size
        stream.whole = not stream.size or os.pread(stream.fd, 1, stream.size - 1) == b"\n"

    def _rotate(self, stream: _Stream) -> None:
        _sync_quietly([stream.fd])
        os.close(stream.fd)
        stream.fd = -1
        for number in range(self._files, 0, -1):
            path = _older(stream.path, number - 1)
            if path.exists():
                path.replace(_older(stream.path, number))
        self._open(stream)

    def _bring_to_disk(self) -> None:
        dirty = [stream for stream in self._streams.values() if stream.dirty and stream.fd >= 0]
        for stream in dirty:
            stream.dirty = False
        # Of their own, as those of the streams may be closed meanwhile.
        copies = [os.dup(stream.fd) for stream in dirty]

        def sync() -> bool:
            well = _sync_quietly(copies)
            for copy in copies:
                os.close(copy)
            return well

        # As in `record`: nothing stays open on a disk that may have to be unmounted.
        done = deferToThread(sync).addCallback(lambda well: None if well else self.close())
        done.addErrback(
            lambda failure: log.failure("the audit log was not brought to the disk", failure)
        )

    # Reading; in a thread, and of the paths only.

    def _tail(self, count: int, wanted: Wanted) -> list[Entry]:
        streams = [self._newest_first(kind) for kind in Kind if wanted.kind in (None, kind)]
        merged = heapq.merge(*streams, key=lambda entry: entry.at, reverse=True)
        found: list[Entry] = []
        for entry in merged:
            if len(found) >= count:
                break
            if wanted.matches(entry):
                found.append(entry)
        return found[::-1]

    def _newest_first(self, kind: Kind) -> Iterator[Entry]:
        for number in range(self._files + 1):
            for line in _lines_from_end(_older(self._streams[kind].path, number)):
                entry = from_line(line)
                if entry is not None:
                    yield entry


def _of_lost(at: float, count: int, why: str) -> Entry:
    actor = Actor(Kind.PERSON, "syndicate-manager", "manager")
    return Entry(at, actor, "audit", outcome="lost", details={"entries": count, "why": why})


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _sync_quietly(fds: list[int]) -> bool:
    well = True
    for fd in fds:
        try:
            os.fdatasync(fd)
        except OSError as error:
            well = False
            log.critical("The audit log may not be on its disk: {why}.", why=error.strerror)
    return well


def _lines_from_end(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last first; none if there is no file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        at, rest = file.seek(0, os.SEEK_END), b""
        while at:
            size = min(BLOCK, at)
            at -= size
            file.seek(at)
            first, *lines = (file.read(size) + rest).split(b"\n")
            yield from reversed(lines)
            rest = first
        yield rest
