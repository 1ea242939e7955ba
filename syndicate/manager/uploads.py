"""What may come into the blobs, and what leaves them: limits, and a sweep of what nobody needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobStore
from syndicate.domain.errors import StorageFull, SyndicateError, TooMany, Unavailable
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
    #: Those that have no room before the next sweep is over.
    _waiting: list[Deferred[None]] = attrs.field(init=False, factory=list)
    #: Whether it is time for a sweep; fires when the one that is under way has ended.
    _due: bool = attrs.field(init=False, default=False)
    _sweeping: Deferred[None] | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)

    async def open(self) -> None:
        """Begin to sweep."""
        self._held = await self._blobs.total()
        self._timer = self._clock.callLater(0, self._sweep_again)

    async def close(self) -> None:
        """Sweep no more; waits for what is under way."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._blobs.close()
        if self._sweeping is not None:
            await self._sweeping

    async def begin(self, who: str, size: int, *, volunteer: bool) -> Callable[[], None]:
        """Let somebody send a blob. Where others have to be swept first, it takes as long.

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
        self._count(who, size, 1, volunteer=volunteer)
        try:
            if self._lacks_room():
                await self._make_room(size)
        except BaseException:
            self._count(who, size, -1, volunteer=volunteer)
            raise
        ended: list[bool] = []

        def end() -> None:
            if not ended:
                ended.append(True)
                self._held += size
                self._count(who, size, -1, volunteer=volunteer)

        return end

    def _count(self, who: str, size: int, more: int, *, volunteer: bool) -> None:
        self._announced += more * size
        self._under_way[who, volunteer] += more
        self._under_way += Counter()

    def _lacks_room(self) -> bool:
        return self._held + self._announced > self._room.blobs

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

    async def _make_room(self, size: int) -> None:
        swept: Deferred[None] = Deferred()
        self._waiting.append(swept)
        self._sweep_soon()
        try:
            await swept
        finally:
            if swept in self._waiting:  # it has gone away, and needs no other sweep
                self._waiting.remove(swept)
        if self._lacks_room():
            held = self._held + self._announced - size
            raise StorageFull(
                f"The manager holds {say_size(held)} of sources and "
                f"outputs and may hold {say_size(self._room.blobs)}; there is no room for "
                f"{say_size(size)} more, and jobs need what is there. Try again when some of them "
                "are over."
            )

    def _sweep_again(self) -> None:
        self._timer = self._clock.callLater(SWEEP, self._sweep_again)
        self._due = True
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        """Sweep, or once more when the sweep that is under way is over."""
        if self._sweeping is None:
            self._sweeping = Deferred()
            Deferred.fromCoroutine(self._sweep_all()).addErrback(
                lambda failure: log.failure("the blobs could not be swept", failure)
            )

    async def _sweep_all(self) -> None:
        try:
            while self._due or self._waiting:
                due, self._due = self._due, False
                waiting, self._waiting = self._waiting, []
                try:
                    if not self._closed:
                        await self._sweep(due)
                except SyndicateError as error:
                    log.warn("Sources and outputs cannot be swept now: {why}", why=str(error))
                finally:
                    for each in waiting:
                        if not each.called:
                            each.callback(None)
        finally:
            ended, self._sweeping = self._sweeping, None
            if ended is not None:
                ended.callback(None)

    async def _sweep(self, due: bool) -> None:
        capacity = self._room.blobs - self._announced
        if due:
            self._held = await self._blobs.total()
            full = self._held > HIGH * self._room.blobs
            # Unfinished uploads of yesterday go in any case.
            capacity = min(capacity, int((LOW if full else 1) * self._room.blobs))
        since = self._clock.seconds() - GRACE
        swept = await self._blobs.sweep(self.needed, max(0, capacity), since)
        if swept:
            log.info("{count} sources and outputs made room for others.", count=len(swept))
        self._held = await self._blobs.total()

    def needed(self) -> frozenset[str]:
        """Digests of all that a job in memory refers to."""
        found: set[str | None] = set(self._always())
        for job in self._book.jobs.values():
            found |= {job.spec.sha256, job.spec.client_sha256}
            found |= {machine.outputs for machine in job.machines}
        return frozenset(digest for digest in found if digest)
