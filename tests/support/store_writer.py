"""A process that writes to a store until it is killed, and says which batches it was told of.

Each batch creates the record ``first/<n>`` and appends event ``n``, so that a half of one shows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from syndicate.store.interface import Append, Batch, Create
from syndicate.store.sqlite import SqliteLeadership, SqliteStore

WRITERS = 8


async def write(reactor: Any, directory: str) -> None:
    store = SqliteStore(reactor, Path(directory))
    await store.open()
    term = await SqliteLeadership(store).campaign("writer")
    numbers = iter(range((await store.load()).position + 1, 1 << 60))

    async def go_on() -> None:
        for n in numbers:
            batch = Batch(f"batch {n}", (Create("first", str(n), "x" * 500), Append(1, n, n)))
            await store.commit(batch, term.number)
            sys.stdout.write(f"{n}\n")
            sys.stdout.flush()

    await gatherResults([Deferred.fromCoroutine(go_on()) for _ in range(WRITERS)])


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(write(reactor, sys.argv[1])))
