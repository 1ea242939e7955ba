"""Removing trees that jobs have made."""

from __future__ import annotations

import os
import stat


def discard(path: str) -> None:
    """Remove a file, or a directory with all that is in it; nothing to do if it is not there.

    No link is followed. Directories found on the way are first moved up into ``path``, so that
    neither recursion nor the length of paths grows with the depth of what a job has built.
    Nothing may be writing there meanwhile.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    token = os.urandom(8).hex()
    moved = 0
    waiting = _emptied_of_files(path)
    while waiting:
        directory = waiting.pop()
        for inner in _emptied_of_files(directory):
            moved += 1
            os.chmod(inner, 0o700)  # without the right to write it cannot be moved
            os.rename(inner, f"{path}/{token}-{moved}")
            waiting.append(f"{path}/{token}-{moved}")
        os.rmdir(directory)
    os.rmdir(path)


def _emptied_of_files(directory: str) -> list[str]:
    """Remove all that is no directory; returns the directories."""
    os.chmod(directory, 0o700)
    directories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.path)
            else:
                os.unlink(entry.path)
    return directories
