"""Measurements on their way in: JSON lines, checked fast, since they come by the ten thousand."""

from __future__ import annotations

import json
import re
from typing import Any

from syndicate.domain.errors import Invalid

#: Longest name of an operation, in characters, and longest line, in bytes.
OPERATION_LENGTH = 100
LINE_LENGTH = 1000

_NUMBER = rb"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,2})?"
#: A sample as our own libraries write it. What matches needs no parsing; what does not may still
#: be good, and is parsed.
_PLAIN = re.compile(
    rb'(?:\{"t": ?%(n)s, ?"op": ?"[ !#-\[\]-~]{1,100}", ?"ms": ?%(n)s, ?"ok": ?(?:true|false)\}\n)*'
    % {b"n": _NUMBER}
)
_KEYS = {"t", "op", "ms", "ok"}


def check_samples(data: bytes) -> tuple[bytes, int]:
    """Samples as they are kept, and how many they are.

    :returns: lines that each have an end, and none of which is empty.
    :raises Invalid: a line is no sample.
    """
    if not data.endswith(b"\n"):
        data += b"\n"
    if _PLAIN.fullmatch(data):
        return data, data.count(b"\n")
    lines = [line for line in (line.strip() for line in data.split(b"\n")) if line]
    for number, line in enumerate(lines, 1):
        if not _is_sample(line):
            raise Invalid(
                f"Line {number} is no sample: {_shown(line)}; one is a line such as "
                '{"t": 1700000000.5, "op": "put", "ms": 1.9, "ok": true}.'
            )
    return b"".join(line + b"\n" for line in lines), len(lines)


def _is_sample(line: bytes) -> bool:
    if len(line) > LINE_LENGTH:
        return False
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(sample, dict)
        and sample.keys() == _KEYS
        and _is_number(sample["t"])
        and _is_number(sample["ms"])
        and isinstance(sample["op"], str)
        and sample["op"].isprintable()
        and 0 < len(sample["op"]) <= OPERATION_LENGTH
        and isinstance(sample["ok"], bool)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e15  # which no NaN is


def _shown(line: bytes) -> str:
    return repr(line[:100].decode("utf-8", "replace"))
