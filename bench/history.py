"""A manager with a long past: how long it takes to start, and how much memory that costs."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import attrs

from bench import daemon, memory
from bench.figures import Figure
from bench.session import Session
from syndicate.domain.events import Submitted
from syndicate.domain.job import Job, JobSpec, JobState, Machine, MachineState, Outcome, Role
from syndicate.plain import to_plain
from syndicate.plain_events import event_to_plain
from syndicate.store.schema import connect

BOUND = 240.0

JOBS = 100_000
#: Events of each; about what a job of four machines has.
EVENTS = 20


def measure(session: Session) -> list[Figure]:
    """Start a manager without a past and one with it, in turns, and look an old job up."""
    places = {0: session.directory / "young", JOBS: session.directory / "old"}
    starts: dict[int, list[float]] = {0: [], JOBS: []}
    sizes: dict[int, list[float]] = {0: [], JOBS: []}
    looked: list[float] = []
    for jobs, place in places.items():
        place.mkdir()
        with daemon.manager(place):
            """Makes authority and database."""
        if jobs:
            _live_through(place / "state/state.db", jobs)
    for _ in range(max(3, session.runs // 2)):
        for jobs, place in places.items():
            began = time.monotonic()
            with daemon.manager(place) as (found, _), found.connection() as connection:
                counts = connection.get("/v1/status")["jobs"]
                starts[jobs].append(time.monotonic() - began)
                sizes[jobs].append(memory.resident(found.manager_pid))
                if counts.get("finished", 0) != jobs:
                    raise RuntimeError(f"the manager knows of {counts}, not of {jobs} jobs")
                if jobs:
                    began = time.monotonic()
                    connection.get(f"/v1/jobs/{jobs // 2}")
                    looked.append((time.monotonic() - began) * 1000)
    return [
        Figure(
            f"start with {JOBS} finished jobs in the store, to the first answer",
            starts[JOBS],
            "s",
            target=3,
        ),
        Figure("  with an empty store", starts[0], "s"),
        Figure("  memory then", sizes[JOBS], "MB", target=150),
        Figure("  memory with an empty store", sizes[0], "MB"),
        Figure("a job in the archive is looked up", looked, "ms"),
    ]


def _live_through(database: Path, jobs: int) -> None:
    """Give a database the past of so many jobs, in the archive as the manager puts them there."""
    connection = connect(database)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    for number in range(1, jobs + 1):
        _live_through_one(connection, _job(number))
    connection.execute("UPDATE meta SET value = value + ? WHERE name = 'position'", (jobs,))
    connection.execute("COMMIT")
    connection.close()


def _live_through_one(connection: sqlite3.Connection, job: Job) -> None:
    number = job.number
    _put(connection, "job", f"{number:016x}", {"job": to_plain(job), "faults": []}, None)
    made = {"job": number, "sha256": job.spec.sha256, "name": job.spec.name}
    _put(connection, "submission", f"ann/{number:032x}", made, 4e9)
    event = json.dumps(event_to_plain(Submitted(number, job.user, job.spec), 1.7e9, 0))
    connection.executemany(
        "INSERT INTO event VALUES (?, ?, ?)", [(number, n, event) for n in range(1, EVENTS + 1)]
    )


def _put(
    connection: sqlite3.Connection, kind: str, key: str, value: Any, until: float | None
) -> None:
    connection.execute(
        "INSERT INTO archive VALUES (?, ?, ?, 'ann', ?)",
        (kind, key, json.dumps(value, separators=(",", ":")), until),
    )


def _job(number: int) -> Job:
    spec = JobSpec("a job", "a" * 64, 12345, machines=4, outputs=("*.txt",))
    master = Machine(
        Role.MASTER, 0, "v1", "10.0.0.1", MachineState.EXITED, 0, log_bytes=1000, outputs="c" * 64
    )
    slaves = tuple(attrs.evolve(master, role=Role.SLAVE, index=n) for n in range(3))
    return Job(
        number,
        spec,
        "ann",
        1.7e9,
        JobState.FINISHED,
        Outcome.PASSED,
        "All machines ended well.",
        attempt=1,
        machines=(master, *slaves),
        started_at=1.7e9,
        finished_at=1.7e9 + 5,
        events=EVENTS,
    )
