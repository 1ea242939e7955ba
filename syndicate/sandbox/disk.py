"""The disks of machines: each a sparse ext4 image of just the size that the job may fill.

Making a file system takes a program and some ten milliseconds, so one is made for each size and
copied from then on; a fresh copy takes about one.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
from pathlib import Path
from typing import NamedTuple, cast

from twisted.internet.utils import getProcessOutputAndValue

from syndicate.domain.errors import SandboxFailed, StorageFull
from syndicate.domain.quantities import say_size
from syndicate.sandbox.launching import IHostReactor

#: A smaller file system cannot be made.
SMALLEST = 4 << 20
#: Of a disk's inodes, those that the file system and the overlay take themselves; and there is no
#: more than one for so many bytes, as each takes 256 itself.
_OWN_INODES = 20
_BYTES_PER_INODE = 4096
#: Room on the host's disk to be left for others.
_MARGIN = 32 << 20
#: How many templates are kept.
_TEMPLATES = 4
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FEATURES = "^has_journal,^resize_inode,extent,sparse_super,uninit_bg"


#: Where the superblock of ext4 begins, its size up to what we want to know, and its mark.
_SUPERBLOCK_AT = 1024
_SUPERBLOCK = struct.Struct("<I12xI24xI4xH2xH26xI")
_MAGIC = 0xEF53


class _Superblock(NamedTuple):
    """What is read of it."""

    inodes: int
    free_inodes: int
    #: When it was mounted last, in seconds since 1970, and how often it was.
    mounted: int
    mounts: int
    magic: int
    #: The first number that is not the file system's own, which ``lost+found`` gets.
    first_inode: int


class Disks:
    """Makes disks.

    :param directory: where the templates are kept.
    :param images: whether to make images; else a disk is a plain directory without a cap.
    """

    def __init__(self, reactor: IHostReactor, directory: Path, images: bool = True) -> None:
        self._reactor = reactor
        self._directory = directory
        self.images = images

    @staticmethod
    def problem() -> str | None:
        """What keeps this host from having images, if something does."""
        if not os.path.exists("/dev/loop-control"):
            return "there is no /dev/loop-control: load the kernel module 'loop'"
        if not shutil.which("mkfs.ext4", path=_SYSTEM_PATH):
            return "there is no mkfs.ext4: install e2fsprogs"
        return None

    def check_room(self, size: int) -> None:
        """Look whether the host's disk can hold a full disk of that size.

        :raises StorageFull: if not.
        """
        free = shutil.disk_usage(self._directory).free
        if free < size + _MARGIN:
            raise StorageFull(
                f"The volunteer's disk has {say_size(free)} free at {self._directory}, but the "
                f"job's machine may fill {say_size(size)}. Free some, or submit with a smaller "
                "disk limit."
            )

    @staticmethod
    def is_untouched(image: Path) -> bool:
        """Whether a disk is as it was made: its file system was never mounted, and has no files and
        directories but its own. It is read as it lies there; nothing may have it mounted.
        """
        with open(image, "rb") as file:
            file.seek(_SUPERBLOCK_AT)
            block = _Superblock(*_SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size)))
        return (
            block.magic == _MAGIC
            and block.mounted == block.mounts == 0
            and block.inodes - block.free_inodes == block.first_inode
        )

    async def make(self, place: Path, size: int, inodes: int) -> Path | None:
        """Make a fresh disk: the image ``place.img``, or the empty directory ``place``.

        :param inodes: how many files, directories and links it is to hold, about: there may be
            some more, and fewer on a small disk.
        :returns: the image, if it is one.
        """
        if not self.images:
            os.mkdir(place, 0o700)
            return None
        size = max(size, SMALLEST)
        inodes = min(inodes + _OWN_INODES, size // _BYTES_PER_INODE)
        template = self._directory / f"{size}-{inodes}.ext4"
        if not template.exists():
            await self._make_template(template, size, inodes)
        image = place.with_suffix(".img")
        _copy_sparse(template, image)
        os.utime(template)
        return image

    async def _make_template(self, template: Path, size: int, inodes: int) -> None:
        half_made = template.with_suffix(f".{os.urandom(4).hex()}")
        program = cast(str, shutil.which("mkfs.ext4", path=_SYSTEM_PATH))
        arguments = ["-q", "-F", "-m", "0", "-O", _FEATURES, "-E", "lazy_itable_init=1,nodiscard"]
        arguments += ["-N", str(inodes)]
        try:
            _make_hole(half_made, size)
            said, error, code = await getProcessOutputAndValue(
                program, [*arguments, str(half_made)], env={}, path="/", reactor=self._reactor
            )
            if code:
                text = (error or said).decode("utf-8", "replace").strip()
                raise SandboxFailed(f"No file system could be made for the job's disk: {text}")
            half_made.rename(template)
        finally:
            half_made.unlink(missing_ok=True)
        kept = sorted(self._directory.glob("*.ext4"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_TEMPLATES]:
            old.unlink(missing_ok=True)


def _make_hole(path: Path, size: int) -> None:
    with open(path, "xb") as file:
        file.truncate(size)


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes."""
    with open(source, "rb") as old, open(target, "xb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        at = 0
        while True:
            try:
                start = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    return
                raise
            at = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            os.lseek(new.fileno(), start, os.SEEK_SET)
            while start < at:
                start += os.sendfile(new.fileno(), old.fileno(), start, at - start)
