"""A disk with hardly any room, for tests as root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def tiny_disk(place: Path, size: int) -> Iterator[Path]:
    """A new file system of that many bytes, until the block is left."""
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tiny", str(place)], check=True, timeout=10
    )
    try:
        yield place
    finally:
        ended = subprocess.run(["umount", str(place)], check=False, timeout=10)
        if ended.returncode:
            # Something in it is still open: that fails the test, but no mount stays behind.
            subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=10)
    ended.check_returncode()


def fill(place: Path, *, leave: int = 0) -> Path:
    """Fill the disk up; the file it is filled with can be removed."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    if leave:
        with filler.open("r+b") as file:
            file.truncate(max(0, filler.stat().st_size - leave))
    return filler
