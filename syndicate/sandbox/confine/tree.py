"""Where an unpacked source goes."""

from __future__ import annotations

import os
import time

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Tree:
    """Makes what `syndicate.sandbox.tar.read_source` has checked.

    :param top: the empty directory to fill.
    """

    def __init__(self, top: str = "") -> None:
        self._top = top
        self._file = -1
        self._now = time.time()

    def make_directory(self, path: str) -> None:
        """Make a directory, unless it is there."""
        try:
            os.mkdir(f"{self._top}/{path}", 0o755)
        except FileExistsError:
            return

    def set_mode(self, path: str, mode: int) -> None:
        """Set the rights of a directory."""
        os.chmod(f"{self._top}/{path}", mode)

    def open_file(self, path: str, mode: int) -> None:
        """Begin a regular file."""
        self._file = os.open(f"{self._top}/{path}", _NEW_FILE, mode)

    def write(self, data: bytes) -> None:
        """Add to the file begun last."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def close_file(self, mtime: float) -> None:
        """Finish it. A time to come is made the present, or make would never be content."""
        seconds = min(max(mtime, 0.0), self._now)
        os.utime(self._file, (seconds, seconds))
        os.close(self._file)

    def link_symbolically(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        os.symlink(target, f"{self._top}/{path}")

    def link(self, path: str, target: str) -> None:
        """Make a hard link to a file made before."""
        os.link(f"{self._top}/{target}", f"{self._top}/{path}", follow_symlinks=False)
