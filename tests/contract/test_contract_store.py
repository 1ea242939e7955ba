"""What every store promises, whatever its engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from syndicate.domain.errors import Exists, Fenced, Invalid, Unavailable
from syndicate.store.encoding import REMEMBERED
from syndicate.store.interface import (
    Append,
    Archive,
    Batch,
    Create,
    Delete,
    ILeadership,
    IStore,
    ITerm,
    Operation,
    Page,
    Put,
)
from syndicate.store.memory import MemoryLeadership, MemoryStore
from syndicate.store.sqlite import SqliteLeadership, SqliteStore

ensure = pytest_twisted.ensureDeferred


@attrs.define
class Subject:
    """A store, its leadership, and a way to have another object look at the same storage."""

    store: Any
    leadership: Any
    again: Callable[[], Subject]
    counted: int = 0

    async def lead(self) -> int:
        await self.store.open()
        term: ITerm = await self.leadership.campaign("me")
        return int(term.number)

    def batch(self, *operations: Operation) -> Batch:
        self.counted += 1
        return Batch(f"batch {self.counted}", operations)

    def commit(self, term: int, *operations: Operation) -> Deferred[int]:
        answer: Deferred[int] = self.store.commit(self.batch(*operations), term)
        return answer


def in_memory(_: Path) -> Subject:
    store = MemoryStore()

    def make() -> Subject:
        # Nothing outlives it, so that the same object is opened again.
        return Subject(store, MemoryLeadership(store), make)

    return make()


def in_sqlite(directory: Path) -> Subject:
    from twisted.internet import reactor

    def make() -> Subject:
        store = SqliteStore(reactor, directory / "state")  # type: ignore[arg-type]
        return Subject(store, SqliteLeadership(store), make)

    return make()


@pytest.fixture(params=[in_memory, in_sqlite], ids=["memory", "sqlite"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    made: Subject = request.param(tmp_path)
    yield made
    pytest_twisted.blockon(made.store.close())


async def reopened(subject: Subject) -> Subject:
    await subject.store.close()
    return subject.again()


@ensure
async def test_it_provides_its_port(subject: Subject) -> None:
    await subject.lead()
    assert verifyObject(IStore, subject.store)
    assert verifyObject(ILeadership, subject.leadership)
    assert verifyObject(ITerm, await subject.leadership.campaign("me"))


@ensure
async def test_a_new_store_is_empty(subject: Subject) -> None:
    await subject.store.open()
    snapshot = await subject.store.load()
    assert (dict(snapshot.records), snapshot.position) == ({}, 0)
    assert await subject.store.events(1, 0, 10) == []
    assert await subject.leadership.leader() is None


@ensure
async def test_what_was_committed_is_there_after_a_reopening(subject: Subject) -> None:
    value = {"text": "ä\U0001f600\udc80\x00'", "list": [1, 2.5, None, True], "deep": {"": {}}}
    term = await subject.lead()
    await subject.commit(term, Put("job", "1", value), Put("job", "2", 7))
    await subject.commit(term, Delete("job", "2"), Append(1, 1, {"kind": "submitted"}))
    again = await reopened(subject)
    await again.store.open()
    snapshot = await again.store.load()
    events = await again.store.events(1, 0, 10)
    await again.store.close()
    assert dict(snapshot.records) == {("job", "1"): value}
    assert snapshot.position == 2
    assert events == [{"kind": "submitted"}]


@ensure
async def test_positions_count_the_batches_in_the_order_of_the_calls(subject: Subject) -> None:
    term = await subject.lead()
    answers = [subject.commit(term, Put("job", "1", n)) for n in range(200)]
    assert await gatherResults(answers) == list(range(1, 201))
    snapshot = await subject.store.load()
    assert snapshot.records["job", "1"] == 199
    assert snapshot.position == 200


@ensure
async def test_a_batch_is_written_whole_or_not_at_all(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, Put("job", "1", "old"), Append(1, 1, "old"))
    fails = subject.commit(
        term,
        Put("job", "1", "new"),
        Put("job", "2", "new"),
        Delete("job", "1"),
        Append(1, 2, "new"),
        Create("job", "1", "new"),
        Create("job", "2", "new"),
    )
    with pytest.raises(Exists):
        await fails
    snapshot = await subject.store.load()
    assert dict(snapshot.records) == {("job", "1"): "old"}
    assert snapshot.position == 1
    assert await subject.store.events(1, 0, 10) == ["old"]


@ensure
async def test_create_tells_which_record_is_there_already(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, Create("submission", "a/b", 1))
    with pytest.raises(Exists) as caught:
        await subject.commit(term, Create("submission", "a/b", 2))
    assert caught.value.details == {"kind": "submission", "key": "a/b"}
    await subject.commit(term, Delete("submission", "a/b"), Create("submission", "a/b", 3))
    assert (await subject.store.load()).records["submission", "a/b"] == 3


@ensure
async def test_an_event_number_is_given_once(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, Append(1, 1, "first"))
    with pytest.raises(Exists):
        await subject.commit(term, Append(1, 1, "second"))
    with pytest.raises(Exists):
        await subject.commit(term, Append(2, 1, "one"), Append(2, 1, "another"))
    assert await subject.store.events(1, 0, 10) == ["first"]
    assert await subject.store.events(2, 0, 10) == []


@ensure
async def test_a_batch_that_fails_among_others_fails_alone(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, Create("job", "taken", 0))
    answers = [
        subject.commit(term, Put("job", "1", 1)),
        subject.commit(term, Put("job", "x", 1), Create("job", "taken", 1)),
        subject.commit(term + 1, Put("job", "y", 1)),
        subject.commit(term, Put("job", "2", 2)),
    ]
    assert await answers[0] == 2
    with pytest.raises(Exists):
        await answers[1]
    with pytest.raises(Fenced):
        await answers[2]
    assert await answers[3] == 3
    records = (await subject.store.load()).records
    assert {key for _, key in records} == {"taken", "1", "2"}


@ensure
async def test_a_later_batch_of_the_same_round_sees_the_earlier_one(subject: Subject) -> None:
    term = await subject.lead()
    first = subject.commit(term, Create("job", "1", "first"))
    second = subject.commit(term, Create("job", "1", "second"))
    assert await first == 1
    with pytest.raises(Exists):
        await second


@ensure
async def test_nobody_writes_without_leading(subject: Subject) -> None:
    await subject.store.open()
    for term in (0, 1):
        with pytest.raises(Fenced):
            await subject.commit(term, Put("job", "1", 1))
    assert (await subject.store.load()).position == 0


@ensure
async def test_a_term_ends_with_the_next_one(subject: Subject) -> None:
    await subject.store.open()
    first = await subject.leadership.campaign("me")
    second = await subject.leadership.campaign("me again")
    assert second.number > first.number
    assert (first.valid(), second.valid()) == (False, True)
    assert "me again" in await first.lost
    assert await subject.leadership.leader() == ("me again", second.number)
    with pytest.raises(Fenced):
        await subject.commit(first.number, Put("job", "1", 1))
    await subject.commit(second.number, Put("job", "1", 1))


@ensure
async def test_terms_rise_over_reopenings(subject: Subject) -> None:
    first = await subject.lead()
    again = await reopened(subject)
    second = await again.lead()
    with pytest.raises(Fenced):
        await again.commit(first, Put("job", "1", 1))
    await again.store.close()
    assert second > first


@ensure
async def test_a_resigned_term_writes_what_it_was_given_and_no_more(subject: Subject) -> None:
    await subject.store.open()
    term = await subject.leadership.campaign("me")
    before = subject.commit(term.number, Put("job", "1", 1))
    await term.resign()
    assert await before == 1
    assert not term.valid()
    assert await subject.leadership.leader() is None
    with pytest.raises(Fenced):
        await subject.commit(term.number, Put("job", "2", 2))
    assert not term.lost.called
    await term.resign()


@ensure
async def test_closing_ends_the_term(subject: Subject) -> None:
    await subject.store.open()
    term = await subject.leadership.campaign("me")
    await subject.store.close()
    assert not term.valid()
    assert not term.lost.called


@ensure
async def test_resolve_knows_which_batches_were_written(subject: Subject) -> None:
    term = await subject.lead()
    written = subject.batch(Put("job", "1", 1))
    refused = subject.batch(Create("job", "1", 2))
    await subject.store.commit(written, term)
    with pytest.raises(Exists):
        await subject.store.commit(refused, term)
    again = await reopened(subject)
    await again.store.open()
    known = [await again.store.resolve(each.id) for each in (written, refused)]
    await again.store.close()
    assert known == [1, None]


@ensure
async def test_a_batch_sent_again_is_not_written_again(subject: Subject) -> None:
    term = await subject.lead()
    batch = subject.batch(Create("job", "1", "first"))
    assert await subject.store.commit(batch, term) == 1
    await subject.commit(term, Put("job", "1", "later"))
    assert await subject.store.commit(batch, term) == 1
    snapshot = await subject.store.load()
    assert (snapshot.records["job", "1"], snapshot.position) == ("later", 2)


@ensure
async def test_resolve_forgets_old_batches(subject: Subject) -> None:
    term = await subject.lead()
    more = REMEMBERED + 10
    await gatherResults([subject.commit(term, Put("n", "1", n)) for n in range(more)])
    assert await subject.store.resolve("batch 1") is None
    assert await subject.store.resolve(f"batch {more}") == more


@ensure
async def test_events_come_in_order_and_in_portions(subject: Subject) -> None:
    term = await subject.lead()
    for n in (2, 1, 3, 10):
        await subject.commit(term, Append(1, n, n), Append(2, n, -n))
    assert await subject.store.events(1, 0, 10) == [1, 2, 3, 10]
    assert await subject.store.events(1, 1, 2) == [2, 3]
    assert await subject.store.events(1, 10, 5) == []
    assert await subject.store.events(1, 0, 0) == []
    assert await subject.store.events(1, 0, -1) == []


@ensure
async def test_what_is_set_aside_is_not_loaded_and_can_still_be_read(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, Put("job", "1", "live"), Put("job", "2", "live"))
    await subject.commit(term, Archive("job", "1", {"over": 1}, "ann"))
    again = await reopened(subject)
    await again.store.open()
    records = dict((await again.store.load()).records)
    found = [await again.store.archived("job", key) for key in ("1", "2", "3")]
    sizes = [await again.store.archive_size(kind) for kind in ("job", "fault")]
    await again.store.close()
    assert records == {("job", "2"): "live"}
    assert found == [{"over": 1}, None, None]
    assert sizes == [1, 0]


@ensure
async def test_the_archive_is_read_in_pages_by_key_and_label(subject: Subject) -> None:
    term = await subject.lead()
    for n in (3, 1, 5, 2, 4):
        await subject.commit(term, Archive("job", str(n), n, "odd" if n % 2 else "even"))
    await subject.commit(term, Archive("other", "1", "x"))
    archive = subject.store.archive

    async def numbers(**how: Any) -> list[int]:
        return [value for _, value in await archive("job", Page(**how))]

    assert await archive("job", Page(limit=2)) == [("5", 5), ("4", 4)]
    assert await numbers(below="4", limit=2) == [3, 2]
    assert await numbers(below="2") == [1]
    assert await numbers(label="odd") == [5, 3, 1]
    assert await numbers(label="odd", below="5", after="1") == [3]
    assert await numbers(label="nobody's") == []
    assert await numbers(after="3", newest=False) == [4, 5]
    assert await numbers(limit=0) == []


@ensure
async def test_a_record_is_in_one_place_only(subject: Subject) -> None:
    term = await subject.lead()
    store = subject.store
    await subject.commit(term, Archive("job", "1", "aside"), Archive("job", "2", "aside"))
    with pytest.raises(Exists):
        await subject.commit(term, Create("job", "1", "new"))
    await subject.commit(term, Put("job", "1", "back"))
    assert dict((await store.load()).records) == {("job", "1"): "back"}
    assert await store.archived("job", "1") is None
    await subject.commit(term, Archive("job", "1", "again"), Archive("job", "1", "and again"))
    assert await store.archived("job", "1") == "and again"
    await subject.commit(term, Delete("job", "1"), Delete("job", "2"))
    assert await store.archive_size("job") == 0
    await subject.commit(term, Create("job", "1", "new"))
    with pytest.raises(Exists):
        await subject.commit(term, Archive("job", "3", 1), Create("job", "1", "newer"))
    assert await store.archived("job", "3") is None


@ensure
async def test_what_was_set_aside_until_a_time_expires(subject: Subject) -> None:
    term = await subject.lead()
    for key, until in (("1", 10.0), ("2", 20.0), ("3", None)):
        await subject.commit(term, Archive("submission", key, key, until=until))
    assert await subject.store.expire(10.0) == 0
    assert await subject.store.expire(15.0) == 1
    found = [await subject.store.archived("submission", key) for key in "123"]
    assert found == [None, "2", "3"]
    assert await subject.store.expire(1e12) == 1
    assert await subject.store.archived("submission", "3") == "3"


@ensure
async def test_trim_removes_the_events_of_the_jobs_named(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, *(Append(job, 1, job) for job in (1, 2, 3)))
    await subject.store.trim((1, 3, 99))
    assert [await subject.store.events(job, 0, 9) for job in (1, 2, 3)] == [[], [2], []]


@ensure
async def test_a_value_is_stored_as_it_was_when_given(subject: Subject) -> None:
    term = await subject.lead()
    value = {"list": [1]}
    written = subject.commit(term, Put("job", "1", value))
    value["list"].append(2)
    await written
    loaded = (await subject.store.load()).records["job", "1"]
    assert loaded == {"list": [1]}
    loaded["list"].clear()
    assert (await subject.store.load()).records["job", "1"] == {"list": [1]}


@pytest.mark.parametrize(
    "operation",
    [
        Put("job", "1", object()),
        Put("job", "1", float("nan")),
        Put("job", "1", {(1, 2): 3}),
        Put("job", "half a character \ud800", 1),
        Append(1 << 70, 1, 1),
        Archive("job", "1", object()),
        Archive("job", "1", 1, until=float("nan")),
    ],
    ids=["object", "nan", "odd key", "surrogate", "huge number", "archived object", "never"],
)
@ensure
async def test_what_cannot_be_stored_harms_no_other_batch(
    subject: Subject, operation: Operation
) -> None:
    term = await subject.lead()
    answers = [
        subject.commit(term, Put("job", "1", 1)),
        subject.commit(term, operation),
        subject.commit(term, Put("job", "2", 2)),
    ]
    with pytest.raises(Invalid):
        await answers[1]
    assert [await answers[0], await answers[2]] == [1, 2]


@ensure
async def test_nothing_is_taken_unless_open(subject: Subject) -> None:
    store = subject.store

    async def refuses_all() -> None:
        for ask in (
            lambda: store.load(),
            lambda: store.commit(subject.batch(Put("job", "1", 1)), 1),
            lambda: store.resolve("batch 1"),
            lambda: store.events(1, 0, 1),
            lambda: store.trim((1,)),
            lambda: store.archived("job", "1"),
            lambda: store.archive("job", Page()),
            lambda: store.archive_size("job"),
            lambda: store.expire(1.0),
            lambda: subject.leadership.campaign("me"),
        ):
            with pytest.raises(Unavailable):
                await ask()
        assert (await store.health()).problem

    await refuses_all()
    await store.open()
    with pytest.raises(Unavailable):
        await store.open()
    assert (await store.health()).problem == ""
    await store.close()
    await refuses_all()


@ensure
async def test_close_finishes_what_was_accepted_and_may_be_called_again(subject: Subject) -> None:
    term = await subject.lead()
    answers = [subject.commit(term, Put("job", str(n), n)) for n in range(50)]
    await gatherResults([subject.store.close(), subject.store.close()])
    assert await gatherResults(answers) == list(range(1, 51))
    await subject.store.close()
    again = subject.again()
    await again.store.open()
    records = (await again.store.load()).records
    await again.store.close()
    assert len(records) == 50


@ensure
async def test_one_object_can_be_opened_again(subject: Subject) -> None:
    first = await subject.lead()
    await subject.commit(first, Put("job", "1", 1))
    await subject.store.close()
    second = await subject.lead()
    await subject.commit(second, Put("job", "2", 2))
    assert (await subject.store.load()).position == 2


@pytest.mark.deadline(60)
@ensure
async def test_ten_thousand_jobs_are_loaded_soon(subject: Subject) -> None:
    term = await subject.lead()
    value = {"spec": {"name": "x" * 300, "machines": 3}, "machines": [{"state": "lost"}] * 5}
    await gatherResults(
        [
            subject.commit(term, Put("job", str(n), value), Append(n, 1, value))
            for n in range(1, 10_001)
        ]
    )
    begun = time.monotonic()
    snapshot = await subject.store.load()
    assert time.monotonic() - begun < 10
    assert len(snapshot.records) == 10_000


@ensure
async def test_health_tells_engine_and_position(subject: Subject) -> None:
    term = await subject.lead()
    await subject.commit(term, Put("job", "1", 1))
    health = await subject.store.health()
    assert health.engine in ("memory", "sqlite")
    assert health.position == 1
    assert (health.size > 0) == (health.engine == "sqlite")
