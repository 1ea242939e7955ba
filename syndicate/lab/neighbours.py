"""The kernel's limits on neighbour (ARP) entries.

They are one for the whole machine, all namespaces together. With the usual limit of 1024, of the
datagrams that 60 hosts send each other most are lost, silently; so a large lab raises it, and the
last lab to go puts back what it was.
"""

from __future__ import annotations

import re
from pathlib import Path

#: The three limits: below the first no entry is dropped, above the last none is made.
Limits = tuple[int, int, int]

_FILES = tuple(Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{n}") for n in (1, 2, 3))


def current() -> Limits:
    """What they are."""
    first, second, third = (int(path.read_text()) for path in _FILES)
    return first, second, third


def write(limits: Limits) -> str:
    """The short form, for `parse`."""
    return "/".join(map(str, limits))


def parse(text: str) -> Limits:
    """Read the short form; anything else is taken for what the limits are now."""
    found = re.fullmatch(r"(\d+)/(\d+)/(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else current()


def make_room(hosts: int) -> None:
    """Raise the limits, if need be, so that so many hosts can all speak with each other."""
    needed = (hosts + 2) ** 2
    now = current()
    if needed * 2 > now[2]:
        _set((needed, needed * 2, needed * 4))


def restore(limits: Limits) -> None:
    """Put back what was."""
    if current() != limits:
        _set(limits)


def _set(limits: Limits) -> None:
    # From the last to the first, so that they are in order all the time when raised.
    for path, value in reversed(list(zip(_FILES, limits, strict=True))):
        path.write_text(str(value))
