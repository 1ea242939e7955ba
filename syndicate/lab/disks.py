"""Small file systems in a lab's directory: for the skeletons of its jobs' roots and, where it is
asked for, for the state of its hosts, so that they can be filled up and wiped without harm to the
machine's own disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

from syndicate.domain.errors import Unavailable
from syndicate.mounts import below

#: What the mounts are called in the kernel's list.
NAME = "syndicate-small-disk"
SKELETONS = "syndicate-skeletons"

#: Bytes of each host's disk; they are memory once they are written.
SIZE_OF_MANAGER = 256 << 20
SIZE_OF_VOLUNTEER = 96 << 20

#: The most bytes of all skeletons of a lab; they are mere links, and take two million.
_SIZE_OF_SKELETONS = 64 << 20

_FILLER = "filler"


@attrs.frozen
class Disks:
    """The small disks of one lab."""

    #: The lab's.
    directory: Path

    def place(self, host: str) -> Path:
        """Where a host's disk is mounted."""
        return self.directory / host / "state"

    def mount(self, hosts: Sequence[str]) -> None:
        """Give these hosts an empty disk each.

        :raises Unavailable: the kernel would not.
        """
        for host in hosts:
            place = self.place(host)
            place.mkdir(mode=0o711, parents=True, exist_ok=True)
            place.parent.chmod(0o711)
            size = SIZE_OF_MANAGER if host == "manager" else SIZE_OF_VOLUNTEER
            mode = "0700" if host == "manager" else "0711"
            options = f"size={size},mode={mode}"
            _run("mount", "-t", "tmpfs", "-o", options, NAME, str(place))

    def unmount(self) -> None:
        """Take them all away, with what is on them."""
        for place in mounted(self.directory):
            _run("umount", "--lazy", str(place))

    def wipe(self, host: str) -> None:
        """Give a host an empty disk in the place of the one it has."""
        _run("umount", "--lazy", str(self.place(host)))
        self.mount([host])

    def fill(self, host: str) -> int:
        """Leave no room on a host's disk; gives the bytes that it took."""
        written = 0
        with (self.place(host) / _FILLER).open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        written += _write(file.fileno(), size)
        return written

    def empty(self, host: str) -> None:
        """Give back the room that `fill` took."""
        (self.place(host) / _FILLER).unlink(missing_ok=True)


def _write(descriptor: int, size: int) -> int:
    written = os.write(descriptor, bytes(size))
    if written < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written


def mount_skeletons(place: Path) -> None:
    """Have what is kept in a lab's place for skeletons in memory. They are some two thousand links,
    ten times as many as all other files of a lab, and made anew at each start; where as many were
    removed a minute ago, ext4 takes up to half a second of processor time for them.

    :raises Unavailable: the kernel would not.
    """
    place.mkdir(mode=0o755, exist_ok=True)
    _run(
        "mount", "-t", "tmpfs", "-o", f"size={_SIZE_OF_SKELETONS},mode=0755", SKELETONS, str(place)
    )


def unmount_skeletons(directory: Path) -> None:
    """Take the skeletons of the lab in a directory away; nobody may use them any more."""
    for place in mounted(directory, SKELETONS):
        _run("umount", "--lazy", str(place))


def mounted(directory: Path, name: str = NAME) -> list[Path]:
    """The small file systems of that name in a lab's directory."""
    return [mount.point for mount in below(directory) if mount.source == name]


def _run(*words: str) -> None:
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    if run.returncode:
        raise Unavailable(f"`{' '.join(words)}` failed: {run.stderr.strip()}")
