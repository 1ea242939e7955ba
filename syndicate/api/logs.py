"""The logs of a job's machines as one stream of lines, ordered by time."""

from __future__ import annotations

import collections
import heapq
import json
from collections.abc import Iterator

import attrs

from syndicate.blobs.interface import ILogStore
from syndicate.domain.log import Decoder, Line, LineSplitter
from syndicate.manager.views import timestamp

#: Bytes read from a log at a time, and written to a reader at a time.
CHUNK = 256 << 10
BATCH = 64 << 10

STREAMS = {1: "out", 2: "err"}


@attrs.frozen
class Wanted:
    """Which lines to tell."""

    #: A machine's name, or None for all.
    machine: str | None = None
    #: 1 standard output, 2 standard error, None both.
    stream: int | None = None
    #: Epoch seconds; lines before it are passed over.
    since: float = 0.0
    #: None for the latest attempt that has a log, and those after it.
    attempt: int | None = None


class _Cursor:
    """How far the log of one machine has been read."""

    def __init__(self, logs: ILogStore, job: int, attempt: int, machine: str) -> None:
        self._logs, self._place = logs, (job, attempt, machine)
        self._offset = 0
        self._decoder, self._splitter = Decoder(), LineSplitter()

    def lines(self, *, to_the_end: bool) -> Iterator[Line]:
        """The lines that have come since; with what is left of unended ones at the end."""
        # To know the length is cheaper than to open a file in which there is nothing new.
        while self._offset < self._logs.length(*self._place) and (
            data := self._logs.read(*self._place, self._offset, CHUNK)
        ):
            self._offset += len(data)
            for frame in self._decoder.feed(data):
                if frame.stream in STREAMS:
                    yield from self._splitter.feed(frame)
        if to_the_end:
            yield from self._splitter.flush()


class MergedLog:
    """Reads all logs of a job, again and again, as they grow."""

    def __init__(self, logs: ILogStore, job: int, wanted: Wanted) -> None:
        self._logs, self._job, self._wanted = logs, job, wanted
        self._cursors: dict[tuple[int, str], _Cursor] = {}
        attempts = [attempt for attempt, _ in logs.list(job)]
        self._first = wanted.attempt if wanted.attempt is not None else max(attempts, default=0)

    def read(self, *, to_the_end: bool) -> Iterator[bytes]:
        """Batches of JSON lines: what has come since the last reading.

        :param to_the_end: whether nothing more will come, so that unended lines are told too.
        """
        batch: list[bytes] = []
        size = 0
        for line in self._lines(to_the_end=to_the_end):
            batch.append(line)
            size += len(line)
            if size >= BATCH:
                yield b"".join(batch)
                batch, size = [], 0
        if batch:
            yield b"".join(batch)

    def tail(self, count: int, *, to_the_end: bool) -> bytes:
        """The last lines of what has come since the last reading, as JSON lines."""
        return b"".join(collections.deque(self._lines(to_the_end=to_the_end), count))

    def _lines(self, *, to_the_end: bool) -> Iterator[bytes]:
        for attempt, machine in self._logs.list(self._job):
            if self._asked_for(attempt, machine) and (attempt, machine) not in self._cursors:
                self._cursors[attempt, machine] = _Cursor(self._logs, self._job, attempt, machine)
        named = [
            self._named(attempt, machine, cursor, to_the_end=to_the_end)
            for (attempt, machine), cursor in sorted(self._cursors.items())
        ]
        wanted = self._wanted
        for _, _, machine, line in heapq.merge(*named, key=lambda told: told[:2]):
            if line.at >= wanted.since and wanted.stream in (None, line.stream):
                yield _render(machine, line)

    @staticmethod
    def _named(
        attempt: int, machine: str, cursor: _Cursor, *, to_the_end: bool
    ) -> Iterator[tuple[int, float, str, Line]]:
        for line in cursor.lines(to_the_end=to_the_end):
            yield attempt, line.at, machine, line

    def _asked_for(self, attempt: int, machine: str) -> bool:
        if self._wanted.machine not in (None, machine):
            return False
        if self._wanted.attempt is not None:
            return attempt == self._wanted.attempt
        return attempt >= self._first


def _render(machine: str, line: Line) -> bytes:
    told = {
        "at": timestamp(line.at),
        "machine": machine,
        "stream": STREAMS[line.stream],
        "line": line.data.decode("utf-8", "replace"),
        "partial": line.partial,
    }
    return json.dumps(told, ensure_ascii=False).encode("utf-8") + b"\n"
