"""Writing the files that a job leaves into a tarball."""

from __future__ import annotations

import errno
import os
import re
import stat

from syndicate.sandbox.confine import channel
from syndicate.sandbox.patterns import expression_of
from syndicate.sandbox.tarstream import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 512
_CHUNK = 1 << 18
#: Deeper directories than that are not looked into.
_DEEPEST = 100
#: How much is told of what was left out: phrases, and characters of a path in each.
_MOST_PHRASES, _LONGEST_SHOWN = 20, 160


def collect(target: int, patterns: list[str], limit: int) -> Callable[[], None]:
    """Prepare to collect; what is returned does it, below the root directory of then, and reports
    the tarball's size and, in lines, what was left out.

    Only regular files are taken, only directories are walked through, and no link is followed, so
    nothing from elsewhere can come in.

    :param target: a descriptor to write to.
    :param limit: bytes that the tarball may have.
    """
    wanted = re.compile("|".join(expression_of(pattern) for pattern in patterns) or r"(?!)")

    def work() -> None:
        writer, left_out = _Writer(target, limit), _LeftOut()
        unmatched = {pattern: re.compile(expression_of(pattern)) for pattern in patterns}
        for path, problem in _found(""):
            if not wanted.fullmatch(path):
                continue
            problem = problem or writer.add(path)
            if problem:
                left_out.add(f"{_shown(path)} {problem}")
            for pattern in [each for each, rule in unmatched.items() if rule.fullmatch(path)]:
                del unmatched[pattern]
        for pattern in unmatched:
            left_out.add(f"no file matches {_shown(pattern)}")
        channel.say("done", writer.finish(), data="\n".join(left_out.told()).encode())

    return work


class _LeftOut:
    """What is told of what is not kept: the first phrases, and how many more there are."""

    def __init__(self) -> None:
        self._phrases: list[str] = []
        self._more = 0

    def add(self, phrase: str) -> None:
        if len(self._phrases) < _MOST_PHRASES:
            self._phrases.append(phrase)
        else:
            self._more += 1

    def told(self) -> list[str]:
        return self._phrases + [f"and {self._more} more"] * bool(self._more)


def _shown(path: str) -> str:
    """A path as part of a line for people."""
    path = path if path.isprintable() else ascii(path)
    return path if len(path) <= _LONGEST_SHOWN else f"{path[: _LONGEST_SHOWN - 1]}…"


def _found(directory: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The paths of all that is there but of directories that can be looked into, sorted within
    each directory; and why it cannot be kept, empty for regular files.
    """
    try:
        with os.scandir(f"/{directory}") as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:  # one that the job's user may not read
        yield directory, f"cannot be read: {error.strerror}"
        return
    for entry in found:
        path = f"{directory}/{entry.name}" if directory else entry.name
        if entry.is_file(follow_symlinks=False):
            yield path, ""
        elif entry.is_symlink():
            yield path, "is a link"
        elif not entry.is_dir(follow_symlinks=False):
            yield path, "is no regular file"
        elif depth < _DEEPEST:
            yield from _found(path, depth + 1)
        else:
            yield path, f"is a directory more than {_DEEPEST} deep"


class _Writer:
    """A tarball in the pax format being written."""

    def __init__(self, target: int, limit: int) -> None:
        self._target = target
        self._limit = limit
        self._written = 0

    def add(self, path: str) -> str:
        """Add a file; or say why it is left out, as is one that its owner may not read."""
        try:
            file = os.open(f"/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return "is no regular file"
            self._add_open(path, file, status)
        finally:
            os.close(file)
        return ""

    def _add_open(self, path: str, file: int, status: os.stat_result) -> None:
        name = os.fsencode(path)
        if len(name) > 100 or status.st_size >= 8 << 30:
            records = _record(b"path", name) + _record(b"size", b"%d" % status.st_size)
            self._write(_header(b"./PaxHeaders/file", len(records), 0o644, 0, b"x"))
            self._write_padded(records)
        mtime = max(int(status.st_mtime), 0)
        self._write(_header(name[:100], status.st_size, status.st_mode & 0o777, mtime, b"0"))
        self._copy(file, status.st_size)
        self._skip(-status.st_size % _BLOCK)

    def _copy(self, file: int, size: int) -> None:
        """Write just so much of a file, whose holes stay holes, as does what it lacks."""
        at = 0
        while at < size:
            start, end = _next_data(file, at, size)
            self._skip(start - at)
            os.lseek(file, start, os.SEEK_SET)
            while start < end and (data := os.read(file, min(end - start, _CHUNK))):
                start += len(data)
                self._write(data)
            self._skip(end - start)
            at = end

    def finish(self) -> int:
        """End the tarball; nothing at all is written if there was no file. Returns its size."""
        if self._written:
            self._skip(2 * _BLOCK)
            os.ftruncate(self._target, self._written)
        return self._written

    def _write_padded(self, data: bytes) -> None:
        self._write(data + bytes(-len(data) % _BLOCK))

    def _write(self, data: bytes) -> None:
        self._count(len(data))
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._target, rest) :]

    def _skip(self, length: int) -> None:
        """Leave a hole, which reads as zeros."""
        self._count(length)
        os.lseek(self._target, length, os.SEEK_CUR)

    def _count(self, length: int) -> None:
        self._written += length
        if self._written > self._limit:
            raise Refused(
                f"The outputs are more than {self._limit >> 20} MiB, the size of the machine's "
                "disk (a file with holes counts in full): name fewer files in 'outputs'."
            )


def _next_data(file: int, at: int, size: int) -> tuple[int, int]:
    """Where the next part of a file begins that is no hole, and where it ends."""
    try:
        start = os.lseek(file, at, os.SEEK_DATA)
        end = os.lseek(file, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.ENXIO:  # there is nothing but a hole
            raise
        return size, size
    return min(start, size), min(end, size)


def _record(key: bytes, value: bytes) -> bytes:
    """One record of a pax header, which begins with its own length."""
    length = len(key) + len(value) + 3
    while length != len(b"%d %s=%s\n" % (length, key, value)):
        length = len(b"%d %s=%s\n" % (length, key, value))
    return b"%d %s=%s\n" % (length, key, value)


def _header(name: bytes, size: int, mode: int, mtime: int, kind: bytes) -> bytes:
    size %= 8 << 30  # where that is not enough, a pax header goes before
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\0" + b"00",
        bytes(247),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
