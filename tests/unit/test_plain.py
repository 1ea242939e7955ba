"""JSON from peers: what is let in can be written again, as JSON in UTF-8."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.errors import Invalid
from syndicate.domain.events import MachineExited, MachineKilled
from syndicate.domain.fault import Fault, FaultState, Kind
from syndicate.domain.job import Machine, Role
from syndicate.plain import from_plain, read_json, to_plain
from syndicate.wire.interface import FaultDone


@pytest.mark.parametrize(
    "data",
    [
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e999",
        b"-1e999",
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'["\\ud800\\u0041"]',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        '"text"'.encode("utf-16"),
        b"[" * 100_000,
        b"",
        b"{",
        b"9" * 5000,
    ],
)
def test_what_could_not_be_written_again_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (of many kinds, each says its own)
        read_json(data)


def test_whole_characters_may_be_written_either_way() -> None:
    assert read_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    assert read_json('"\N{GRINNING FACE}"'.encode()) == "\N{GRINNING FACE}"


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
def test_what_is_let_in_can_be_written_again(data: bytes) -> None:
    try:
        value = read_json(data)
    except ValueError:
        return
    assert read_json(json.dumps(value, ensure_ascii=False, allow_nan=False).encode()) == value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, -(10**400), "1", True])
def test_a_number_of_ours_is_finite(number: object) -> None:
    with pytest.raises(Invalid):
        from_plain({"applied_at": number, "verified_at": 1.0}, FaultDone)


def test_what_was_left_out_may_be_missing_in_what_an_older_version_stored() -> None:
    machine = Machine(Role.MASTER, 0, "v1", "10.0.0.1", outputs="0" * 64, left_out=("x is a link",))
    for value in (machine, MachineExited("master", 0), MachineKilled("master")):
        stored = to_plain(value)
        del stored["left_out"]
        assert from_plain(stored, type(value)) == attrs.evolve(value, left_out=())


def test_a_fault_that_an_older_version_stored_can_be_read() -> None:
    fault = Fault(1, 1, Kind.KILL, ("slave[0]",), "x", 5.0, FaultState.HEALED, note="by f2")
    stored = to_plain(fault)
    del stored["ended"]
    assert from_plain(stored, Fault) == fault
    assert fault.said == "by f2"
