"""Files that survive a power cut: what was written, and the names it was written under."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: What a file is called, behind its own name, until it is whole.
UNFINISHED = ".new"


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Put a file in place whole and durably; never readable with more rights than its own.

    :raises OSError: it cannot be; what was there before is there still.
    """
    draft = path.with_name(path.name + UNFINISHED)
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)  # on a disk that is full, say
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk: what was made, renamed or removed there.

    :raises OSError: it cannot be.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
