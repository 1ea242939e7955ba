"""Looking at what lies on a machine's disk."""

from __future__ import annotations

import os

from syndicate.sandbox.confine import loop, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from syndicate.sandbox.orders import Place


def look(place: Place) -> int:
    """Count what is on a disk image; it is mounted, read-only, for us alone.

    We must have the right to mount.
    """
    assert place["image"] is not None
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    device, path = loop.attach(place["image"])
    flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        syscalls.mount(path, place["root"], "ext4", flags)
    finally:
        os.close(device)
    return count(place["root"])


def count(disk: str) -> int:
    """How many files and directories a job has made: changed, added or removed ones in its root,
    and those in its ``/tmp``. No link is followed.
    """
    waiting = [f"{disk}/upper", f"{disk}/tmp"]
    found = 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # not there, or too deep or shut to look into: it is counted itself
            continue
    return found
