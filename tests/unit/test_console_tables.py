"""How what a console shows fits a terminal: nothing of it is lost, and no line is too long."""

from __future__ import annotations

import pytest

from syndicate.console.tables import Facts, Table, Text, fitted
from syndicate.console.words import Word, shown

WHY = "Waits for 4 volunteers, one of them for the client; the cluster has 3 now."
JOBS = Table(
    [7, 18],
    lambda number: {"job": number, "name": "kvstore", "state": "queued", "why": WHY},
)


def test_a_column_of_sentences_is_broken_between_words_where_it_has_room() -> None:
    lines = fitted(JOBS, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0] == "JOB  NAME     STATE   WHY"
    column = lines[0].index("WHY")
    assert " ".join(line[column:] for line in lines[1:]) == f"{WHY} {WHY}"
    assert [line[:3] for line in lines if line[:3].strip()] == ["JOB", "7  ", "18 "]


def test_it_is_beneath_the_others_where_it_has_none() -> None:
    lines = fitted(JOBS, 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[:2] == ["JOB  NAME     STATE", "    WHY"]
    assert lines[2] == "7    kvstore  queued"
    assert " ".join(line.strip() for line in lines[3:] if line[0] == " ") == f"{WHY} {WHY}"


def test_a_time_is_broken_behind_its_date() -> None:
    row = {"volunteer": "v" * 20, "heard": "2026-01-02T03:04:05Z", "why": ""}
    lines = fitted(Table([row], lambda row: row), 35).splitlines()
    assert lines[-2:] == ["v" * 16 + "  2026-01-02T", "v" * 4 + " " * 14 + "03:04:05Z"]


def test_what_has_no_place_to_break_is_broken_anywhere() -> None:
    table = Table(["x" * 50], lambda name: {"name": name, "state": "free", "why": ""})
    lines = fitted(table, 30).splitlines()
    assert max(map(len, lines)) <= 30
    assert "".join(lines).count("x") == 50


@pytest.mark.parametrize("width", [None, 200])
def test_what_fits_is_left_as_it_is(width: int | None) -> None:
    assert fitted(JOBS, width) == repr(JOBS)
    assert len(repr(JOBS).splitlines()) == 3


def test_facts_and_texts_are_broken_too_and_so_is_what_a_word_answers() -> None:
    facts = Facts(None, {"job": 7, "why": WHY}, JOBS)
    for value in (facts, Text(WHY), Word("why", lambda: facts)):
        lines = shown(value, 50).splitlines()
        assert max(map(len, lines)) <= 50
        assert " ".join(" ".join(lines).split()).count("volunteers, one") >= 1
    assert shown(facts, 50).splitlines()[:3] == [
        "job  7",
        "why  Waits for 4 volunteers, one of them for the",
        "     client; the cluster has 3 now.",
    ]
    assert shown(WHY, 50) == (
        "Waits for 4 volunteers, one of them for the\nclient; the cluster has 3 now."
    )
