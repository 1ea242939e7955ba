"""The master, which is the primary: backups and clients come to it.

Its disk is blank at the first start, and when it was revived without its disk. Which of these it
is, the backups tell: see `primary`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import talk
from journal import Journal
from primary import Primary


async def serve(primary: Primary, address: str, port: int) -> None:
    """Let backups and clients in, until this process is killed."""

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = talk.Link(reader, writer)
        try:
            message = await link.receive()
            if message.get("do") == "join":
                await primary.serve_backup(link, message)
            while True:
                await link.send(await primary.answer(message))
                message = await link.receive()
        except talk.LinkBroken:
            link.cut()

    server = await asyncio.start_server(let_in, address or None, port)
    async with server:
        await primary.run()


async def start(journal: Journal, machines: int, early: bool, address: str, port: int) -> None:
    """Make the primary, which lives in a running loop, and serve it."""
    await serve(Primary(journal, machines, early=early), address, port)


def main() -> int:
    """Run the master; it ends by being killed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--listen", default="", help="an address; any, if not given")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--acknowledge", choices=["majority", "early"], required=True)
    given = options.parse_args()
    early = given.acknowledge == "early"
    machines = int(os.environ.get("SYNDICATE_MACHINES", "2"))
    journal = Journal(given.data, durable=not early)
    talk.say(f"one of {machines} machines; my disk has {len(journal)} entries")
    asyncio.run(start(journal, machines, early, given.listen, given.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
