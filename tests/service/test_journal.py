"""The manager's way to its store, when the store is well and when it is not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from syndicate.domain.errors import StorageFull
from syndicate.manager.journal import RETRY, Journal
from syndicate.store.interface import Append, Batch, ITerm, Put


@implementer(ITerm)
@attrs.define
class FirstTerm:
    """A term that goes on."""

    number: int = 1
    lost: Any = None

    def valid(self) -> bool:
        return True

    def resign(self) -> Deferred[None]:
        raise NotImplementedError


class HandStore:
    """Notes batches; the test says when and how each commit ends."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.answers: list[Deferred[int]] = []

    def commit(self, batch: Batch, term: int) -> Deferred[int]:
        self.batches.append(batch)
        self.answers.append(Deferred())
        return self.answers[-1]


@pytest.fixture
def store() -> HandStore:
    return HandStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(store: HandStore, clock: Clock) -> Journal:
    return Journal(store, clock, FirstTerm())  # type: ignore[arg-type]


def put(value: int, key: str = "k") -> Put:
    return Put("job", key, value)


def test_one_batch_is_in_flight_and_the_next_gathers(journal: Journal, store: HandStore) -> None:
    done = [journal.write(put(n, f"k{n}")) for n in range(3)]
    assert [batch.operations for batch in store.batches] == [(put(0, "k0"),)]
    assert [d.called for d in done] == [False] * 3
    store.answers[0].callback(1)
    assert [d.called for d in done] == [True, False, False]
    assert store.batches[1].operations == (put(1, "k1"), put(2, "k2"))
    store.answers[1].callback(2)
    assert [d.called for d in done] == [True] * 3


def test_only_the_last_value_of_a_record_is_written_and_every_event(
    journal: Journal, store: HandStore
) -> None:
    journal.write(put(0))
    for n in (1, 2, 3):
        journal.write(put(n), Append(7, n, n))
    store.answers[0].callback(1)
    assert store.batches[1].operations == (
        Append(7, 1, 1),
        Append(7, 2, 2),
        put(3),
        Append(7, 3, 3),
    )
    store.answers[1].callback(2)


def test_what_the_store_refuses_is_tried_again_in_order(
    journal: Journal, store: HandStore, clock: Clock
) -> None:
    first = journal.write(put(1))
    second = journal.write(put(2))
    store.answers[0].errback(StorageFull("No room."))
    assert journal.stalled == "No room."
    assert len(store.batches) == 1
    clock.advance(RETRY)
    assert store.batches[1] == store.batches[0], "a store that took it knows it by its id"
    store.answers[1].callback(1)
    assert store.batches[2].operations == (put(2),)
    store.answers[2].callback(2)
    assert not journal.stalled
    assert first.called
    assert second.called


def test_an_optional_change_is_given_back_and_never_written_later(
    journal: Journal, store: HandStore, clock: Clock
) -> None:
    failures: list[Any] = []
    journal.write(put(1), optional=True).addErrback(failures.append)
    store.answers[0].errback(StorageFull("No room."))
    journal.write(put(2), optional=True).addErrback(failures.append)
    assert [type(failure.value) for failure in failures] == [StorageFull, StorageFull]
    clock.advance(RETRY)
    # An empty change has found out whether the store is well again.
    assert [batch.operations for batch in store.batches[1:]] == [()]
    assert journal.stalled == "No room."
    store.answers[1].callback(1)
    assert journal.stalled == ""
    assert not clock.getDelayedCalls()


def test_a_closed_journal_leaves_no_timer(journal: Journal, store: HandStore, clock: Clock) -> None:
    journal.write(put(1))
    store.answers[0].errback(StorageFull("No room."))
    journal.close()
    assert not clock.getDelayedCalls()
    assert not journal.write(put(2)).called
