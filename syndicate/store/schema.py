"""The tables of a state database, and the steps that bring an older one up to date.

``PRAGMA user_version`` holds the format: how many of the steps have been taken. A step is never
changed once it was released; a new format is a new step at the end.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from syndicate.domain.errors import Corrupt
from syndicate.durable import sync_directory

#: Step ``n`` (from 1) makes format ``n`` out of format ``n - 1``.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Values are JSON; `pos` is the position of the batch that set the record last.
        """CREATE TABLE record (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, pos INTEGER NOT NULL,
            PRIMARY KEY (kind, key)
        ) WITHOUT ROWID""",
        """CREATE TABLE event (
            job INTEGER NOT NULL, n INTEGER NOT NULL, value TEXT NOT NULL,
            PRIMARY KEY (job, n)
        ) WITHOUT ROWID""",
        # The batches written last, for writers that had no answer.
        "CREATE TABLE applied (pos INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('term', 0), ('position', 0)",
    ),
    (
        # What is over, and not loaded at the start. With row ids: its values are long.
        """CREATE TABLE archive (
            kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, label TEXT NOT NULL,
            until REAL, UNIQUE (kind, key)
        )""",
        "CREATE INDEX archive_label ON archive (kind, label, key)",
        "CREATE INDEX archive_until ON archive (until) WHERE until IS NOT NULL",
    ),
)

DATABASE = "state.db"

#: Beside the database once it has been made: without it, one that is gone could not be told from
#: one that never was.
MADE = f"{DATABASE}-made"

#: Bytes of a database up to which all of it is checked at the start. Of a larger one only what is
#: loaded is, as the rest may take longer to read than anybody wants to wait; a backup checks all.
CHECKED_WHOLE = 256 << 20

#: Marks a database as ours ("synd").
APPLICATION = 0x73796E64


def connect(path: Path, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> sqlite3.Connection:
    """Open a state database, new or not, check it, and bring it to the last format.

    The connection belongs to the calling thread and begins no transactions of itself.

    :raises Corrupt: it is damaged, of a newer format, or somebody else's.
    :raises sqlite3.Error: what else may go wrong.
    """
    _check_present(path)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _check(connection, path, len(migrations))
        # The order matters: a new file's journal mode is set before anything is written to it.
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit returns once it is on the disk.
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (present,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        verdict = _verdict(connection, path)
    except sqlite3.DatabaseError as error:
        if is_corrupt(error):
            raise damaged(path, str(error)) from error
        raise
    if application != APPLICATION and (tables or application or present):
        raise Corrupt(
            f"{path} is a database of another program; nothing was changed. "
            "Move it away, or start with another state directory."
        )
    if present > newest:
        raise Corrupt(
            f"{path} has format {present}; this version of Syndicate knows {newest} and older. "
            "Nothing was changed. Install the newer version again, or bring back the backup made "
            "before the upgrade, with the manager stopped:\n"
            f"  syndicate-manager restore --force --state {path.parent} BACKUP",
            format=present,
        )
    if verdict != "ok":
        raise damaged(path, verdict)


def _verdict(connection: sqlite3.Connection, path: Path) -> str:
    whole = path.stat().st_size <= CHECKED_WHOLE
    for what in ("1",) if whole else ("record", "applied", "meta"):
        (verdict,) = connection.execute(f"PRAGMA quick_check({what})").fetchone()
        if verdict != "ok":
            return str(verdict)
    return "ok"


def _check_present(path: Path) -> None:
    """A database that was there must not silently begin anew."""
    if (path.parent / MADE).exists() and not (path.exists() and path.stat().st_size):
        raise damaged(path, "it is empty" if path.exists() else "it is gone")


def mark_made(path: Path) -> None:
    """From now on there must be a database."""
    made = path.parent / MADE
    if not made.exists():
        made.touch(0o600)
        sync_directory(path.parent)


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether an error tells of damage to the file itself."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damaged(path: Path, what: str) -> Corrupt:
    """The error for a database that is not what was written."""
    return Corrupt(
        f"The database {path} is damaged: {what}. Nothing was changed. Bring the last backup back "
        f"with the manager stopped (what is there is moved aside, not deleted):\n"
        f"  syndicate-manager restore --force --state {path.parent} BACKUP\n"
        "Without a backup, begin with no jobs; the authority and the first tokens stay:\n"
        f"  mkdir {path.parent}/damaged && mv {path}* {path.parent}/damaged/"
    )


def _migrate(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...]) -> None:
    (present,) = connection.execute("PRAGMA user_version").fetchone()
    for number, statements in enumerate(migrations[present:], present + 1):
        # All of a step or nothing, the mark that it was taken included.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
