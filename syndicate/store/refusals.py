"""What SQLite and the operating system say of a disk, as errors of ours.

SQLite tells many failures as mere input/output errors; a small write of our own finds out which.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from pathlib import Path

from syndicate.domain.errors import Corrupt, StorageFull, StorageReadOnly, Unavailable
from syndicate.store.schema import damaged, is_corrupt

#: Free bytes on the disk below which a failed write is taken for a full disk.
NO_ROOM = 256 << 10

_DISK = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
)


def failure(path: Path, error: sqlite3.Error) -> Corrupt | Unavailable:
    """An error of SQLite as one of ours.

    :param path: the database.
    """
    if is_corrupt(error):
        return damaged(path, str(error))
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    refused = _refusal(path.parent) if code in _DISK else None
    if refused == errno.EROFS:
        return StorageReadOnly(
            f"The file system of {path} is read-only; nothing was written. Look at the kernel's "
            "log (dmesg), check the disk, mount it writable again; the manager goes on by itself."
        )
    if code == sqlite3.SQLITE_FULL or refused in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"The disk of {path} is full; nothing was written. Free some room; "
            "the manager goes on by itself."
        )
    return Unavailable(
        f"The database {path} could not be used: {error}. Nothing was written. "
        "Look at the disk and the owner of the directory."
    )


def _refusal(directory: Path) -> int | None:
    """Why nothing can be written in a directory, as an errno; None if something can."""
    probe = directory / "probe"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, bytes(4096))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return errno.ENOSPC if shutil.disk_usage(directory).free < NO_ROOM else None
