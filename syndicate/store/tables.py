"""What the SQLite store does with its database; all of it on the store's own thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.errors import Corrupt, Fenced, StorageFull, SyndicateError, Unavailable
from syndicate.store.encoding import REMEMBERED, Encoded, decode, exists, fenced
from syndicate.store.interface import Append, Archive, Create, Delete, Page, Plain, Put, Snapshot
from syndicate.store.refusals import failure
from syndicate.store.schema import DATABASE, MIGRATIONS, connect, damaged, mark_made
from syndicate.store.state_directory import DirectoryLock, make_durable_directory

_PUT = "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)"
_CREATE = "INSERT INTO record VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM record WHERE kind = ? AND key = ?"
_ARCHIVE = "INSERT INTO archive VALUES (?, ?, ?, ?, ?)"
_TAKE_BACK = "DELETE FROM archive WHERE kind = ? AND key = ?"
_IS_ASIDE = "SELECT 1 FROM archive WHERE kind = ? AND key = ?"
_APPEND = "INSERT INTO event VALUES (?, ?, ?)"


@attrs.frozen
class _Held:
    """A connection, and the lock that nobody else has one."""

    lock: DirectoryLock
    connection: sqlite3.Connection

    def release(self) -> None:
        """Let go of both."""
        try:
            # On a disk that takes no writes it cannot tidy up behind itself.
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()
        finally:
            self.lock.release()


def _take(path: Path, migrations: tuple[tuple[str, ...], ...]) -> _Held:
    lock = DirectoryLock.take(path.parent)
    try:
        return _Held(lock, connect(path, migrations))
    except sqlite3.Error as error:
        lock.release()
        raise failure(path, error) from error
    except BaseException:
        lock.release()
        raise


@attrs.define(eq=False)
class Tables:
    """An open database, and the lock on its directory.

    When the disk takes no writes for another reason than being full, both are let go of, so that
    the file system can be unmounted, checked and mounted again; each call then tries to take hold
    anew.
    """

    path: Path
    _migrations: tuple[tuple[str, ...], ...]
    _held: _Held | None
    position: int
    #: The present term; 0 when nobody leads. And the last one that was begun here.
    term: int = 0
    _last_term: int = 0
    #: Why the last write failed; empty if it did not.
    problem: str = ""

    @classmethod
    def open(cls, directory: Path, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> Tables:
        """Take hold of a state directory and its database.

        :raises SyndicateError: see `IStore.open`.
        """
        make_durable_directory(directory)
        path = directory / DATABASE
        held = _take(path, migrations)
        try:
            mark_made(path)
            position = _meta(held.connection, "position")
        except sqlite3.Error as error:
            held.release()
            raise failure(path, error) from error
        except BaseException:
            held.release()
            raise
        return cls(path, migrations, held, position)

    def close(self) -> None:
        """Let go of the database and the directory."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._held is None:
            self._held = self._take_again()
        return self._held.connection

    def _take_again(self) -> _Held:
        if not self.path.exists():
            raise Unavailable(
                f"The database {self.path} is not there now; mount its file system again, "
                "writable. The manager goes on by itself."
            )
        held = _take(self.path, self._migrations)
        try:
            position, term = _meta(held.connection, "position"), _meta(held.connection, "term")
        except sqlite3.Error as error:
            held.release()
            raise failure(self.path, error) from error
        if term != self._last_term:
            held.release()
            raise Fenced(
                f"{self.path} is of term {term} now, and this manager of {self._last_term}: "
                "another one has written to it. This manager must stop.",
                term=self._last_term,
                present=term,
            )
        if position < self.position:
            held.release()
            raise Corrupt(
                f"{self.path} has lost what was written to it: it ends with change {position}, and "
                f"change {self.position} was durable. Bring the right one back, or stop the "
                "manager and decide which to go on with."
            )
        # More than was answered may have been written; what is sent again is known by its id.
        self.position = position
        return held

    def write(self, batches: Sequence[Encoded]) -> list[int | SyndicateError]:
        """Write batches in one transaction; one that fails leaves the others alone.

        :returns: for each its position or its error.
        :raises SyndicateError: the whole of it failed, and nothing was written.
        """
        outcomes: list[int | SyndicateError] = []
        with self._transaction():
            before = position = self.position
            for batch in batches:
                outcome = self._attempt(batch, position + 1)
                position = max(position, outcome if isinstance(outcome, int) else 0)
                outcomes.append(outcome)
            if position > before:
                self._set_meta("position", position)
                self._execute("DELETE FROM applied WHERE pos <= ?", (position - REMEMBERED,))
        self.position = position
        return outcomes

    def _attempt(self, batch: Encoded, position: int) -> int | SyndicateError:
        if batch.term != self.term or not self.term:
            return fenced(batch.term, self.term)
        known = self.resolve(batch.id)
        if known is not None:
            return known
        self._execute("SAVEPOINT batch")
        try:
            self._apply(batch, position)
        except SyndicateError as error:
            self._execute("ROLLBACK TO batch")
            self._execute("RELEASE batch")
            return error
        self._execute("RELEASE batch")
        return position

    def _apply(self, batch: Encoded, position: int) -> None:
        for operation, value in batch.operations:
            match operation:
                case Put(kind=kind, key=key):
                    self._execute(_PUT, (kind, key, value, position))
                    self._execute(_TAKE_BACK, (kind, key))
                case Delete(kind=kind, key=key):
                    self._execute(_DELETE, (kind, key))
                    self._execute(_TAKE_BACK, (kind, key))
                case Archive(kind=kind, key=key, label=label, until=until):
                    self._execute(_DELETE, (kind, key))
                    self._execute(_TAKE_BACK, (kind, key))
                    self._execute(_ARCHIVE, (kind, key, value, label, until))
                case Create(kind=kind, key=key):
                    if self._read(_IS_ASIDE, (kind, key)):
                        raise exists(operation)
                    self._insert(operation, _CREATE, (kind, key, value, position))
                case Append(job=job, n=n):
                    self._insert(operation, _APPEND, (job, n, value))
        self._execute("INSERT INTO applied VALUES (?, ?)", (position, batch.id))

    def _insert(
        self, operation: Create | Append, statement: str, values: tuple[object, ...]
    ) -> None:
        try:
            self._execute(statement, values)
        except sqlite3.IntegrityError as error:
            raise exists(operation) from error

    def campaign(self) -> int:
        """Begin a term one above the last; durable when it returns."""
        with self._transaction():
            term = _meta(self._connection, "term") + 1
            self._set_meta("term", term)
        self.term = self._last_term = term
        return term

    def resign(self, term: int) -> None:
        """End a term, if it is the present one."""
        if self.term == term:
            self.term = 0

    def load(self) -> Snapshot:
        """See `IStore.load`."""
        rows = self._read("SELECT kind, key, value FROM record")
        records = {(kind, key): self._decoded(value) for kind, key, value in rows}
        return Snapshot(records, self.position)

    def archived(self, kind: str, key: str) -> Plain:
        """See `IStore.archived`."""
        rows = self._read("SELECT value FROM archive WHERE kind = ? AND key = ?", (kind, key))
        return self._decoded(rows[0][0]) if rows else None

    def archive(self, kind: str, page: Page) -> list[tuple[str, Plain]]:
        """See `IStore.archive`."""
        where, values = "kind = ? AND key > ?", [kind, page.after]
        for condition, value in (("key < ?", page.below), ("label = ?", page.label)):
            if value is not None:
                where += f" AND {condition}"
                values.append(value)
        rows = self._read(
            f"SELECT key, value FROM archive WHERE {where} "
            f"ORDER BY key {'DESC' if page.newest else 'ASC'} LIMIT ?",
            (*values, max(0, page.limit)),
        )
        return [(key, self._decoded(value)) for key, value in rows]

    def archive_size(self, kind: str) -> int:
        """See `IStore.archive_size`."""
        ((size,),) = self._read("SELECT count(*) FROM archive WHERE kind = ?", (kind,))
        return int(size)

    def expire(self, now: float) -> int:
        """See `IStore.expire`."""
        with self._transaction():
            return self._connection.execute("DELETE FROM archive WHERE until < ?", (now,)).rowcount

    def resolve(self, batch_id: str) -> int | None:
        """See `IStore.resolve`."""
        rows = self._read("SELECT pos FROM applied WHERE id = ?", (batch_id,))
        return rows[0][0] if rows else None

    def events(self, job: int, after: int, limit: int) -> list[Plain]:
        """See `IStore.events`."""
        rows = self._read(
            "SELECT value FROM event WHERE job = ? AND n > ? ORDER BY n LIMIT ?",
            (job, after, max(0, limit)),
        )
        return [self._decoded(value) for (value,) in rows]

    def trim(self, jobs: tuple[int, ...]) -> None:
        """See `IStore.trim`."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM event WHERE job = ?", [(job,) for job in jobs]
            )

    def _decoded(self, value: str) -> Plain:
        try:
            return decode(value)
        except ValueError as error:
            raise damaged(self.path, f"a value is no JSON: {error}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block or nothing; durable when it is left."""
        try:
            connection = self._connection
        except SyndicateError as error:
            self.problem = str(error)
            raise
        try:
            self._execute("BEGIN IMMEDIATE")
            yield
            self._execute("COMMIT")
        except BaseException as error:
            # Some failures have ended the transaction already.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    self._execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
            failed = failure(self.path, error)
            self.problem = str(failed)
            if not isinstance(failed, StorageFull):
                self.close()
            raise failed from error
        self.problem = ""

    def _read(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise failure(self.path, error) from error

    def _set_meta(self, name: str, value: int) -> None:
        self._execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> None:
        self._connection.execute(statement, values)


def _meta(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return int(value)
