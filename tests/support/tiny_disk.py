"""A disk with hardly any room, for tests as root."""

from __future__ import annotations

import contextlib
import os
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


class Ext4:
    """An ext4 file system in a file, mounted until the block is left."""

    def __init__(self, place: Path, size: int) -> None:
        self.place, self.image = place, place.with_suffix(".ext4")
        with self.image.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        place.mkdir()

    def mount(self) -> None:
        """Mount it, writable."""
        run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.place))

    def break_off(self) -> None:
        """What an error of the disk does: the kernel takes no more writes, open files or not."""
        run("mount", "-o", "remount,abort", str(self.place))

    def umount(self) -> None:
        """Unmount it, which fails while anything in it is open."""
        run("umount", str(self.place))

    def check(self) -> None:
        """Repair it, as an operator would."""
        done = subprocess.run(["fsck.ext4", "-f", "-y", str(self.image)], capture_output=True)
        assert done.returncode < 4, done

    @contextlib.contextmanager
    def after_a_power_cut(self) -> Iterator[Path]:
        """The file system as it were if the power were cut at this moment: what the disk holds now
        is what it holds then.
        """
        image, place = self.image.with_suffix(".after.ext4"), self.place.with_suffix(".after")
        run("cp", "--sparse=always", str(self.image), str(image))
        place.mkdir()
        run("mount", "-o", "loop", str(image), str(place))
        try:
            yield place
        finally:
            run("umount", str(place))

    def __enter__(self) -> Ext4:
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        if os.path.ismount(self.place):
            run("umount", "--lazy", str(self.place))


def run(*words: str) -> None:
    """Run a command that must go well."""
    subprocess.run(words, check=True, timeout=20, capture_output=True)


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
