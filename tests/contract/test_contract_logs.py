"""What every store of logs promises; what only files can promise is at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from syndicate.blobs import logs
from syndicate.blobs.interface import ILogStore
from syndicate.blobs.logs import FileLogStore
from syndicate.blobs.memory import MemoryLogStore
from syndicate.domain.errors import Conflict, Invalid, StorageFull, TooLarge
from tests.support.sandboxes import the_reactor
from tests.support.tiny_disk import Ext4, fill, tiny_disk

CAP = 1000


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryLogStore(CAP)
    else:
        store = FileLogStore(tmp_path / "logs", CAP, the_reactor())
        yield store
        store.close()


def test_it_provides_its_port(store: Any) -> None:
    assert verifyObject(ILogStore, store)


def test_what_is_appended_can_be_read(store: Any) -> None:
    assert store.append(1, 1, "master", 0, b"one ") == 4
    assert store.append(1, 1, "master", 4, b"two") == 7
    assert store.length(1, 1, "master") == 7
    assert store.read(1, 1, "master", 0, 100) == b"one two"
    assert store.read(1, 1, "master", 2, 3) == b"e t"
    assert store.read(1, 1, "master", 7, 3) == b""
    assert store.read(1, 1, "master", 99, 3) == b""
    assert store.read(1, 1, "master", 0, 0) == b""


def test_logs_are_apart_by_job_attempt_and_machine(store: Any) -> None:
    names = [(1, 1, "master"), (1, 2, "master"), (2, 1, "master"), (1, 1, "slave[0]")]
    for number, name in enumerate(names):
        store.append(*name, 0, str(number).encode())
    assert [store.read(*name, 0, 9) for name in names] == [b"0", b"1", b"2", b"3"]


def test_a_log_that_is_not_there_is_empty(store: Any) -> None:
    assert store.length(1, 1, "master") == 0
    assert store.read(1, 1, "master", 0, 9) == b""
    assert store.append(1, 1, "master", 0, b"") == 0
    assert store.list(1) == []


def test_what_is_there_already_is_passed_over(store: Any) -> None:
    store.append(1, 1, "master", 0, b"one two")
    assert store.append(1, 1, "master", 0, b"one") == 7
    assert store.append(1, 1, "master", 4, b"two") == 7
    assert store.append(1, 1, "master", 4, b"two three") == 13
    assert store.read(1, 1, "master", 0, 99) == b"one two three"


def test_a_gap_is_refused_and_the_length_told(store: Any) -> None:
    store.append(1, 1, "master", 0, b"one")
    with pytest.raises(Conflict) as caught:
        store.append(1, 1, "master", 4, b"two")
    assert caught.value.details["length"] == 3
    with pytest.raises(Invalid):
        store.append(1, 1, "master", -1, b"two")
    assert store.read(1, 1, "master", 0, 99) == b"one"


def test_a_log_stays_below_its_cap(store: Any) -> None:
    store.append(1, 1, "master", 0, b"x" * CAP)
    with pytest.raises(TooLarge):
        store.append(1, 1, "master", CAP, b"y")
    assert store.append(1, 1, "master", CAP - 1, b"x") == CAP
    assert store.append(1, 1, "slave[0]", 0, b"z") == 1


def test_logs_are_listed_by_attempt_with_the_master_first(store: Any) -> None:
    for name in ((2, "slave[0]"), (1, "slave[10]"), (1, "slave[9]"), (1, "master"), (2, "master")):
        store.append(7, *name, 0, b"x")
    assert store.list(7) == [
        (1, "master"),
        (1, "slave[9]"),
        (1, "slave[10]"),
        (2, "master"),
        (2, "slave[0]"),
    ]
    assert store.list(8) == []


@pytest_twisted.ensureDeferred
async def test_all_logs_of_a_job_are_deleted_together(store: Any) -> None:
    for name in ((1, 1, "master"), (1, 2, "slave[0]"), (12, 1, "master")):
        store.append(*name, 0, b"x")
    await store.delete(1)
    await store.delete(1)
    assert store.list(1) == []
    assert store.length(1, 1, "master") == 0
    assert store.list(12) == [(1, "master")]
    assert store.append(1, 1, "master", 0, b"again") == 5


@pytest.mark.parametrize(
    "name",
    [
        (1, 1, "../../etc/passwd"),
        (1, 1, ""),
        (1, 1, "master\n"),
        (1, 1, "slave"),
        (1, 1, "slave[01]"),
        (1, 1, "slave[-1]"),
        (0, 1, "master"),
        (1, -1, "master"),
    ],
    ids=repr,
)
def test_only_machines_of_jobs_have_logs(store: Any, name: tuple[int, int, str]) -> None:
    for ask in (
        lambda: store.append(*name, 0, b"x"),
        lambda: store.length(*name),
        lambda: store.read(*name, 0, 1),
    ):
        with pytest.raises(Invalid):
            ask()


# Files alone.


def test_logs_are_there_for_a_later_process(tmp_path: Path) -> None:
    first = FileLogStore(tmp_path, CAP, the_reactor())
    first.append(1, 1, "master", 0, b"one ")
    first.close()
    later = FileLogStore(tmp_path, CAP, the_reactor())
    assert later.append(1, 1, "master", 2, b"e two") == 7
    assert later.read(1, 1, "master", 0, 99) == b"one two"
    later.close()
    assert later.append(1, 1, "master", 7, b"!") == 8
    later.close()
    later.close()


def test_only_so_many_files_are_open_at_once(tmp_path: Path) -> None:
    store = FileLogStore(tmp_path, CAP, the_reactor())
    before = len(os.listdir("/proc/self/fd"))
    jobs = range(1, logs.OPEN_FILES + 50)
    for portion in (b"one ", b"two"):
        for job in jobs:
            store.append(job, 1, "master", store.length(job, 1, "master"), portion)
    assert len(os.listdir("/proc/self/fd")) - before <= logs.OPEN_FILES
    assert {store.read(job, 1, "master", 0, 99) for job in jobs} == {b"one two"}
    store.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.needs_root
def test_a_full_disk_takes_what_fits_and_the_rest_later(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 64 << 10) as disk:
        store = FileLogStore(disk / "logs", 1 << 20, the_reactor())
        store.append(1, 1, "master", 0, b"x")
        filler = fill(disk)
        data = b"x" + bytes(range(256)) * 100
        with pytest.raises(StorageFull):
            store.append(1, 1, "master", 0, data)
        assert 1 <= store.length(1, 1, "master") < len(data)
        filler.unlink()
        assert store.append(1, 1, "master", 0, data) == len(data)
        assert store.read(1, 1, "master", 0, len(data)) == data
        store.close()


@pytest_twisted.ensureDeferred
async def test_a_log_can_be_synced_whether_or_not_it_is_there(store: Any) -> None:
    await store.sync(1, 1, "master")
    store.append(1, 1, "master", 0, b"one")
    await store.sync(1, 1, "master")
    await store.sync(1, 1, "master")
    await store.delete(1)
    await store.sync(1, 1, "master")
    with pytest.raises(Invalid):
        await store.sync(1, 1, "../master")


@pytest.mark.needs_root
@pytest_twisted.ensureDeferred
async def test_a_log_that_was_synced_survives_a_power_cut_and_another_does_not(
    tmp_path: Path,
) -> None:
    with Ext4(tmp_path / "disk", 32 << 20) as disk:
        store = FileLogStore(disk.place / "logs", CAP, the_reactor())
        store.append(1, 1, "master", 0, b"kept")
        await store.sync(1, 1, "master")
        store.append(1, 1, "master", 4, b" and kept too")
        await store.sync(1, 1, "master")
        store.append(2, 1, "master", 0, b"not yet on the disk")
        with disk.after_a_power_cut() as after:
            found = FileLogStore(after / "logs", CAP, the_reactor())
            logs = [found.read(job, 1, "master", 0, 99) for job in (1, 2)]
            found.close()
        store.close()
    assert logs == [b"kept and kept too", b""]


def test_the_reserve_of_a_disk_is_left_to_others(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    roomy = FileLogStore(tmp_path / "roomy", CAP, the_reactor(), reserve=1)
    assert roomy.append(1, 1, "master", 0, b"one") == 3
    roomy.close()
    full = FileLogStore(tmp_path / "full", CAP, the_reactor(), reserve=2 * free)
    with pytest.raises(StorageFull, match="full but for its reserve"):
        full.append(1, 1, "master", 0, b"one")
    assert full.length(1, 1, "master") == 0
    assert full.append(1, 1, "master", 0, b"") == 0
    full.close()
