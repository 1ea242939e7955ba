"""Copies of a state database: made while it is in use, checked, and set to be gone on from."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from syndicate.domain.errors import Corrupt, NotFound, Unavailable
from syndicate.store.interface import NEXT_JOB
from syndicate.store.refusals import failure
from syndicate.store.schema import APPLICATION, MIGRATIONS, damaged, is_corrupt

#: By how much a restored database's term is above the one it was saved with. Volunteers refuse
#: orders of a term below the highest they have seen, and the manager may have been started often
#: since.
TERMS_AHEAD = 1_000_000

#: Numbers that are left out for jobs that came after the copy was made: theirs may still be in
#: somebody's hands.
NUMBERS_AHEAD = 1000


_ARCHIVED = "SELECT value FROM archive WHERE kind = 'job'"


@attrs.frozen
class Contents:
    """What a database refers to, and holds."""

    format: int
    jobs: int
    #: Digests of the blobs that its jobs need; those of the ones that are not finished first.
    needed: tuple[str, ...]
    others: tuple[str, ...]


@contextlib.contextmanager
def _opened(path: Path, mode: str = "rw") -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise NotFound(f"There is no database {path}; check the state directory.")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30)
    try:
        yield connection
    except sqlite3.Error as error:
        raise failure(path, error) from error
    finally:
        connection.close()


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as of one moment, whoever writes to it meanwhile, and check the copy whole.

    :raises NotFound: there is none.
    :raises Corrupt: it is damaged.
    :raises Unavailable: it cannot be read.
    """
    with _opened(source) as connection:
        copy = sqlite3.connect(target)
        try:
            # In one step: in several, each write between them would make it begin anew.
            connection.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            if is_corrupt(error):
                raise
            raise Unavailable(
                f"The copy {target} could not be written: {error}. Look at the room on its disk; "
                "nothing was changed."
            ) from error
        finally:
            copy.close()
    try:
        check(target)
    except Corrupt as error:
        raise damaged(source, str(error)) from error


def check(path: Path) -> None:
    """Check all of a database.

    :raises Corrupt: it is damaged, of a newer format, or somebody else's.
    """
    try:
        with _opened(path) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (present,) = connection.execute("PRAGMA user_version").fetchone()
            (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if is_corrupt(error):
            raise damaged(path, str(error)) from error
        raise
    if application != APPLICATION:
        raise Corrupt(f"{path} is no state database of Syndicate.")
    if present > len(MIGRATIONS):
        raise Corrupt(
            f"{path} has format {present}; this version of Syndicate knows {len(MIGRATIONS)} and "
            "older. Use the version that it was made with.",
            format=present,
        )
    if verdict != "ok":
        raise damaged(path, verdict)


def contents(path: Path) -> Contents:
    """What a database holds and refers to."""
    with _opened(path) as connection:
        (present,) = connection.execute("PRAGMA user_version").fetchone()
        jobs = 0
        needed: dict[str, None] = {}
        others: dict[str, None] = {}
        for (text,) in connection.execute("SELECT value FROM record WHERE kind = 'job'"):
            jobs += 1
            job = json.loads(text)
            (others if job["state"] == "finished" else needed).update(_blobs_of(job))
        for (text,) in connection.execute(_ARCHIVED) if present > 1 else ():
            jobs += 1
            others.update(_blobs_of(json.loads(text)["job"]))
    return Contents(present, jobs, tuple(needed), tuple(b for b in others if b not in needed))


def _blobs_of(job: dict[str, object]) -> dict[str, None]:
    spec, machines = job["spec"], job["machines"]
    assert isinstance(spec, dict)
    assert isinstance(machines, list)
    found = [spec["sha256"], spec.get("client_sha256")]
    found += [machine.get("outputs") for machine in machines]
    return {digest: None for digest in found if digest}


def records(path: Path, kinds: Sequence[str]) -> list[tuple[str, str, object]]:
    """All records of some kinds, as ``(kind, key, value)``, of a database that nobody has in use.

    Nothing of it is changed, whatever its last user has left in its journal.

    :raises SyndicateError: it cannot be read.
    """
    with _opened(path, "ro") as connection:
        (present,) = connection.execute("PRAGMA user_version").fetchone()
        if present > len(MIGRATIONS):
            raise Corrupt(f"{path} is of a newer version of Syndicate.", format=present)
        marks = ", ".join("?" * len(kinds))
        found = connection.execute(
            f"SELECT kind, key, value FROM record WHERE kind IN ({marks})", tuple(kinds)
        )
        return [(kind, key, json.loads(text)) for kind, key, text in found]


def put_records(path: Path, found: Iterable[tuple[str, str, object]]) -> None:
    """Write records into a copy, in the place of those with the same kind and key."""
    rows = [(kind, key, json.dumps(value)) for kind, key, value in found]
    with _opened(path) as connection, connection:
        connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?, 0)", rows)


def prepare_to_go_on(path: Path) -> int:
    """Set a copy up to be gone on from, by a manager that others may have seen go further.

    :returns: the number of the next job.
    """
    with _opened(path) as connection, connection:
        connection.execute("UPDATE meta SET value = value + ? WHERE name = 'term'", (TERMS_AHEAD,))
        (present,) = connection.execute("PRAGMA user_version").fetchone()
        tables = ("record", "archive") if present > 1 else ("record",)
        last = 0
        for table in tables:
            found = connection.execute(f"SELECT max(key) FROM {table} WHERE kind = 'job'")
            last = max(last, int(found.fetchone()[0] or "0", 16))
        kept = connection.execute(
            "SELECT value FROM record WHERE kind = ? AND key = ?", NEXT_JOB
        ).fetchone()
        coming = max(last + 1, json.loads(kept[0])["next"] if kept else 1) + NUMBERS_AHEAD
        connection.execute(
            "INSERT OR REPLACE INTO record VALUES (?, ?, ?, 0)",
            (*NEXT_JOB, json.dumps({"next": coming})),
        )
    return coming
