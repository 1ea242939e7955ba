"""Which of the volunteer's user ids a job gets, and whose processes live."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from syndicate.domain.errors import SandboxFailed


class Uids:
    """A range of user ids that nobody else on the host uses.

    :param first: the lowest one.
    :param last: the highest one.
    """

    def __init__(self, first: int, last: int) -> None:
        self._range = range(first, last + 1)
        self._taken: set[int] = set()
        #: Nothing of these was alive when we looked, and nobody but us uses them.
        self._proven: set[int] = set()

    def take(self, preferred: Iterable[int] = ()) -> int:
        """Take one that nothing alive has.

        :param preferred: those to try first.
        :raises SandboxFailed: when there is none.
        """
        free = [uid for uid in self._range if uid not in self._taken]
        for uid in (*(uid for uid in preferred if uid in free), *free):
            if uid in self._proven or not processes_of({uid}):
                self._taken.add(uid)
                self._proven.add(uid)
                return uid
        raise SandboxFailed(
            f"All user ids from {self._range.start} to {self._range.stop - 1} are in use on this "
            "host; give the volunteer a range of its own that nobody uses."
        )

    def release(self, uid: int) -> None:
        """Give one back: nothing of it is left."""
        self._taken.discard(uid)

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest one and the highest one."""
        return self._range.start, self._range.stop - 1

    @property
    def all(self) -> Collection[int]:
        """Every id of the range."""
        return self._range


def processes_of(uids: Collection[int]) -> set[int]:
    """The processes of the host that have any of these as their user id."""
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            status = Path(f"/proc/{name}/status").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        # Not the owner of the directory: that is root for processes that cannot be traced.
        line = status.partition(b"\nUid:")[2].partition(b"\n")[0]
        if any(int(uid) in uids for uid in line.split()):
            found.add(int(name))
    return found


def descendants_of(ancestor: int) -> set[int]:
    """The processes whose parent, or parent's parent and so on, is this one, and that live."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = _parent_of(int(name))
            if parent is not None:
                children.setdefault(parent, []).append(int(name))
    found: set[int] = set()
    waiting = [ancestor]
    while waiting:
        born = children.get(waiting.pop(), [])
        found.update(born)
        waiting += born
    return found


def _parent_of(pid: int) -> int | None:
    """The parent of a process, if that lives."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, parent = status.rpartition(")")[2].split()[:2]
    return None if state in ("Z", "X") else int(parent)


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended yet. The first process of a PID namespace
    ends, and is a zombie until somebody looks, only after all others in it.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
