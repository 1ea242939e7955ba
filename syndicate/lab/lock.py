"""One process at a time works on a lab, and one takes or gives back what all labs share.

The kernel gives a lock back when its holder dies, and with it those children that were given it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from syndicate.domain.errors import Unavailable

#: Seconds that one waits for another who works on the lab.
PATIENCE = 30.0

_held: set[int] = set()


def held() -> tuple[int, ...]:
    """The descriptors of all locks that are held now, for children that work under them."""
    return tuple(_held)


@contextlib.contextmanager
def whole_machine() -> Iterator[None]:
    """Held while numbers of labs are claimed or given back."""
    # A directory that is always there, so that no lock file is left behind.
    descriptor = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(directory: Path, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a directory: the directory itself, so that no lock file is left behind.

    A holder may remove the directory; who waited for it meanwhile then makes a new one.

    :raises Unavailable: somebody else has held it all the time.
    """
    deadline = time.monotonic() + PATIENCE
    told = False
    while True:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(directory, descriptor):
                break
        except BlockingIOError:
            if not told:
                say(f"Another command works on {what}; waiting for it.")
                told = True
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Another command has worked on {what} for {PATIENCE:g} s. Try again later."
            )
        time.sleep(0.05)
    try:
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _is_still(directory: Path, descriptor: int) -> bool:
    """Whether the directory that was locked is the one that is there now."""
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
