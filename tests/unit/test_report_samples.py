"""Samples as they are read: every good line counts, whatever lies beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.report.samples import LINE_CAP, Samples, read_samples

HEAD = "attempt,machine,t,op,ms,ok"


def read(*lines: str, attempt: int | None = None) -> Samples:
    return read_samples(["\n".join(lines).encode()], attempt)


def told(samples: Samples) -> list[tuple[str, float, float, bool]]:
    """Each as operation, end, milliseconds and whether it went well."""
    return [
        (op, round(end, 6), ms, bool(good))
        for op, series in samples.series.items()
        for end, ms, good in zip(series.ends, series.spans, series.good, strict=True)
    ]


def test_samples_come_in_the_order_in_which_they_ended() -> None:
    samples = read(
        HEAD,
        "1,client[0],10.0,put,5000,true",
        "1,client[1],11.0,put,1000,false",
        "1,client[1],9.0,get,1.5,true",
    )
    assert told(samples) == [
        ("get", 9.0015, 1.5, True),
        ("put", 12.0, 1000.0, False),
        ("put", 15.0, 5000.0, True),
    ]
    assert samples.series["put"].longest == 5.0
    assert (len(samples), samples.unreadable) == (3, 0)


def test_samples_of_one_attempt_are_picked_out() -> None:
    lines = (HEAD, "1,client[0],1,put,1,true", "2,client[0],2,put,1,true")
    assert len(read(*lines)) == 2
    assert told(read(*lines, attempt=2)) == [("put", 2.001, 1.0, True)]


def test_the_order_of_columns_is_that_of_the_first_line() -> None:
    samples = read("ok,ms,op,t", "true,2,put,1", attempt=1)
    assert told(samples) == [("put", 1.002, 2.0, True)]


def test_json_lines_are_read_too() -> None:
    samples = read(
        '{"t": 1.5, "op": "put", "ms": 2, "ok": true}',
        '{"ok": false, "t": 1, "ms": 2.0, "op": "put", "machine": "client[0]", "attempt": 1}',
        attempt=1,
    )
    assert [good for *_, good in told(samples)] == [False, True]


@pytest.mark.parametrize(
    "line",
    [
        "1,client[0],1,put,1",
        "1,client[0],1,put,1,true,more",
        "1,client[0],1,put,1,yes",
        "1,client[0],soon,put,1,true",
        "1,client[0],1,put,nan,true",
        "1,client[0],inf,put,1,true",
        "1,client[0],1,put,-1,true",
        "1,client[0],1,,1,true",
        "1,clie",
        '1,client[0],1,"put,1,true',
        "\xff\x00",
        "x" * (2 * LINE_CAP),
    ],
)
def test_a_line_of_csv_that_is_none_is_counted_and_passed_over(line: str) -> None:
    samples = read(HEAD, "1,c,1,put,1,true", line, "1,c,2,put,1,true")
    assert (len(samples), samples.unreadable) == (2, 1)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "null",
        "[1]",
        "{}",
        '{"t": 1, "op": "put", "ms": 1}',
        '{"t": "1", "op": "put", "ms": 1, "ok": true}',
        '{"t": 1, "op": "put", "ms": 1, "ok": 1}',
        '{"t": 1, "op": 1, "ms": 1, "ok": true}',
        '{"t": 1, "op": "", "ms": 1, "ok": true}',
        '{"t": NaN, "op": "put", "ms": 1, "ok": true}',
        '{"t": 1, "op": "put", "ms": 1' + "0" * 400 + ', "ok": true}',
        "[" * 9000,
    ],
)
def test_a_line_of_json_that_is_none_is_counted_and_passed_over(line: str) -> None:
    good = '{"t": 1, "op": "put", "ms": 1, "ok": true}'
    samples = read(good, line, good)
    assert (len(samples), samples.unreadable) == (2, 1)


@pytest.mark.parametrize("data", [b"", b"\n\n", HEAD.encode(), f"{HEAD}\r\n".encode()])
def test_no_samples_are_none(data: bytes) -> None:
    samples = read_samples([data])
    assert (len(samples), samples.unreadable, samples.series) == (0, 0, {})


def test_what_is_no_table_of_samples_is_not_taken_for_one() -> None:
    samples = read("<html>", "1,2,3,4")
    assert (len(samples), samples.unreadable) == (0, 2)


ROWS = st.lists(
    st.tuples(
        st.floats(0, 2e9),
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8),
        st.floats(0, 1e6),
        st.booleans(),
    ),
    max_size=20,
)


def as_csv(rows: list[Any]) -> bytes:
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(HEAD.split(","))
    for t, op, ms, ok in rows:
        table.writerow([1, "client[0]", t, op, ms, "true" if ok else "false"])
    return written.getvalue().encode()


def as_json(rows: list[Any]) -> bytes:
    keys = ("t", "op", "ms", "ok")
    return "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows).encode()


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    begin = 0
    for place in sorted(place % (len(data) + 1) for place in places):
        yield data[begin:place]
        begin = place
    yield data[begin:]


@given(ROWS, st.booleans(), st.lists(st.integers(0, 1 << 16), max_size=8))
def test_both_forms_say_the_same_wherever_the_stream_is_cut(
    rows: list[Any], csv_form: bool, places: list[int]
) -> None:
    samples = read_samples(cut(as_csv(rows) if csv_form else as_json(rows), places))
    assert samples.unreadable == 0
    wanted = sorted((op, t + ms / 1000, ms, ok) for t, op, ms, ok in rows)
    found = [
        (op, end, ms, bool(good))
        for op, series in samples.series.items()
        for end, ms, good in zip(series.ends, series.spans, series.good, strict=True)
    ]
    assert sorted(found) == wanted
    assert list(samples.series) == sorted(samples.series)
    for series in samples.series.values():
        assert list(series.ends) == sorted(series.ends)


def test_a_sample_takes_few_bytes() -> None:
    lines = (f"1,client[0],{n / 1000},put,1.5,true\n".encode() for n in range(50_000))
    samples = read_samples([f"{HEAD}\n".encode(), *lines])
    series = samples.series["put"]
    parts = (series.ends, series.spans)
    assert sum(part.itemsize for part in parts) == 16
    assert len(series.good) == len(series) == 50_000
