"""What a client knows of the store's contents, and so what a read may return.

Each key has one writer, a thread of one client, which writes versions 1, 2, 3 and so on, each
once, one after another. A write is *acknowledged*, *refused* (surely not done), or nobody knows.
So what is right is simple to say, with no search through histories:

1. A read returns nothing (version 0), or a version that its writer has begun to write, with the
   very value that belongs to it.
2. It never returns a version that was refused.
3. It is at least the *floor* of its key: the highest version that was acknowledged, or that this
   client has read, before the read began. Of keys that other clients write, what they had told to
   be there before it began counts. No clocks are compared.
4. At the end every client reads every key once more, with every writer's word on what was
   acknowledged. A key gets few versions, so that most are never written over again: what was
   lost at any time is still missing then.
5. While the master is cut from all its backups (from the answer to Disconnect until the next
   fault is asked for) no write that is begun is acknowledged: no majority can have it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

LOST = "keys that lost an acknowledged write"
STALE = "reads of what was older than it must be"
UNWRITTEN = "reads of what was never written"
REFUSED = "reads of what was refused"
ALONE = "writes acknowledged while no backup could be reached"


class Book:
    """What one client has written, read and heard of; its threads share it.

    :param seed: that of the job, the same for all its clients.
    """

    def __init__(self, me: str, seed: int) -> None:
        self.me, self._seed = me, seed
        self._lock = threading.Lock()
        self._issued: dict[str, int] = {}
        self._refused: dict[str, set[int]] = defaultdict(set)
        self._floors: dict[str, int] = {}
        self._read: dict[str, set[int]] = defaultdict(set)
        self.acknowledged = self.reads = 0
        #: How many mistakes of each kind, and the first of each in words.
        self.mistakes: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        #: Which time the master is cut from all its backups; 0 when it is not.
        self.alone = 0
        self._times_alone = 0

    # -- writing

    def issue(self, key: str) -> tuple[int, str]:
        """The next version of a key of one's own, and its value."""
        with self._lock:
            version = self._issued[key] = self._issued.get(key, 0) + 1
            return version, self.value(key, version)

    def value(self, key: str, version: int) -> str:
        """What only the writer of this version of this key writes."""
        mark = hashlib.sha256(f"{self._seed} {key} {version}".encode()).hexdigest()[:16]
        return f"{key} {version} {mark}"

    def acknowledge(self, key: str, version: int, alone: int) -> None:
        """A write was acknowledged.

        :param alone: what `alone` was when it was begun.
        """
        with self._lock:
            self.acknowledged += 1
            self._raise_floor(key, version)
            if alone and alone == self.alone:
                self._blame(ALONE, f"version {version} of {key}")

    def refuse(self, key: str, version: int) -> None:
        """A write was surely not done."""
        with self._lock:
            self._refused[key].add(version)

    def set_alone(self, alone: bool) -> None:
        """From now on the master is cut from all its backups, or may not be any more."""
        with self._lock:
            self._times_alone += alone
            self.alone = self._times_alone if alone else 0

    # -- reading

    def keys(self) -> list[str]:
        """The keys of all clients in which something is known to be."""
        with self._lock:
            return list(self._floors)

    def floor(self, key: str) -> int:
        """The version that a read of this key must return at least, if it begins now."""
        with self._lock:
            return self._floors.get(key, 0)

    def check(self, key: str, floor: int, version: int, value: str, *, last: bool = False) -> None:
        """Judge what a read has returned.

        :param floor: of that key, when the read began.
        :param last: whether it is the read at the end.
        """
        with self._lock:
            self.reads += 1
            if version < floor:
                what = f"{key} has version {version}, but {floor} was there"
                self._blame(LOST if last else STALE, what)
            if version and value != self.value(key, version):
                self._blame(UNWRITTEN, f"{key} has {value!r} as version {version}")
            elif version:
                self._read[key].add(version)
                self._raise_floor(key, version)

    # -- what clients tell each other

    def floors(self) -> dict[str, int]:
        """What is surely there, of all keys."""
        with self._lock:
            return dict(self._floors)

    def hear(self, floors: Mapping[str, int]) -> None:
        """Take another client's word on what is surely there."""
        with self._lock:
            for key, version in floors.items():
                self._raise_floor(key, version)

    def tally(self) -> dict[str, Any]:
        """What this client has written, at its end."""
        with self._lock:
            refused = {key: sorted(versions) for key, versions in self._refused.items()}
            return {"issued": dict(self._issued), "refused": refused}

    def audit(self, tally: Mapping[str, Any]) -> None:
        """Judge all that was read of one client's keys by what that client has written."""
        with self._lock:
            for key, issued in tally["issued"].items():
                refused = set(tally["refused"].get(key, ()))
                for version in sorted(self._read[key]):
                    if version > issued:
                        self._blame(UNWRITTEN, f"{key} had version {version}, of {issued}")
                    elif version in refused:
                        self._blame(REFUSED, f"{key} had version {version}")

    def verdict(self) -> str:
        """All mistakes in words; empty when there is none."""
        with self._lock:
            told = (f"{n} {kind} ({self._examples[kind]})" for kind, n in self.mistakes.items())
            return "; ".join(told)

    def _raise_floor(self, key: str, version: int) -> None:
        self._floors[key] = max(self._floors.get(key, 0), version)

    def _blame(self, kind: str, example: str) -> None:
        self.mistakes[kind] += 1
        self._examples.setdefault(kind, f"such as: {example}")
