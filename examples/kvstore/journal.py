"""What a machine of the store keeps on its disk: every write it knows of, in order.

The journal is a file of lines, each a checksum and one entry. A line is only ever added at the
end; a whole new copy is written beside the old one and then takes its place. So whatever moment
the machine is killed at, what is found afterwards is a journal that was true once, and perhaps
one line that was not written to its end, which is dropped.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One write, or the begin of an epoch."""

    #: Which start of the master has made it; later starts have higher numbers.
    epoch: int
    #: Empty for the begin of an epoch.
    key: str = ""
    #: Of one key, versions only grow.
    version: int = 0
    value: str = ""


class Journal:
    """The journal in a directory.

    :param durable: whether `sync` waits until the disk has it.
    """

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path, self._durable = directory / "journal", durable
        self._file = -1
        #: Everything, in memory too.
        self.entries: list[Entry] = []
        if self._path.exists():
            self._load()

    @property
    def blank(self) -> bool:
        """Whether this disk holds no copy of any store, not even of an empty one."""
        return self._file < 0

    @property
    def epoch(self) -> int:
        """That of the last entry; 0 when there is none."""
        return self.epoch_at(len(self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def epoch_at(self, length: int) -> int:
        """The epoch of the last of the first so many entries."""
        return self.entries[length - 1].epoch if length else 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they are safe after the next `sync`."""
        self.entries.extend(entries)
        _write_all(self._file, b"".join(_lines(entries)))

    def sync(self) -> None:
        """Wait until all that was appended is on the disk. May be called from another thread."""
        if self._durable:
            os.fdatasync(self._file)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Take these entries for everything; they are safe on return."""
        entries = list(entries)
        beside = self._path.with_suffix(".new")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        _write_all(file, b"".join(_lines(entries)))
        if self._durable:
            os.fsync(file)
        beside.replace(self._path)
        self._sync_directory()
        self.close()
        self._file, self.entries = file, entries

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _load(self) -> None:
        good = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                break
            good += len(line)
            self.entries.append(entry)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._file, good)

    def _sync_directory(self) -> None:
        if self._durable:
            directory = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)


def _lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    for entry in entries:
        text = json.dumps(entry, separators=(",", ":")).encode()
        yield b"%08x %s\n" % (zlib.crc32(text), text)


def _entry(line: bytes) -> Entry | None:
    """The entry in a line; None when it was not written to its end."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    return Entry(*json.loads(text))


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
