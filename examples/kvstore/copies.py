"""The master's side of its backups: a connection to each, and what is known of their copies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import talk
from journal import Entry, Journal

#: Seconds between two words to a backup when there is nothing to write.
BEAT = 0.1
#: Seconds without an answer after which a backup does not count, and its link is given up.
LEASE = 0.6
#: Most entries in one message.
BATCH = 500


class Pulse:
    """Wakes whoever waits for something to change."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def beat(self) -> None:
        """Something has changed."""
        self._next.set_result(None)
        self._next = asyncio.get_running_loop().create_future()

    async def wait(self, seconds: float) -> None:
        """Wait until the next change, or for so many seconds."""
        await asyncio.wait([self._next], timeout=seconds)


class Copy:
    """One backup, while it is connected.

    :param joined: what it has said of itself.
    """

    def __init__(self, link: talk.Link, joined: dict[str, Any]) -> None:
        self.link = link
        self.machine: str = joined["machine"]
        self.blank: bool = joined["blank"]
        self.length: int = joined["length"]
        self.epoch: int = joined["epoch"]
        #: How many entries of *this* master's journal are surely on its disk.
        self.safe = 0
        #: When the latest message that it has answered was sent.
        self._heard = time.monotonic()
        self._given: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        """Whether it has answered so lately that it counts."""
        return time.monotonic() - self._heard < LEASE

    async def give(self) -> list[Entry]:
        """All that is in its journal.

        :raises talk.LinkBroken: it does not answer.
        """
        await self._say("give")
        try:
            async with asyncio.timeout(LEASE):
                return await asyncio.shield(self._given)
        except TimeoutError as error:
            raise talk.LinkBroken(f"{self.machine} does not give its entries") from error

    async def listen(self, changed: Callable[[], None]) -> None:
        """Take its answers.

        :param changed: is called after each.
        :raises talk.LinkBroken: at the end.
        """
        while True:
            answer = await self.link.receive(LEASE)
            self._heard = max(self._heard, answer["sent"])
            self.safe = answer.get("length", self.safe)
            if "entries" in answer and not self._given.done():
                self._given.set_result([Entry(*entry) for entry in answer["entries"]])
            changed()

    async def keep_in_touch(self, ready: Callable[[], bool], pulse: Pulse) -> None:
        """Let it know that its master lives, but has nothing to follow yet."""
        while not ready():
            await self._say("wait")
            await pulse.wait(BEAT)

    async def bring_up(self, journal: Journal, pulse: Pulse) -> None:
        """Bring its copy to where the journal is, and keep it there.

        :raises talk.LinkBroken: at the end.
        """
        place = self.length
        if self.blank or place > len(journal) or journal.epoch_at(place) != self.epoch:
            # A blank disk; or entries that only this backup has, from a master that got them onto
            # no majority. Whatever it has, the journal as it is now takes its place.
            place = len(journal)
            await self._say("copy", entries=journal.entries)
        while True:
            batch = journal.entries[place : place + BATCH]
            place += len(batch)
            await self._say("append", at=place - len(batch), entries=batch)
            if place == len(journal):
                await pulse.wait(BEAT)

    async def _say(self, do: str, **rest: Any) -> None:
        # The time comes back with the answer: that is how old the answer is at most.
        await self.link.send({"do": do, "sent": time.monotonic(), **rest})
