"""What is mounted, as the kernel lists it, and the loop devices on which images of disks are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount."""

    #: Where it is.
    point: Path
    #: The directory of its file system that is shown there.
    shown: str
    #: The kind of its file system.
    kind: str
    #: The device, or what it was called by the one who mounted it.
    source: str
    #: The options of its file system.
    options: str

    def concerns(self, directory: Path) -> bool:
        """Whether it is at or below a directory, or shows something from there."""
        if any(Path(each).is_relative_to(directory) for each in (self.point, self.shown)):
            return True
        # As the layers of an overlay are told.
        return re.search(rf"[=:]{re.escape(str(directory))}([/:,]|$)", self.options) is not None


def mounts(process: int | str = "self") -> Iterator[Mount]:
    """All that a process sees, in the order in which the kernel lists it.

    :raises OSError: it cannot be looked at, as when it has ended.
    """
    # In bytes: whatever else is mounted may be called anything.
    return parse(Path(f"/proc/{process}/mountinfo").read_bytes())


def below(directory: Path) -> list[Mount]:
    """What we see at or below a directory, the innermost first."""
    found = (mount for mount in mounts() if mount.point.is_relative_to(directory))
    return sorted(found, key=lambda mount: mount.point, reverse=True)


def loops_below(directory: Path) -> Iterator[Path]:
    """Loop devices whose image lies below a directory, or did so when it was removed."""
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            image = os.fsdecode(file.read_bytes())
        except OSError:
            continue
        if image.startswith(f"{directory}/"):
            yield Path("/dev") / file.parts[3]


def parse(listed: bytes) -> Iterator[Mount]:
    """Read what ``/proc/PID/mountinfo`` holds; see proc_pid_mountinfo(5)."""
    for line in listed.split(b"\n"):
        if line:
            fields, _, rest = line.partition(b" - ")
            shown, point = map(_text, fields.split(b" ")[3:5])
            kind, source, options = map(_text, rest.split(b" ", 2))
            yield Mount(Path(point), shown, kind, source, options)


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))
