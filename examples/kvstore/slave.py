"""The slave, which is a backup: keeps a copy of the master's journal on its disk.

It connects to the master, says how far its copy goes, and from then on writes down what it is
told, and says so when its disk has it. It never gives up: a master that is killed may be revived.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import talk
from journal import Entry, Journal

#: Seconds that a connection may take, and until the next try.
CONNECT, PAUSE = 0.3, 0.05
#: Seconds without a word of the master, which says something each 0.1 s, until it is given up.
SILENCE = 0.6


class Backup:
    """What a slave does with what its master says."""

    def __init__(self, machine: str, journal: Journal) -> None:
        self.machine, self.journal = machine, journal
        self._following: bool | None = None

    async def serve(self, link: talk.Link) -> None:
        """Follow the master over one link, until that breaks.

        :raises talk.LinkBroken: it did.
        """
        journal = self.journal
        await link.send(
            {
                "do": "join",
                "machine": self.machine,
                "blank": journal.blank,
                "length": len(journal),
                "epoch": journal.epoch,
            }
        )
        while True:
            message = await link.receive(SILENCE)
            self._note(True, f"following the master; I have {len(journal)} entries")
            await link.send({**self._answer(message), "sent": message["sent"]})

    def lost(self, why: str) -> None:
        """Note that there is no master to be followed."""
        self._note(False, f"without the master: {why}")

    def _note(self, following: bool, text: str) -> None:
        if following is not self._following:
            self._following = following
            talk.say(text)

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        journal = self.journal
        if message["do"] == "give":
            return {"entries": journal.entries}
        if message["do"] == "copy":
            journal.replace(Entry(*entry) for entry in message["entries"])
            talk.say(f"took a whole copy: {len(journal)} entries")
        elif message["do"] == "append":
            if journal.blank or message["at"] != len(journal):
                raise talk.LinkBroken("the master takes my copy for another one")
            if message["entries"]:
                journal.append([Entry(*entry) for entry in message["entries"]])
                journal.sync()
        return {"length": len(journal)}


async def follow(backup: Backup, address: str, port: int) -> None:
    """Follow the master, again and again, until this process is killed."""
    while True:
        try:
            link = await talk.connect(address, port, CONNECT)
            try:
                await backup.serve(link)
            finally:
                link.cut()
        except talk.LinkBroken as error:
            backup.lost(str(error))
        await asyncio.sleep(PAUSE)


def main() -> int:
    """Run the slave; it ends by being killed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("master", help="the master's address")
    given = options.parse_args()
    journal = Journal(given.data)
    talk.say("my disk is blank" if journal.blank else f"my disk has {len(journal)} entries")
    backup = Backup(os.environ.get("SYNDICATE_MACHINE", "slave[0]"), journal)
    asyncio.run(follow(backup, given.master, given.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
