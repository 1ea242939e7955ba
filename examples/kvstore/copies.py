"""The master's side of its backups: one connection to each, and what it knows of their copies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import talk
from journal import Entry, Journal

#: Seconds between two words to a backup when there is nothing to write.
BEAT = 0.1
#: Seconds without an answer after which a backup is counted out, and its link given up.
LEASE = 0.6
#: Most entries in one message.
BATCH = 500


class Copy:
    """One backup, while it is connected.

    :param joined: what it said of itself.
    """

    def __init__(self, link: talk.Link, joined: dict[str, Any]) -> None:
        self.link = link
        self.machine: str = joined["machine"]
        self.blank: bool = joined["blank"]
        self.length: int = joined["length"]
        self.epoch: int = joined["epoch"]
        #: How many entries of *this* master's journal are on its disk.
        self.safe = 0
        #: When the last message that it has answered was sent.
        self.heard = time.monotonic()
        self._given: asyncio.Future[list[Entry]] | None = None

    @property
    def alive(self) -> bool:
        """Whether it has answered so lately that it still counts."""
        return time.monotonic() - self.heard < LEASE

    async def say(self, do: str, **rest: Any) -> None:
        """Send one message; its time comes back with the answer."""
        await self.link.send({"do": do, "sent": time.monotonic(), **rest})

    async def give(self) -> list[Entry]:
        """All that is in its journal.

        :raises talk.LinkBroken: it is gone.
        """
        self._given = asyncio.get_running_loop().create_future()
        await self.say("give")
        return await self._given

    async def listen(self, changed: Callable[[], None], *, following: asyncio.Event) -> None:
        """Take its answers.

        :param changed: is called after each.
        :param following: set once its copy is known to be a part of this master's journal.
        :raises talk.LinkBroken: at the end.
        """
        try:
            while True:
                answer = await self.link.receive(LEASE)
                self.heard = max(self.heard, answer["sent"])
                if "entries" in answer and self._given is not None:
                    self._given.set_result([Entry(*entry) for entry in answer["entries"]])
                elif following.is_set():
                    self.safe = answer["length"]
                changed()
        except talk.LinkBroken as error:
            if self._given is not None and not self._given.done():
                self._given.set_exception(error)
            raise

    async def wait(self, until: asyncio.Event) -> None:
        """Keep in touch while there is nothing to follow yet."""
        while not until.is_set():
            await self.say("wait")
            await asyncio.wait([asyncio.ensure_future(until.wait())], timeout=BEAT)

    async def bring_up(self, journal: Journal, more: Callable[[float], Awaitable[None]]) -> None:
        """Bring its copy to where the journal is, and keep it there.

        :param more: waits until there may be more entries, or for so many seconds.
        :raises talk.LinkBroken: at the end.
        """
        place = self.length
        known = not self.blank and place <= len(journal)
        if not known or journal.epoch_at(place) != self.epoch:
            # A blank disk, or entries that only this backup has, made by a master that got them
            # onto no majority: it takes over the journal as it is now.
            place = len(journal)
            await self.say("copy", entries=journal.entries[:place])
        while True:
            batch = journal.entries[place : place + BATCH]
            await self.say("append", at=place, entries=batch)
            place += len(batch)
            if place == len(journal):
                await more(BEAT)
