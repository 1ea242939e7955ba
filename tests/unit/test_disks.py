"""What is told of a machine's disk from its superblock alone."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from syndicate.sandbox.disk import Disks

#: Of a file system that ``mkfs.ext4`` has made, by place: inodes in all and free, when and how
#: often it was mounted, its mark, and the first inode that is not its own.
FRESH = {0: (4096, 4), 16: (4085, 4), 44: (0, 4), 52: (0, 2), 56: (0xEF53, 2), 84: (11, 4)}


def image(place: Path, **changes: int) -> Path:
    """An image with that superblock."""
    block = bytearray(1024)
    for at, (value, size) in FRESH.items():
        value = changes.get(f"at_{at}", value)
        struct.pack_into("<I" if size == 4 else "<H", block, at, value)
    path = place / "disk.img"
    path.write_bytes(bytes(1024) + block)
    return path


def test_a_disk_just_made_is_untouched(tmp_path: Path) -> None:
    assert Disks.is_untouched(image(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"at_16": 4084}, {"at_44": 1}, {"at_52": 1}, {"at_56": 0}],
    ids=["a file on it", "mounted at some time", "mounted once", "no file system"],
)
def test_whatever_was_done_to_a_disk_it_is_not(tmp_path: Path, change: dict[str, int]) -> None:
    assert not Disks.is_untouched(image(tmp_path, **change))
