"""Calls that are right, by what they call, from which those that are not are made."""

from __future__ import annotations

from typing import Any

import attrs

from syndicate.plain import to_plain
from syndicate.wire.interface import Ask, EndReport
from tests.fuzz.grammar import OBJECT
from tests.support.peers import ORDER, PART, NotingWorker

#: The values of a call, by its name.
Likes = dict[bytes, list[Any]]

#: Of a client, at its door.
CLIENT: Likes = {
    b"kill": [{"machine": "slave[0]"}, None],
    b"finish": [{"passed": True}, None],
    b"samples": [None, None],
    b"events": [None, None],
    b"mark": [{"name": "x"}, None],
    b"job": [None],
}

#: Of a manager, to a volunteer.
MANAGER: Likes = {
    b"prepare": [to_plain(ORDER)],
    b"start": [to_plain(PART)],
    b"release": [to_plain(PART)],
    b"ping": [],
}


def stranger(name: str) -> Likes:
    """Of a volunteer that has not joined yet."""
    return {b"join": [to_plain(NotingWorker(name).hello()), OBJECT], b"ping": []}


def volunteer(job: int) -> Likes:
    """Of one that has, and is the master of a job."""
    part = attrs.evolve(PART, job=job, attempt=1, machine="master")
    return {
        b"ended": [to_plain(EndReport(part, exit_code=0))],
        b"clean": [""],
        b"ask": [to_plain(Ask(part, "kill", {"machine": "slave[0]"}))],
        b"ping": [],
    }
