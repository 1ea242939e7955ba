"""The master's mind: which writes are safe, what may be read, and how it all begins again.

A write is safe, and acknowledged, once it is on the disks of a majority of all machines, the
master's own among them. So with the master alive nothing that was acknowledged can be missing
here; and when its disk is lost, any ``machines - majority + 1`` backups have at least one among
them that has it all: the one whose last entry is of the latest epoch, and of those the longest.

An epoch is one start of the master. Its number is the clock's, or one more than any seen, so that
no two starts have the same, whatever was lost in between. Each begins with an entry of its own,
and nothing is served before that is on a majority: then all that came before is, too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import talk
from copies import BEAT, Copy, Pulse
from journal import Entry, Journal

#: Seconds that a write may take to reach a majority until its client is told that nobody knows.
WRITE = 0.8


class Primary:
    """The store, as its master has it.

    :param machines: how many there are, the master included.
    :param early: acknowledge a write as soon as the master knows of it: **wrong**, and there so
        that a benchmark can show that it finds out.
    """

    def __init__(self, journal: Journal, machines: int, *, early: bool = False) -> None:
        self.journal, self.machines = journal, machines
        self.majority = machines // 2 + 1
        #: How many disks a write must be on to be acknowledged.
        self.needed = 1 if early else self.majority
        self._early = early
        self._pulse = Pulse()
        self._copies: dict[str, Copy] = {}
        #: How many entries are on the own disk; are on a majority; must be, before all begins.
        self._synced = self._committed = self._begin = 0
        self._leading = False
        #: What may be read, and the newest version of each key, committed or not.
        self._values: dict[str, tuple[int, str]] = {}
        self._newest: dict[str, int] = {}

    async def run(self) -> None:
        """Recover what was, begin a new epoch, and then keep the own disk up."""
        while self.journal.blank:
            try:
                await self._recover()
            except talk.LinkBroken as error:
                talk.say(f"recovering again: {error}")
        epoch = max(time.time_ns() // 1_000_000, self.journal.epoch + 1)
        for entry in self.journal.entries:
            self._newest[entry.key] = entry.version
        self.journal.append([Entry(epoch)])
        self._begin, self._leading = len(self.journal), True
        talk.say(f"epoch {epoch} begins after {self._begin - 1} entries")
        while True:
            length = len(self.journal)
            if self._synced < length:
                await asyncio.to_thread(self.journal.sync)
                self._synced = length
                self._advance()
            else:
                await self._pulse.wait(BEAT)

    async def serve_backup(self, link: talk.Link, joined: dict[str, Any]) -> None:
        """Keep one backup's copy up, until its link breaks.

        :raises talk.LinkBroken: it did.
        """
        copy = Copy(link, joined)
        if copy.machine in self._copies:
            self._copies[copy.machine].link.cut()
        self._copies[copy.machine] = copy
        self._pulse.beat()
        what = "a blank disk" if copy.blank else f"{copy.length} entries"
        talk.say(f"{copy.machine} joins with {what}")
        feeding = asyncio.create_task(self._feed(copy))
        try:
            await copy.listen(self._advance)
        finally:
            feeding.cancel()
            link.cut()
            if self._copies.get(copy.machine) is copy:
                del self._copies[copy.machine]
                talk.say(f"{copy.machine} is gone")
            await asyncio.gather(feeding, return_exceptions=True)

    async def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to a client.

        ``refused`` says that nothing was done, and nothing will be; ``unsure`` that it may have
        been done, or may be later.
        """
        match message:
            case {"do": "put", "key": str(key), "version": int(version), "value": str(value)}:
                return await self._put(Entry(self.journal.epoch, key, version, value))
            case {"do": "get", "key": str(key)}:
                if problem := self._problem(self.majority):
                    return {"refused": problem}
                version, value = self._values.get(key, (0, ""))
                return {"version": version, "value": value}
            case {"do": "status"}:
                return {
                    "problem": self._problem(self.majority),
                    "length": len(self.journal),
                    "committed": self._committed,
                    "copies": {copy.machine: copy.safe for copy in self._copies.values()},
                }
        return {"refused": "I know put (key, version, value), get (key) and status"}

    async def _put(self, entry: Entry) -> dict[str, Any]:
        if problem := self._problem(self.needed):
            return {"refused": problem}
        if entry.version <= self._newest.get(entry.key, 0):
            return {"refused": f"{entry.key} has version {self._newest[entry.key]} already"}
        self._newest[entry.key] = entry.version
        self.journal.append([entry])
        length = len(self.journal)
        self._advance()
        deadline = time.monotonic() + WRITE
        while self._committed < length:
            left = deadline - time.monotonic()
            if left <= 0:
                return {"unsure": f"not on {self.needed} of {self.machines} machines in time"}
            await self._pulse.wait(left)
        return {"done": True}

    def _problem(self, needed: int) -> str:
        """Why nothing can be served now; empty when it can."""
        if not self._leading:
            return "the master recovers what it had from the backups"
        if self._committed < self._begin:
            return "the master's journal is not on a majority yet"
        reached = 1 + sum(copy.alive for copy in self._copies.values())
        if reached < needed:
            return f"only {reached} of {self.machines} machines can be reached"
        return ""

    def _advance(self) -> None:
        """See how far a majority has come, and let that be read."""
        safe = [self._synced, *(copy.safe for copy in self._copies.values())]
        safe += [0] * self.needed
        # Never more than the own disk has, whatever the backups are ahead with.
        reached = min(self._synced, sorted(safe, reverse=True)[self.needed - 1])
        if self._early:
            reached = len(self.journal)
        if self._leading and reached >= self._begin:
            for entry in self.journal.entries[self._committed : reached]:
                self._values[entry.key] = (entry.version, entry.value)
            self._committed = max(self._committed, reached)
        self._pulse.beat()

    async def _feed(self, copy: Copy) -> None:
        await copy.keep_in_touch(lambda: self._leading, self._pulse)
        await copy.bring_up(self.journal, self._pulse)

    async def _recover(self) -> None:
        """Get the journal from the backups, or begin a new one when there never was any."""
        while True:
            here = [copy for copy in self._copies.values() if copy.alive]
            whole = [copy for copy in here if not copy.blank]
            if len(whole) > self.machines - self.majority:
                best = max(whole, key=lambda copy: (copy.epoch, copy.length))
                entries = await best.give()
                talk.say(f"recovered {len(entries)} entries from {best.machine}")
                return self.journal.replace(entries)
            if not whole and len(here) == self.machines - 1:
                talk.say("every disk is blank: this is a new store")
                return self.journal.replace([])
            await self._pulse.wait(BEAT)
