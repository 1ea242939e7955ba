"""The parts of examples/kvstore and examples/kvbench that need neither network nor processes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> Any:
    """A module of an example; jobs find it beside them, tests by its path."""
    path = EXAMPLES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


journal, book = load("kvstore/journal"), load("kvbench/book")
Entry, Journal, Book = journal.Entry, journal.Journal, book.Book

ENTRIES = [Entry(1), Entry(1, "a", 1, "one"), Entry(1, "b", 1, "two\nlines"), Entry(2)]


def reopened(place: Path) -> Any:
    """What is found after a crash; tests need not close what they leave."""
    found = Journal(place)
    found.close()
    return found


def test_a_journal_is_found_as_it_was_left(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    assert first.blank
    first.replace([])
    assert not first.blank
    first.append(ENTRIES[:2])
    first.append(ENTRIES[2:])
    first.sync()
    first.close()
    assert reopened(tmp_path).entries == ENTRIES
    assert [reopened(tmp_path).epoch_at(n) for n in range(5)] == [0, 1, 1, 1, 2]


def test_an_empty_journal_is_not_a_blank_disk(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.replace([])
    first.close()
    again = Journal(tmp_path)
    assert not again.blank
    again.close()


def test_a_journal_cut_at_any_byte_holds_what_was_whole(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.replace(ENTRIES)
    first.close()
    file = tmp_path / "journal"
    data = file.read_bytes()
    for length in range(len(data) + 1):
        file.write_bytes(data[:length])
        again = Journal(tmp_path)
        whole = data[:length].count(b"\n")
        assert again.entries == ENTRIES[:whole]
        again.append([Entry(3)])  # goes where the part of a line was
        again.close()
        assert reopened(tmp_path).entries == [*ENTRIES[:whole], Entry(3)]


def test_a_damaged_line_ends_a_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.replace(ENTRIES)
    first.close()
    file = tmp_path / "journal"
    file.write_bytes(file.read_bytes().replace(b'"one"', b'"eno"'))
    assert reopened(tmp_path).entries == ENTRIES[:1]


def test_a_whole_copy_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.replace(ENTRIES)
    first.replace(ENTRIES[:1])
    first.append([Entry(7)])
    first.close()
    assert reopened(tmp_path).entries == [ENTRIES[0], Entry(7)]


def read(mine: Any, key: str, version: int, **rest: Any) -> None:
    """A read that begins now and returns this version, with the value that belongs to it."""
    mine.check(key, mine.floor(key), version, mine.value(key, version) if version else "", **rest)


def a_book(*, acknowledged: int = 0) -> Any:
    """One with so many versions of the key "k"."""
    mine = Book("client[0]", 7)
    for _ in range(acknowledged):
        version, _ = mine.issue("k")
        mine.acknowledge("k", version, 0)
    return mine


def test_what_is_right_is_not_blamed() -> None:
    mine = a_book(acknowledged=2)
    read(mine, "k", 2)
    mine.issue("k")  # and nobody knows what came of it
    read(mine, "k", 2)
    read(mine, "k", 3)
    version, _ = mine.issue("k")
    mine.refuse("k", version)
    read(mine, "k", 3, last=True)
    read(mine, "other", 0)
    mine.audit(mine.tally())
    assert mine.verdict() == ""


def test_an_acknowledged_write_that_is_missing_at_the_end_is_lost() -> None:
    mine = a_book(acknowledged=2)
    read(mine, "k", 1, last=True)
    assert set(mine.mistakes) == {book.LOST}
    assert "k has version 1, but 2 was there" in mine.verdict()


def test_a_read_may_not_go_back() -> None:
    mine = a_book(acknowledged=1)
    mine.issue("k")
    read(mine, "k", 2)
    read(mine, "k", 1)
    assert set(mine.mistakes) == {book.STALE}


def test_what_another_client_has_told_must_be_there() -> None:
    mine = a_book()
    mine.hear({"theirs": 3})
    read(mine, "theirs", 0)
    assert set(mine.mistakes) == {book.STALE}


def test_what_was_told_only_after_a_read_began_need_not_be_there() -> None:
    mine = a_book()
    floor = mine.floor("theirs")
    mine.hear({"theirs": 3})
    mine.check("theirs", floor, 0, "")
    assert not mine.mistakes


@pytest.mark.parametrize("value", ["", "k 1 0123", "other 1"])
def test_a_value_that_nobody_has_written_is_blamed(value: str) -> None:
    mine = a_book(acknowledged=1)
    mine.check("k", 1, 1, value)
    assert set(mine.mistakes) == {book.UNWRITTEN}


def test_a_version_that_was_never_begun_is_blamed() -> None:
    mine, theirs = a_book(), Book("client[1]", 7)
    theirs.issue("k")
    read(mine, "k", 2)
    mine.audit(theirs.tally())
    assert set(mine.mistakes) == {book.UNWRITTEN}


def test_a_refused_write_that_is_read_is_blamed() -> None:
    mine, theirs = a_book(), Book("client[1]", 7)
    version, _ = theirs.issue("k")
    theirs.refuse("k", version)
    read(mine, "k", version)
    mine.audit(theirs.tally())
    assert set(mine.mistakes) == {book.REFUSED}


def test_a_write_acknowledged_by_a_master_alone_is_blamed() -> None:
    mine = a_book()
    mine.set_alone(True)
    began = mine.alone
    mine.acknowledge("k", 1, began)
    assert set(mine.mistakes) == {book.ALONE}


def test_a_write_that_was_not_alone_all_the_time_is_not_blamed() -> None:
    mine = a_book()
    before = mine.alone
    mine.set_alone(True)
    mine.acknowledge("k", 1, before)
    during = mine.alone
    mine.set_alone(False)
    mine.acknowledge("k", 2, during)
    mine.set_alone(True)  # once more: another time
    mine.acknowledge("k", 3, during)
    assert not mine.mistakes


@given(st.lists(st.sampled_from(["write", "refuse", "unsure", "read"]), max_size=40), st.data())
def test_no_history_of_a_correct_register_is_blamed(steps: list[str], data: st.DataObject) -> None:
    mine, stored, pending = Book("client[0]", 7), 0, 0
    for step in steps:
        if pending and data.draw(st.booleans(), "a write of which nobody knows arrives"):
            stored, pending = max(stored, pending), 0
        if step == "read":
            read(mine, "k", stored)
            continue
        version, value = mine.issue("k")
        assert value == mine.value("k", version)
        if step == "write":
            stored = version
            mine.acknowledge("k", version, 0)
        elif step == "refuse":
            mine.refuse("k", version)
        else:
            pending = version
    read(mine, "k", stored, last=True)
    mine.audit(mine.tally())
    assert mine.verdict() == ""
