"""What every store of blobs promises; what only files can promise is at the end."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from syndicate.blobs.files import GIVEN_UP, FileBlobStore
from syndicate.blobs.interface import IBlobStore, IBlobWriter
from syndicate.blobs.memory import MemoryBlobStore
from syndicate.domain.errors import Conflict, Invalid, NotFound, StorageFull, TooLarge
from tests.support.tiny_disk import Ext4, fill, tiny_disk

ensure = pytest_twisted.ensureDeferred

LIMIT = 1 << 20


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@attrs.define
class Subject:
    """A store, and the passing of time for what is unfinished in it."""

    store: Any
    grow_old: Callable[[float], None]


def in_memory(_: Path) -> Subject:
    past = [0.0]
    store = MemoryBlobStore(LIMIT, lambda: time.time() + past[0])

    def grow_old(seconds: float) -> None:
        past[0] += seconds

    return Subject(store, grow_old)


def in_files(directory: Path, **options: Any) -> Subject:
    from twisted.internet import reactor

    store = FileBlobStore(directory / "blobs", LIMIT, reactor, **options)  # type: ignore[arg-type]

    def grow_old(seconds: float) -> None:
        for path in (directory / "blobs/partial").iterdir():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))

    return Subject(store, grow_old)


@pytest.fixture(params=[in_memory, in_files], ids=["memory", "files"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    made: Subject = request.param(tmp_path)
    return made


@pytest.fixture
def store(subject: Subject) -> Any:
    return subject.store


def put(store: Any, data: bytes) -> Deferred[int]:
    writer = store.write(digest(data), len(data))
    writer.write(data[writer.offset :])
    finished: Deferred[int] = writer.finish()
    return finished


def sweep(store: Any, capacity: int, *keep: str) -> Deferred[list[str]]:
    swept: Deferred[list[str]] = store.sweep(lambda: frozenset(keep), capacity)
    return swept


def leave_half(store: Any, data: bytes, half: bytes) -> None:
    writer = store.write(digest(data), len(data))
    writer.write(half)
    writer.abandon()


def a_moment() -> Deferred[None]:
    """Long enough for files to tell their times apart."""
    from twisted.internet import reactor

    return deferLater(reactor, 0.02, lambda: None)


def content(store: Any, data: bytes) -> bytes:
    with store.open(digest(data)) as file:
        found: bytes = file.read()
    return found


@ensure
async def test_it_provides_its_ports(store: Any) -> None:
    assert verifyObject(IBlobStore, store)
    writer = store.write(digest(b"x"), 1)
    assert verifyObject(IBlobWriter, writer)
    writer.abandon()


@pytest.mark.parametrize("data", [b"", b"a", b"some bytes" * 10_000], ids=len)
@ensure
async def test_a_blob_is_there_once_it_is_finished(store: Any, data: bytes) -> None:
    name = digest(data)
    writer = store.write(name, len(data))
    for start in range(0, len(data), 4096):
        writer.write(data[start : start + 4096])
    assert store.size(name) is None
    assert store.list() == []
    assert writer.offset == store.held(name) == len(data)
    assert await writer.finish() == len(data)
    assert store.size(name) == len(data)
    assert store.held(name) == 0
    assert store.list() == [name]
    assert content(store, data) == store.path(name).read_bytes() == data


@ensure
async def test_a_writer_takes_a_view_that_its_owner_uses_again(store: Any) -> None:
    buffer = bytearray(b"first ")
    writer = store.write(digest(b"first second"), 12)
    writer.write(memoryview(buffer))
    buffer[:] = b"second"
    writer.write(memoryview(buffer))
    await writer.finish()
    assert content(store, b"first second") == b"first second"


@ensure
async def test_other_bytes_than_those_of_the_digest_are_forgotten(store: Any) -> None:
    name = digest(b"right")
    writer = store.write(name, 5)
    writer.write(b"wrong")
    with pytest.raises(Invalid):
        await writer.finish()
    assert store.size(name) is None
    assert store.held(name) == 0
    await put(store, b"right")
    assert store.size(name) == 5


@ensure
async def test_too_few_bytes_are_not_those_of_the_digest(store: Any) -> None:
    writer = store.write(digest(b"right"), 5)
    writer.write(b"righ")
    with pytest.raises(Invalid):
        await writer.finish()
    assert store.size(digest(b"right")) is None


@ensure
async def test_an_abandoned_write_goes_on_where_it_ended(store: Any) -> None:
    leave_half(store, b"first second", b"first ")
    assert store.held(digest(b"first second")) == 6
    assert store.list() == []
    writer = store.write(digest(b"first second"), 12)
    assert writer.offset == 6
    writer.write(b"second")
    assert await writer.finish() == 12
    assert content(store, b"first second") == b"first second"


@ensure
async def test_a_rest_that_fits_no_beginning_is_found_out(store: Any) -> None:
    leave_half(store, b"first second", b"FIRST ")
    with pytest.raises(Invalid):
        await put(store, b"first second")
    assert store.held(digest(b"first second")) == 0
    assert await put(store, b"first second") == 12


@ensure
async def test_a_beginning_longer_than_what_is_announced_now_is_dropped(store: Any) -> None:
    leave_half(store, b"short", b"")
    writer = store.write(digest(b"short"), 100)
    writer.write(b"much too long")
    writer.abandon()
    assert await put(store, b"short") == 5


@ensure
async def test_abandoning_changes_nothing_after_the_end(store: Any) -> None:
    writer = store.write(digest(b"data"), 4)
    writer.write(b"data")
    finished = writer.finish()
    writer.abandon()
    assert await finished == 4
    writer.abandon()
    assert content(store, b"data") == b"data"


@ensure
async def test_abandoning_twice_does_not_disturb_the_next_writer(store: Any) -> None:
    first = store.write(digest(b"data"), 4)
    first.abandon()
    second = store.write(digest(b"data"), 4)
    first.abandon()
    with pytest.raises(Conflict):
        store.write(digest(b"data"), 4)
    second.write(b"data")
    assert await second.finish() == 4


@ensure
async def test_a_blob_has_one_writer_at_a_time(store: Any) -> None:
    writer = store.write(digest(b"data"), 4)
    with pytest.raises(Conflict):
        store.write(digest(b"data"), 4)
    other = store.write(digest(b"other"), 5)
    other.abandon()
    writer.write(b"data")
    await writer.finish()


@ensure
async def test_a_blob_that_is_whole_needs_no_bytes(store: Any) -> None:
    await put(store, b"data")
    writer = store.write(digest(b"data"), 4)
    assert writer.offset == 4
    assert await writer.finish() == 4
    with pytest.raises(Invalid):
        store.write(digest(b"data"), 5)
    assert content(store, b"data") == b"data"


@ensure
async def test_more_than_announced_is_refused(store: Any) -> None:
    writer = store.write(digest(b"data"), 4)
    writer.write(b"dat")
    with pytest.raises(TooLarge):
        writer.write(b"ab")
    assert writer.offset == 3
    writer.abandon()


@ensure
async def test_more_than_the_limit_is_refused(store: Any) -> None:
    with pytest.raises(TooLarge):
        store.write(digest(b"data"), LIMIT + 1)
    store.write(digest(b"data"), LIMIT).abandon()


@pytest.mark.parametrize(
    "name",
    ["", "../../etc/passwd", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "partial", "\0" * 64],
    ids=repr,
)
@ensure
async def test_only_digests_are_names(store: Any, name: str) -> None:
    asks: list[Callable[[], object]] = [
        lambda: store.write(name, 1),
        lambda: store.size(name),
        lambda: store.held(name),
        lambda: store.open(name),
        lambda: store.path(name),
        lambda: store.delete(name),
    ]
    for ask in asks:
        with pytest.raises(Invalid):
            ask()


@ensure
async def test_what_is_not_held_is_not_found(store: Any) -> None:
    leave_half(store, b"data", b"da")
    for name in (digest(b"data"), digest(b"nothing")):
        assert store.size(name) is None
        with pytest.raises(NotFound):
            store.open(name)
        with pytest.raises(NotFound):
            store.path(name)


@ensure
async def test_a_deleted_blob_is_still_read_by_those_who_have_it_open(store: Any) -> None:
    await put(store, b"data")
    file = store.open(digest(b"data"))
    freed = store.delete(digest(b"data"))
    assert store.size(digest(b"data")) is None
    await freed
    await store.delete(digest(b"data"))
    assert store.size(digest(b"data")) is None
    assert file.read() == b"data"
    file.close()
    await put(store, b"data")


@ensure
async def test_a_sweep_deletes_what_was_used_longest_ago(store: Any) -> None:
    blobs = [bytes([n]) * 100 for n in range(5)]
    for blob in blobs:
        await put(store, blob)
        await a_moment()
    store.path(digest(blobs[0]))
    content(store, blobs[2])
    assert await sweep(store, 500) == []
    assert await sweep(store, 299) == [digest(blobs[1]), digest(blobs[3]), digest(blobs[4])]
    assert sorted(store.list()) == sorted([digest(blobs[0]), digest(blobs[2])])


@ensure
async def test_a_sweep_spares_what_is_to_be_kept(store: Any) -> None:
    kept, other = b"kept" * 100, b"other" * 100
    await put(store, kept)
    await put(store, other)
    assert await sweep(store, 0, digest(kept)) == [digest(other)]
    assert store.list() == [digest(kept)]


@ensure
async def test_a_sweep_gives_up_unfinished_writes_after_a_day(subject: Subject) -> None:
    store = subject.store
    leave_half(store, b"old one", b"old")
    in_hand = store.write(digest(b"in hand"), 7)
    in_hand.write(b"in ")
    subject.grow_old(GIVEN_UP - 60)
    await sweep(store, 0)
    assert store.held(digest(b"old one")) == 3
    subject.grow_old(120)
    await sweep(store, 0)
    assert store.held(digest(b"old one")) == 0
    in_hand.write(b"hand")
    assert await in_hand.finish() == 7


# Files alone.


@ensure
async def test_a_sweep_spares_what_is_used_or_needed_while_it_goes_on(tmp_path: Path) -> None:
    store = in_files(tmp_path).store
    blobs = [bytes([n]) * 100 for n in range(4)]
    for blob in blobs:
        await put(store, blob)
        await a_moment()
    needed: set[str] = set()
    swept = store.sweep(lambda: frozenset(needed), 0)
    store.path(digest(blobs[0]))
    needed.add(digest(blobs[1]))
    assert await swept == [digest(blob) for blob in blobs[2:]]
    assert content(store, blobs[0]) == blobs[0]


MANY = 10_000


def lay_out_many(store: FileBlobStore, directory: Path) -> list[str]:
    """Blobs that were used long ago."""
    names = [digest(str(n).encode()) for n in range(MANY)]
    for name in names:
        place = directory / "blobs" / name[:2] / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
        os.utime(place, (1, 1))
    return names


class Turns:
    """The processor time of this thread in each turn of the reactor, until it is stopped."""

    def __init__(self) -> None:
        self.spent: list[float] = []
        self._at = time.thread_time()
        self._timer = self._again()

    def _again(self) -> Any:
        from twisted.internet import reactor

        return reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.spent.append(now - self._at)
        self._at = now
        self._timer = self._again()

    def stop(self) -> None:
        self._timer.cancel()


@pytest.mark.deadline(60)
@pytest.mark.parametrize("what", ["total", "sweep"])
@ensure
async def test_many_files_do_not_keep_the_reactor_from_anything(tmp_path: Path, what: str) -> None:
    store = in_files(tmp_path).store
    names = lay_out_many(store, tmp_path)
    turns = Turns()
    try:
        found = await (store.total() if what == "total" else sweep(store, MANY // 2))
        await a_moment()
    finally:
        turns.stop()
    # Each a moment's work, whatever the number of files.
    assert max(turns.spent) < 0.05, sorted(turns.spent)[-5:]
    assert found == MANY if what == "total" else len(found) == MANY // 2
    if what == "sweep":
        assert len(store.list()) == MANY // 2
        assert not list((tmp_path / "blobs/gone").iterdir())
        assert set(store.list()) | set(found) == set(names)


@pytest.mark.deadline(60)
@ensure
async def test_a_sweep_spares_what_is_used_though_another_one_ended_meanwhile(
    tmp_path: Path,
) -> None:
    store = in_files(tmp_path).store
    lay_out_many(store, tmp_path)
    long = sweep(store, 0)
    assert await sweep(store, MANY) == []
    used = store.list()[-1]
    store.path(used)
    await long
    assert store.list() == [used]


@pytest.mark.deadline(60)
@ensure
async def test_closing_ends_a_sweep_half_way_and_the_next_one_goes_on(tmp_path: Path) -> None:
    store = in_files(tmp_path).store
    lay_out_many(store, tmp_path)
    swept = sweep(store, 0)
    while len(list((tmp_path / "blobs").glob("*/*"))) > MANY - 100:
        await a_moment()
    await store.close()
    assert 0 < len(await swept) < MANY
    left = store.list()
    assert left
    # What it had no time to remove, under the names that it goes by then.
    later = in_files(tmp_path).store
    (tmp_path / "blobs/gone" / f"{left[0]}.0123abcd").write_bytes(b"of a former process")
    assert sorted(await sweep(later, 0)) == left
    assert not list((tmp_path / "blobs/gone").iterdir())


@ensure
async def test_blobs_and_beginnings_are_there_for_a_later_process(tmp_path: Path) -> None:
    first = in_files(tmp_path).store
    await put(first, b"whole")
    leave_half(first, b"first second", b"first ")
    later = in_files(tmp_path).store
    assert later.list() == [digest(b"whole")]
    assert later.held(digest(b"first second")) == 6
    assert await put(later, b"first second") == 12


@ensure
async def test_after_a_boot_a_cache_checks_what_it_holds(tmp_path: Path) -> None:
    store = in_files(tmp_path, durable=False).store
    for blob in (b"good", b"bad!"):
        await put(store, blob)
    assert sorted(in_files(tmp_path, durable=False).store.list()) == sorted(store.list())

    # As a power cut leaves it: the names are there, the bytes of one are not.
    store.path(digest(b"bad!")).write_bytes(bytes(4))
    (tmp_path / "blobs/boot").write_text("another boot")
    store = in_files(tmp_path, durable=False).store
    assert store.list() == []
    assert store.held(digest(b"good")) == 4
    assert await store.write(digest(b"good"), 4).finish() == 4
    with pytest.raises(Invalid):
        await store.write(digest(b"bad!"), 4).finish()
    assert await put(store, b"bad!") == 4


@ensure
async def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    store = in_files(tmp_path).store
    await put(store, b"data")
    for name in ("README", f"{digest(b'data')[:2]}/README"):
        (tmp_path / "blobs" / name).write_text("mine")
    assert store.list() == [digest(b"data")]
    assert await sweep(store, 0) == [digest(b"data")]
    assert (tmp_path / "blobs/README").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tiny_disk(tmp_path / "disk", 256 << 10) as disk:
        yield disk


@pytest.mark.needs_root
@ensure
async def test_what_cannot_fit_is_refused_at_once(disk: Path) -> None:
    store = in_files(disk).store
    with pytest.raises(StorageFull):
        store.write(digest(b"data"), 512 << 10)
    assert await put(store, b"data") == 4


@pytest.mark.needs_root
@ensure
async def test_a_disk_that_fills_up_meanwhile_interrupts_and_no_more(disk: Path) -> None:
    store = in_files(disk).store
    data = os.urandom(100_000)
    writer = store.write(digest(data), len(data))
    filler = fill(disk, leave=40_000)
    with pytest.raises(StorageFull, match="full"):
        writer.write(data)
    held = writer.offset
    assert 0 < held < len(data)
    writer.abandon()
    assert store.held(digest(data)) == held
    filler.unlink()
    assert await put(store, data) == len(data)
    assert content(store, data) == data


@pytest.mark.needs_root
@ensure
async def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    with Ext4(tmp_path / "disk", 32 << 20) as disk:
        store = in_files(disk.place).store
        await put(store, data)
        with disk.after_a_power_cut() as after:
            assert (after / store.path(digest(data)).relative_to(disk.place)).read_bytes() == data


def test_what_is_kept_is_for_the_daemons_user_alone(tmp_path: Path) -> None:
    store = in_files(tmp_path / "state").store
    store.write("0" * 64, 10).abandon()
    for path in (tmp_path / "state/blobs", tmp_path / "state/blobs/partial"):
        assert path.stat().st_mode & 0o777 == 0o700
