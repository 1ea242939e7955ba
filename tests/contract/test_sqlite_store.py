"""What only a store on a disk can promise, and what can befall it there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from syndicate.domain.errors import Corrupt, Fenced, StateDirectoryInUse, StorageFull, Unavailable
from syndicate.store import schema
from syndicate.store.interface import Append, Batch, Create, Put
from syndicate.store.schema import APPLICATION, MIGRATIONS
from syndicate.store.sqlite import SqliteLeadership, SqliteStore
from tests.support.tiny_disk import Ext4, fill, tiny_disk

ensure = pytest_twisted.ensureDeferred


class Stores:
    """Makes stores, and closes them all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[SqliteStore] = []

    def make(self, **options: Any) -> SqliteStore:
        from twisted.internet import reactor

        store = SqliteStore(reactor, self.directory, **options)  # type: ignore[arg-type]
        self.made.append(store)
        return store

    async def leading(self) -> tuple[SqliteStore, int]:
        store = self.make()
        await store.open()
        term = await SqliteLeadership(store).campaign("me")
        return store, int(term.number)

    def close(self) -> None:
        for store in self.made:
            pytest_twisted.blockon(store.close())


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    stores = Stores(tmp_path / "state")
    yield stores
    stores.close()


@ensure
async def test_a_second_opener_is_refused_and_told_who_was_first(stores: Stores) -> None:
    first = stores.make()
    await first.open()
    with pytest.raises(StateDirectoryInUse) as caught:
        await stores.make().open()
    assert f"process {os.getpid()}" in caught.value.message
    await first.close()
    await stores.make().open()


@ensure
async def test_a_refused_store_can_be_opened_later(stores: Stores) -> None:
    first, second = stores.make(), stores.make()
    await first.open()
    with pytest.raises(StateDirectoryInUse):
        await second.open()
    await second.close()
    await first.close()
    await second.open()


@ensure
async def test_the_directory_is_for_its_owner_alone(stores: Stores) -> None:
    await stores.make().open()
    assert stores.directory.stat().st_mode & 0o777 == 0o700


def _kill_a_writer(directory: Path, after: int) -> set[int]:
    """Start a writer, kill it after some answers; the numbers that it was given answers for."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.store_writer", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    answered = {int(process.stdout.readline()) for _ in range(after)}
    process.kill()
    answered |= {int(line) for line in process.stdout if line.endswith("\n")}
    process.stdout.close()
    process.wait()
    return answered


@pytest.mark.deadline(120)
def test_no_acknowledged_batch_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    answered: set[int] = set()
    for round_ in range(10):
        answered |= _kill_a_writer(tmp_path, after=50 + 37 * round_)
        database = sqlite3.connect(tmp_path / "state.db")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        records = {int(key) for (key,) in database.execute("SELECT key FROM record")}
        events = {n for (n,) in database.execute("SELECT n FROM event")}
        applied = dict(database.execute("SELECT name, value FROM meta"))
        database.close()
        assert answered <= records
        assert events == records
        assert applied == {"term": round_ + 1, "position": len(records)}
    assert len(answered) > 500


@ensure
async def test_a_file_that_is_no_database_is_refused_and_left_alone(stores: Stores) -> None:
    stores.directory.mkdir()
    database = stores.directory / "state.db"
    database.write_bytes(b"not at all a database\n" * 1000)
    before = database.read_bytes()
    with pytest.raises(Corrupt, match="restore"):
        await stores.make().open()
    assert database.read_bytes() == before


@ensure
async def test_a_damaged_database_is_refused(stores: Stores) -> None:
    store, term = await stores.leading()
    await gatherResults(
        [store.commit(Batch(str(n), (Put("job", str(n), "x" * 900),)), term) for n in range(300)]
    )
    await store.close()
    database = stores.directory / "state.db"
    with database.open("r+b") as file:
        file.seek(database.stat().st_size // 2)
        file.write(os.urandom(16384))
    with pytest.raises(Corrupt, match="restore"):
        await stores.make().open()


async def let_go(store: SqliteStore) -> None:
    """As after a failed write: a disk without writes is let go of, to be mended."""
    await store.ask(lambda tables: tables.close())


@ensure
async def test_a_store_takes_hold_again_of_what_it_has_let_go(stores: Stores) -> None:
    store, term = await stores.leading()
    await store.commit(Batch("1", (Put("job", "1", 1),)), term)
    await let_go(store)
    # Nobody holds it: another process could look at it, or mend it.
    database = sqlite3.connect(stores.directory / "state.db")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    assert (await store.load()).records == {("job", "1"): 1}
    await let_go(store)
    assert await store.commit(Batch("2", (Put("job", "2", 2),)), term) == 2
    assert await store.commit(Batch("1", (Put("job", "1", 1),)), term) == 1


@ensure
async def test_a_database_that_is_not_there_for_a_while_is_not_begun_anew(stores: Stores) -> None:
    store, term = await stores.leading()
    await store.commit(Batch("1", (Put("job", "1", 1),)), term)
    await let_go(store)
    away = stores.directory.with_name("away")
    stores.directory.rename(away)
    stores.directory.mkdir()
    with pytest.raises(Unavailable, match="not there"):
        await store.commit(Batch("2", (Put("job", "2", 2),)), term)
    assert list(stores.directory.iterdir()) == []
    stores.directory.rmdir()
    away.rename(stores.directory)
    assert await store.commit(Batch("2", (Put("job", "2", 2),)), term) == 2


@ensure
async def test_an_older_copy_in_the_place_of_the_database_is_refused(stores: Stores) -> None:
    store, term = await stores.leading()
    await store.commit(Batch("1", (Put("job", "1", 1),)), term)
    await let_go(store)
    shutil.copytree(stores.directory, copy := stores.directory.with_name("copy"))
    await store.commit(Batch("2", (Put("job", "2", 2),)), term)
    await let_go(store)
    shutil.rmtree(stores.directory)
    shutil.copytree(copy, stores.directory)
    with pytest.raises(Corrupt, match="lost what was written"):
        await store.commit(Batch("3", (Put("job", "3", 3),)), term)


@ensure
async def test_a_database_that_another_manager_wrote_to_meanwhile_is_refused(
    stores: Stores,
) -> None:
    store, term = await stores.leading()
    await let_go(store)
    other, _ = await stores.leading()
    with pytest.raises(StateDirectoryInUse):
        await store.commit(Batch("1", (Put("job", "1", 1),)), term)
    await other.close()
    with pytest.raises(Fenced):
        await store.commit(Batch("1", (Put("job", "1", 1),)), term)


@ensure
async def test_of_a_large_database_what_is_loaded_is_checked(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, term = await stores.leading()
    many = [Batch(str(n), (Put("job", str(n), "x" * 900),)) for n in range(300)]
    await gatherResults([store.commit(batch, term) for batch in many])
    await store.close()
    monkeypatch.setattr(schema, "CHECKED_WHOLE", 0)
    await stores.make().open()
    await stores.made[-1].close()
    database = stores.directory / "state.db"
    with database.open("r+b") as file:
        file.seek(database.stat().st_size // 2)
        file.write(os.urandom(16384))
    with pytest.raises(Corrupt, match="restore"):
        await stores.make().open()


@ensure
async def test_a_value_that_is_no_json_is_reported_as_damage(stores: Stores) -> None:
    store, term = await stores.leading()
    await store.commit(Batch("1", (Put("job", "1", 1), Append(1, 1, 1))), term)
    await store.close()
    database = sqlite3.connect(stores.directory / "state.db")
    database.executescript("UPDATE record SET value = '{'; UPDATE event SET value = '';")
    database.close()
    store = stores.make()
    await store.open()
    with pytest.raises(Corrupt):
        await store.load()
    with pytest.raises(Corrupt):
        await store.events(1, 0, 1)


@ensure
async def test_a_newer_format_is_refused(stores: Stores) -> None:
    store = stores.make()
    await store.open()
    await store.close()
    database = sqlite3.connect(stores.directory / "state.db")
    newer = len(MIGRATIONS) + 1
    database.execute(f"PRAGMA user_version = {newer}")
    database.close()
    with pytest.raises(Corrupt, match=f"format {newer}"):
        await stores.make().open()


@ensure
async def test_the_database_of_another_program_is_refused(stores: Stores) -> None:
    stores.directory.mkdir()
    database = sqlite3.connect(stores.directory / "state.db")
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    with pytest.raises(Corrupt, match="another program"):
        await stores.make().open()


@ensure
async def test_an_older_format_is_migrated_and_keeps_its_records(stores: Stores) -> None:
    stores.directory.mkdir()
    older = sqlite3.connect(stores.directory / "state.db")
    for statement in MIGRATIONS[0]:
        older.execute(statement)
    older.execute("INSERT INTO record VALUES ('job', '1', '\"old\"', 1)")
    older.execute(f"PRAGMA application_id = {APPLICATION}")
    older.execute("PRAGMA user_version = 1")
    older.commit()
    older.close()
    newer = (*MIGRATIONS, ("UPDATE record SET value = '\"new\"'", "CREATE TABLE more (x)"))
    store = stores.make(migrations=newer)
    await store.open()
    assert dict((await store.load()).records) == {("job", "1"): "new"}
    await store.close()
    database = sqlite3.connect(stores.directory / "state.db")
    assert database.execute("PRAGMA user_version").fetchone() == (len(newer),)
    database.close()


@ensure
async def test_a_migration_that_fails_changes_nothing(stores: Stores) -> None:
    store, term = await stores.leading()
    await store.commit(Batch("1", (Put("job", "1", "old"),)), term)
    await store.close()
    broken = (*MIGRATIONS, ("DELETE FROM record", "this is no SQL"))
    with pytest.raises(Unavailable):
        await stores.make(migrations=broken).open()
    store = stores.make()
    await store.open()
    assert dict((await store.load()).records) == {("job", "1"): "old"}


@pytest.mark.needs_root
@ensure
async def test_a_full_disk_refuses_batches_whole_and_takes_them_again_later(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 2 << 20) as disk:
        stores = Stores(disk / "state")
        store, term = await stores.leading()
        try:
            await store.commit(Batch("kept", (Put("job", "kept", 1),)), term)
            filler = fill(disk)
            large = Batch("large", (Put("job", "large", "x" * 50_000), Create("job", "with", 1)))
            with pytest.raises(StorageFull, match="full"):
                await store.commit(large, term)
            assert "full" in (await store.health()).problem
            records = dict((await store.load()).records)
            filler.unlink()
            assert records == {("job", "kept"): 1}
            assert await store.resolve("large") is None
            assert await store.commit(Batch("after", (Put("job", "after", 1),)), term) == 2
            assert (await store.health()).problem == ""
            await store.close()
            store = stores.make()
            await store.open()
            found = dict((await store.load()).records)
            assert found == {**records, ("job", "after"): 1}
        finally:
            for made in stores.made:
                await made.close()


@pytest.mark.needs_root
@ensure
async def test_a_disk_without_any_room_cannot_be_opened(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        fill(disk)
        stores = Stores(disk / "state")
        with pytest.raises((StorageFull, Unavailable)):
            await stores.make().open()


@pytest.mark.needs_root
@ensure
async def test_what_was_committed_survives_a_power_cut(tmp_path: Path) -> None:
    with Ext4(tmp_path / "disk", 64 << 20) as disk:
        there = Stores(disk.place / "state")
        store, term = await there.leading()
        await store.commit(Batch("1", (Put("job", "1", "done"),)), term)
        with disk.after_a_power_cut() as after:
            found = Stores(after / "state")
            again = found.make()
            await again.open()
            records = (await again.load()).records
            await again.close()
        await store.close()
    assert records == {("job", "1"): "done"}
