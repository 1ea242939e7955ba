"""One process at a time holds a state directory: an exclusive lock on a file in it.

The kernel lets go of such a lock when its holder ends in whatever way, so nothing is ever left
over that an operator would have to remove.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

import attrs

from syndicate.domain.errors import StateDirectoryInUse, StorageReadOnly, Unavailable
from syndicate.durable import sync_directory


def make_durable_directory(directory: Path) -> None:
    """Make a directory for our eyes only, with its parents, so that it survives a power cut.

    :raises Unavailable: it cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for made in missing:
            sync_directory(made.parent)
    except OSError as error:
        raise Unavailable(
            f"The directory {directory} cannot be made: {error.strerror}. "
            "Make it, or choose another, and start again."
        ) from error


@attrs.define(eq=False)
class DirectoryLock:
    """Holds a state directory from `take` to `release`."""

    _fd: int

    @classmethod
    def take(cls, directory: Path) -> DirectoryLock:
        """Take hold of a directory.

        :raises StateDirectoryInUse: another process has it.
        :raises Unavailable: it cannot be written to.
        """
        path = directory / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise StorageReadOnly(
                    f"The file system of {directory} is read-only. Check it, and mount it writable "
                    "again."
                ) from error
            raise Unavailable(
                f"The lock {path} cannot be opened: {error.strerror}. "
                "Give the state directory to the user that this daemon runs as."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StateDirectoryInUse(
                f"The state directory {directory} is in use by the process {holder}. "
                "Stop that one, or start with another directory.",
                directory=str(directory),
                holder=holder,
            ) from error
        # On a full disk the next one is not told who holds it; that is all.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return cls(fd)

    def release(self) -> None:
        """Let go; to be called once."""
        os.close(self._fd)
