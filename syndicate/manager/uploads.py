"""What may come into the blobs, and what leaves them: limits, and a sweep of what nobody needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobStore
from syndicate.domain.errors import StorageFull, TooMany, Unavailable
from syndicate.domain.quantities import say_size
from syndicate.manager.book import Book

log = Logger()

#: Seconds between two sweeps.
SWEEP = 600.0
#: Seconds after its last use for which a blob is spared though no job refers to it: its sender is
#: about to submit one.
GRACE = 600.0
#: The part of the capacity that is filled before a sweep makes room, and after it.
HIGH, LOW = 0.9, 0.8


@attrs.frozen
class Room:
    """What the site's operator lets the blobs and their senders have."""

    #: Bytes of all blobs and unfinished uploads.
    blobs: int = 100 << 30
    #: Uploads of users at once; and of one user, or one volunteer.
    uploads: int = 64
    uploads_each: int = 8


@attrs.define(eq=False)
class Uploads:
    """Lets uploads begin, and keeps the blobs below their bound.

    :param always: digests that are needed whatever the jobs.
    """

    _clock: IReactorTime
    _blobs: IBlobStore
    _book: Book
    _room: Room
    _always: Callable[[], tuple[str, ...]]
    #: Uploads under way by who sends them, and whether that is a volunteer.
    _under_way: Counter[tuple[str, bool]] = attrs.field(init=False, factory=Counter)
    #: Bytes announced by uploads that are under way.
    _announced: int = attrs.field(init=False, default=0)
    #: Bytes in the blobs, as of the last look and what has come since.
    _held: int = attrs.field(init=False, default=0)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)

    def open(self) -> None:
        """Begin to sweep."""
        self._held = self._blobs.total()
        self._timer = self._clock.callLater(0, self._sweep_again)

    def close(self) -> None:
        """Sweep no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def begin(self, who: str, size: int, *, volunteer: bool) -> Callable[[], None]:
        """Let somebody send a blob.

        :param size: its bytes.
        :returns: to be called when the upload has ended, however it did.
        :raises TooMany: too many are under way already.
        :raises StorageFull: the blobs have their limit, and jobs need what is there.
        """
        mine = self._under_way[who, volunteer]
        if mine >= self._room.uploads_each:
            raise TooMany(
                f"{who} sends {mine} files at once already, and nobody may send more here. "
                "Try again when one of them has arrived."
            )
        # What jobs have made must not wait for what users send.
        users = sum(n for (_, by_volunteer), n in self._under_way.items() if not by_volunteer)
        if not volunteer and users >= self._room.uploads:
            raise TooMany(f"The manager takes {users} files already; try again soon.")
        if self._held + self._announced + size > self._room.blobs:
            self._make_room(size)
        self._under_way[who, volunteer] += 1
        self._announced += size
        ended: list[bool] = []

        def end() -> None:
            if not ended:
                ended.append(True)
                self._announced -= size
                self._held += size
                self._under_way[who, volunteer] -= 1
                self._under_way += Counter()

        return end

    def refusal(self) -> Unavailable | None:
        """Why nothing new is taken, if it is not: the disk has no more than its reserve."""
        try:
            if self._blobs.free() > 0:
                return None
        except Unavailable as error:
            return error
        return StorageFull(
            "The manager's disk is full but for the reserve of its database; nothing new is "
            "taken. Its operator has to free some room; it goes on by itself then."
        )

    def _make_room(self, size: int) -> None:
        self._sweep(self._room.blobs - self._announced - size)
        if self._held + self._announced + size > self._room.blobs:
            raise StorageFull(
                f"The manager holds {say_size(self._held + self._announced)} of sources and "
                f"outputs and may hold {say_size(self._room.blobs)}; there is no room for "
                f"{say_size(size)} more, and jobs need what is there. Try again when some of them "
                "are over."
            )

    def _sweep_again(self) -> None:
        self._timer = self._clock.callLater(SWEEP, self._sweep_again)
        self._held = self._blobs.total()
        full = self._held > HIGH * self._room.blobs
        # Unfinished uploads of yesterday go in any case.
        self._sweep(int((LOW if full else 1) * self._room.blobs))

    def _sweep(self, capacity: int) -> None:
        since = self._clock.seconds() - GRACE
        swept = self._blobs.sweep(self.needed(), max(0, capacity), since)
        if swept:
            log.info("{count} sources and outputs made room for others.", count=len(swept))
        self._held = self._blobs.total()

    def needed(self) -> frozenset[str]:
        """Digests of all that a job in memory refers to."""
        found: set[str | None] = set(self._always())
        for job in self._book.jobs.values():
            found |= {job.spec.sha256, job.spec.client_sha256}
            found |= {machine.outputs for machine in job.machines}
        return frozenset(digest for digest in found if digest)
