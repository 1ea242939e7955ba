"""What every audit log promises; what only files can promise is at the end."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from syndicate.audit.files import FileAudit
from syndicate.audit.interface import Actor, Entry, IAudit, Kind, Wanted
from syndicate.audit.lines import LONGEST, from_line
from syndicate.audit.memory import MemoryAudit
from tests.support.tiny_disk import fill, tiny_disk

ANN = Actor(Kind.PERSON, "ann", "user", "4f21", "10.0.0.7")
CLIENT = Actor(Kind.CLIENT, "client[0] of job 17", "client", address="v3")
STRANGER = Actor(Kind.STRANGER, address="10.9.9.9")
ALL = Wanted()


@pytest.fixture(params=["memory", "files"])
def audit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = (
        MemoryAudit() if request.param == "memory" else FileAudit(Clock(), tmp_path / "audit")
    )
    yield made
    made.close()


def entry(at: float, actor: Actor = ANN, did: str = "cancel", **values: Any) -> Entry:
    return Entry(1_700_000_000 + at, actor, did, **values)


def test_it_provides_its_port(audit: Any) -> None:
    assert verifyObject(IAudit, audit)


@pytest_twisted.ensureDeferred
async def test_what_is_recorded_is_found_again_as_it_was(audit: Any) -> None:
    made = entry(0.25, on="job 17", outcome="forbidden", details={"message": "ä\n\x1b[31m", "n": 1})
    audit.record(made)
    assert await audit.tail(10, ALL) == [made]


@pytest_twisted.ensureDeferred
async def test_the_newest_come_from_all_streams_in_order_of_time(audit: Any) -> None:
    made = [entry(n, (ANN, CLIENT, STRANGER)[n % 3], f"deed {n}") for n in range(9)]
    for each in made:
        audit.record(each)
    assert await audit.tail(4, ALL) == made[-4:]
    assert await audit.tail(0, ALL) == []


@pytest_twisted.ensureDeferred
async def test_entries_are_found_by_all_that_is_asked_for(audit: Any) -> None:
    made = [
        entry(1, on="job 1"),
        entry(2, did="submit", on="job 2"),
        entry(3, CLIENT, "fault", on="job 2"),
    ]
    for each in made:
        audit.record(each)
    assert await audit.tail(9, Wanted(who="ann")) == made[:2]
    assert await audit.tail(9, Wanted(on="job 2")) == made[1:]
    assert await audit.tail(9, Wanted(on="job 2", did="fault")) == made[2:]
    assert await audit.tail(9, Wanted(kind=Kind.STRANGER)) == []


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_an_entry_is_in_the_file_before_anybody_is_answered(tmp_path: Path) -> None:
    audit = FileAudit(Clock(), tmp_path / "audit")
    audit.record(entry(0.25, on="job 17"))
    path = tmp_path / "audit/person.jsonl"
    assert lines(path) == [
        {
            "at": "2023-11-14T22:13:20.250Z",
            "kind": "person",
            "who": "ann",
            "role": "user",
            "token": "4f21",
            "address": "10.0.0.7",
            "did": "cancel",
            "on": "job 17",
            "outcome": "done",
            "details": {},
        }
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    audit.close()


@pytest_twisted.ensureDeferred
async def test_entries_outlive_the_daemon_and_only_ever_grow(tmp_path: Path) -> None:
    for n in range(3):
        audit = FileAudit(Clock(), tmp_path)
        audit.record(entry(n))
        audit.close()
        assert len(lines(tmp_path / "person.jsonl")) == n + 1
    assert len(await FileAudit(Clock(), tmp_path).tail(9, ALL)) == 3


@pytest_twisted.ensureDeferred
async def test_full_files_make_room_and_the_oldest_goes(tmp_path: Path) -> None:
    audit = FileAudit(Clock(), tmp_path, file_size=1000, files=2)
    for n in range(40):
        audit.record(entry(n, did=f"deed {n}"))
    assert sorted(os.listdir(tmp_path)) == ["person.jsonl", "person.jsonl.1", "person.jsonl.2"]
    assert all(os.stat(tmp_path / name).st_size <= 1000 for name in os.listdir(tmp_path))
    kept = [int(each.did.split()[1]) for each in await audit.tail(99, ALL)]
    assert kept == list(range(40 - len(kept), 40))
    assert len(kept) > 8
    audit.close()


@pytest_twisted.ensureDeferred
async def test_clients_and_strangers_cannot_push_out_what_people_did(tmp_path: Path) -> None:
    audit = FileAudit(Clock(), tmp_path, file_size=1000, files=1)
    audit.record(entry(0))
    for n in range(200):
        audit.record(entry(n, CLIENT))
        audit.record(entry(n, STRANGER))
    assert await audit.tail(9, Wanted(kind=Kind.PERSON)) == [entry(0)]
    audit.close()


@pytest_twisted.ensureDeferred
async def test_half_a_line_after_a_power_cut_spoils_no_other(tmp_path: Path) -> None:
    audit = FileAudit(Clock(), tmp_path)
    audit.record(entry(1))
    audit.close()
    path = tmp_path / "person.jsonl"
    path.write_bytes(path.read_bytes() + b'{"at": "2023-')
    audit = FileAudit(Clock(), tmp_path)
    audit.record(entry(2))
    assert await audit.tail(9, ALL) == [entry(1), entry(2)]
    audit.close()


def test_a_huge_entry_is_cut_and_stays_one_line(tmp_path: Path) -> None:
    audit = FileAudit(Clock(), tmp_path)
    audit.record(entry(1, details={"typed": "ä\n" * 100_000}))
    audit.close()
    data = (tmp_path / "person.jsonl").read_bytes()
    assert len(data) <= LONGEST
    assert data.count(b"\n") == 1
    assert "cut" in json.loads(data)["details"]


def test_what_was_written_is_brought_to_the_disk_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    clock = Clock()
    audit = FileAudit(clock, tmp_path)
    audit.record(entry(1))
    audit.record(entry(2))
    assert len(clock.getDelayedCalls()) == 1
    audit.close()
    assert len(synced) == 1
    assert not clock.getDelayedCalls()


@pytest.mark.needs_root
def test_entries_that_found_no_room_are_counted_and_told(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        audit = FileAudit(Clock(), disk / "audit")
        audit.record(entry(0))
        filler = fill(disk)
        # A file that has a page already may still grow a little within it.
        for n in range(100):
            audit.record(entry(n, details={"text": "x" * 1000}))
        filler.unlink()
        audit.record(entry(200))
        # The line that met the end of the disk may be half there.
        data = (disk / "audit/person.jsonl").read_bytes()
        audit.close()
    told = [found for line in data.splitlines() if (found := from_line(line)) is not None]
    assert [each.outcome for each in told[-2:]] == ["lost", "done"]
    assert told[-2].details["entries"] > 50
    assert told[-1] == entry(200)
