"""Looks through a directory of blobs, and removes files of it, in threads.

A store may have so many files that a walk through them takes seconds, in which a daemon would
answer nobody. What a file's name means is changed by the reactor alone, in one short step for each
file: one that is to go is renamed out of the way, and then removed by a thread. So nobody finds a
blob that is gone a moment later, and none goes that somebody has begun to use meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from syndicate.blobs.names import is_digest

T = TypeVar("T")

#: Files that are renamed before the reactor does something else; about a millisecond's worth.
PORTION = 50


@attrs.frozen
class Found:
    """A file as it was when it was looked at."""

    path: Path
    size: int
    #: When it was used last: nanoseconds since the epoch.
    used: int


@attrs.define(eq=False)
class Threads:
    """Works in the reactor's threads, until it is closed."""

    _reactor: IReactorThreads
    #: Looked at in the threads: what takes long stops where it is.
    closed: bool = attrs.field(init=False, default=False)
    _at_work: set[Deferred[object]] = attrs.field(init=False, factory=set)

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Call something in a thread."""
        pool = self._reactor.getThreadPool()
        done: Deferred[T] = deferToThreadPool(self._reactor, pool, work)
        ended: Deferred[object] = Deferred()
        self._at_work.add(ended)

        def over(result: T) -> T:
            self._at_work.discard(ended)
            ended.callback(None)
            return result

        return done.addBoth(over)

    async def close(self) -> None:
        """Let what is at work stop, and wait until it has."""
        self.closed = True
        await DeferredList(list(self._at_work))


def blobs(directory: Path) -> Iterator[Path]:
    """The blobs below a directory, in the order of their names."""
    if not directory.exists():
        return  # Its file system is not mounted at the moment.
    for shelf in sorted(directory.iterdir()):
        if len(shelf.name) == 2:
            yield from (path for path in sorted(shelf.iterdir()) if is_digest(path.name))


def files(directory: Path) -> tuple[Path, ...]:
    """What is in a directory, if it is there."""
    try:
        return tuple(directory.iterdir())
    except FileNotFoundError:
        return ()  # As above.


def look(directory: Path, stopped: Callable[[], bool]) -> list[Found]:
    """Look at every blob; blocks, and ends early when it is told to."""
    found = []
    for path in blobs(directory):
        if stopped():
            break
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            found.append(Found(path, about.st_size, about.st_mtime_ns))
    return found


def choose(
    found: Sequence[Found], keep: frozenset[str], capacity: int, since: float | None
) -> list[Path]:
    """Which files are to go, see `IBlobStore.sweep`: those that were used longest ago."""
    total = sum(each.size for each in found)
    chosen = []
    for each in sorted(found, key=lambda each: each.used):
        if total <= capacity:
            break
        if each.path.name not in keep and (since is None or each.used < since * 1e9):
            chosen.append(each.path)
            total -= each.size
    return chosen


def empty(directory: Path, stopped: Callable[[], bool]) -> None:
    """Remove every file in a directory; blocks, and leaves the rest when it is told to stop."""
    for path in files(directory):
        if stopped():
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
