"""One process at a time works on a lab."""

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


@contextlib.contextmanager
def exclusive(directory: Path, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a directory: the directory itself, so that no lock file is left behind.

    The kernel gives it back when its holder dies. A holder may remove the directory; who waited
    for it meanwhile then makes a new one.

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
        yield
    finally:
        os.close(descriptor)


def _is_still(directory: Path, descriptor: int) -> bool:
    """Whether the directory that was locked is the one that is there now."""
    try:
        return os.path.samestat(directory.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
