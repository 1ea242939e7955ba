"""An entry as one line of JSON, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from syndicate.audit.interface import Actor, Entry, Kind

#: Longest line, in bytes; of an entry that is longer the details are cut.
LONGEST = 8 << 10


def to_line(entry: Entry) -> bytes:
    """The line, in ASCII and with its end: what somebody typed cannot make a second one."""
    line = _line(_plain(entry))
    if len(line) > LONGEST:
        text = json.dumps(dict(entry.details), default=str)
        # A third, as each character may become an escape, and the quotes of JSON two more.
        line = _line({**_plain(entry), "details": {"cut": text[: LONGEST // 3]}})
    return line


def from_line(line: bytes) -> Entry | None:
    """The entry of a line; None if it is none, such as half of one after a power cut."""
    try:
        found = json.loads(line)
        return Entry(
            datetime.fromisoformat(found["at"]).timestamp(),
            Actor(
                Kind(found["kind"]), found["who"], found["role"], found["token"], found["address"]
            ),
            found["did"],
            found["on"],
            found["outcome"],
            found["details"],
        )
    except (ValueError, KeyError, TypeError):
        return None


def _plain(entry: Entry) -> dict[str, Any]:
    actor = entry.actor
    at = datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds")
    return {
        "at": at.replace("+00:00", "Z"),
        "kind": actor.kind.value,
        "who": _short(actor.name),
        "role": actor.role,
        "token": actor.token,
        "address": actor.address,
        "did": _short(entry.did),
        "on": _short(entry.on),
        "outcome": entry.outcome,
        "details": dict(entry.details),
    }


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, default=str).encode("ascii") + b"\n"


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"
