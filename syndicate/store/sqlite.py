"""The store of a single manager: a SQLite database in a directory of its own."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from syndicate.domain.errors import SyndicateError, Unavailable
from syndicate.store.encoding import Encoded, encoded
from syndicate.store.interface import (
    Batch,
    ILeadership,
    IStore,
    ITerm,
    Page,
    Plain,
    Snapshot,
    StoreHealth,
)
from syndicate.store.schema import DATABASE, MIGRATIONS
from syndicate.store.tables import Tables
from syndicate.store.term import Term
from syndicate.store.writer import Writer


@implementer(IStore)
class SqliteStore:
    """Keeps records in ``state.db``, in a directory that no other process may use meanwhile.

    :param directory: made when it is not there.
    :param migrations: the steps of the format; others than ours for tests of them only.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        directory: Path,
        migrations: tuple[tuple[str, ...], ...] = MIGRATIONS,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self._open_tables = functools.partial(Tables.open, directory, migrations)
        self._writer: Writer | None = None
        self._ready = False
        #: The term that is held, if any.
        self.term: Term | None = None

    def open(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        if self._writer is not None:
            raise Unavailable(f"The store in {self._directory} is open already.")
        self._writer = Writer(self._reactor, self._open_tables)
        try:
            await self._writer.start()
        except BaseException:
            self._writer = None
            raise
        self._ready = True

    def load(self) -> Deferred[Snapshot]:
        return self.ask(Tables.load)

    def commit(self, batch: Batch, term: int) -> Deferred[int]:
        try:
            work = encoded(batch, term)
        except SyndicateError as error:
            return fail(error)
        return self.ask(work)

    def archived(self, kind: str, key: str) -> Deferred[Plain]:
        return self.ask(lambda tables: tables.archived(kind, key))

    def archive(self, kind: str, page: Page) -> Deferred[list[tuple[str, Plain]]]:
        return self.ask(lambda tables: tables.archive(kind, page))

    def archive_size(self, kind: str) -> Deferred[int]:
        return self.ask(lambda tables: tables.archive_size(kind))

    def expire(self, now: float) -> Deferred[int]:
        return self.ask(lambda tables: tables.expire(now))

    def resolve(self, batch_id: str) -> Deferred[int | None]:
        return self.ask(lambda tables: tables.resolve(batch_id))

    def events(self, job: int, after: int, limit: int) -> Deferred[list[Plain]]:
        return self.ask(lambda tables: tables.events(job, after, limit))

    def trim(self, jobs: tuple[int, ...]) -> Deferred[None]:
        return self.ask(lambda tables: tables.trim(jobs))

    def health(self) -> Deferred[StoreHealth]:
        # Without the thread: a disk that hangs is just what an operator wants to be told of.
        size = 0
        for path in self._directory.glob(f"{DATABASE}*"):
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        if self._writer is None or not self._ready:
            return succeed(StoreHealth("sqlite", 0, size, "The store is not open."))
        return succeed(StoreHealth("sqlite", self._writer.position, size, self._writer.problem))

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._ready = False
        if self.term is not None:
            self.term.end()
            self.term = None
        writer = self._writer
        if writer is not None:
            await writer.stop()
            if self._writer is writer:
                self._writer = None

    def ask(self, work: Encoded | Callable[[Tables], Any]) -> Deferred[Any]:
        """Have the store's thread do something, after all that was asked for before.

        :raises Unavailable: the store is not open.
        """
        if self._writer is None or not self._ready:
            return fail(
                Unavailable(f"The store in {self._directory} is not open; nothing was written.")
            )
        return self._writer.ask(work)


@implementer(ILeadership)
class SqliteLeadership:
    """Whoever holds the store's directory leads; each campaign begins a term of its own."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def campaign(self, me: str) -> Deferred[ITerm]:
        return Deferred.fromCoroutine(self._campaign(me))

    async def _campaign(self, me: str) -> ITerm:
        number = await self._store.ask(Tables.campaign)
        if self._store.term is not None:
            self._store.term.end(f"{me} began term {number} in this process.")
        self._store.term = Term(me, number, self._resign)
        return self._store.term

    def _resign(self, number: int) -> Deferred[None]:
        held = self._store.term
        if held is None or held.number != number:
            return succeed(None)
        self._store.term = None
        # Behind the batches that were given in this term.
        return self._store.ask(lambda tables: tables.resign(number))

    def leader(self) -> Deferred[tuple[str, int] | None]:
        term = self._store.term
        return succeed(None if term is None else (term.holder, term.number))
