"""A cluster under measurement, through the same client as the command line's."""

from __future__ import annotations

import contextlib
import io
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from bench.sources import Tarball
from syndicate.cli import streams
from syndicate.cli.connection import Connection
from syndicate.lab import Lab

Record = dict[str, Any]

#: Volunteers of the lab that is measured.
VOLUNTEERS = 6

#: Connections that submit many jobs at once.
SUBMITTERS = 4


@attrs.frozen
class Cluster:
    """How a manager is reached, and what is asked of it."""

    url: str
    token: str = attrs.field(repr=False)
    authority: str
    manager_pid: int

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of its own, made at the first request, as every command makes it."""
        connection = Connection(self.url, lambda: self.token, self.authority)
        try:
            yield connection
        finally:
            connection.close()

    def environment(self) -> dict[str, str]:
        """For commands that are to find this cluster."""
        return {
            "SYNDICATE_URL": self.url,
            "SYNDICATE_TOKEN": self.token,
            "SYNDICATE_AUTHORITY": self.authority,
        }

    def drain(self, source: Tarball, jobs: int, machines: int) -> Drained:
        """Submit many jobs of one source, over several connections, and wait for their ends.

        :raises RuntimeError: one did not pass.
        """
        with self.connection() as connection:
            upload(connection, source)
            before = connection.get("/v1/status")["jobs"].get("finished", 0)
            began = time.time()
            with ThreadPoolExecutor(SUBMITTERS) as pool:
                each = [jobs // SUBMITTERS + (n < jobs % SUBMITTERS) for n in range(SUBMITTERS)]
                list(pool.map(lambda count: self._submit_some(source, count, machines), each))
            submitted = time.time()
            while connection.get("/v1/status")["jobs"].get("finished", 0) < before + jobs:
                time.sleep(0.05)
            records = connection.get(f"/v1/jobs?all=1&limit={jobs}")["jobs"]
        require_passed(records)
        started = min(seconds(job["started_at"]) for job in records)
        ended = max(seconds(job["finished_at"]) for job in records)
        return Drained(jobs, began, submitted, started, ended)

    def _submit_some(self, source: Tarball, count: int, machines: int) -> None:
        with self.connection() as connection:
            for _ in range(count):
                post(connection, source, machines)


@attrs.frozen
class Drained:
    """When what happened to many jobs: epoch seconds."""

    jobs: int
    began: float
    submitted: float
    started: float
    ended: float

    @property
    def rate(self) -> float:
        """Jobs a second, from the first submission to the last end."""
        return self.jobs / (self.ended - self.began)


def of_lab(lab: Lab) -> Cluster:
    """The cluster that a lab is."""
    pid = lab.hosts["manager"].pid
    assert pid is not None, "the lab is up"
    return Cluster(lab.url, lab.token, str(lab.authority), pid)


def upload(connection: Connection, source: Tarball) -> None:
    """Bring a tarball to the manager, unless it is there."""
    connection.upload(f"/v1/blobs/{source.sha256}", io.BytesIO(source.data), source.size)


def post(connection: Connection, source: Tarball, machines: int, **spec: Any) -> Record:
    """Queue a job of a source that is there."""
    spec |= {"name": "bench", "sha256": source.sha256, "size": source.size, "machines": machines}
    body = {"submission": str(uuid.uuid4()), "spec": spec}
    job: Record = connection.post("/v1/jobs", body)["job"]
    return job


def submit(connection: Connection, source: Tarball, machines: int, **spec: Any) -> Record:
    """Upload, and queue."""
    upload(connection, source)
    return post(connection, source, machines, **spec)


def events(connection: Connection, job: Record) -> Iterator[tuple[float, Record]]:
    """The events of a job, each with the time at which it has come here."""
    for event in streams.events(connection, job["job"]):
        yield time.time(), event


def wait_free(connection: Connection, count: int = VOLUNTEERS, pause: float = 0.005) -> float:
    """Wait until so many volunteers are free; gives the time at which it was seen."""
    while True:
        if connection.get("/v1/status")["volunteers"].get("free", 0) >= count:
            return time.time()
        time.sleep(pause)


def require_passed(jobs: list[Record]) -> None:
    """Say which of the jobs did not pass.

    :raises RuntimeError: one did not.
    """
    for job in jobs:
        if job["outcome"] != "passed":
            raise RuntimeError(f"job {job['job']} {job['outcome']}: {job['reason']}")


def seconds(text: str) -> float:
    """A time of the API as epoch seconds."""
    return datetime.fromisoformat(text).timestamp()


def fresh_lab(directory: Path, name: str) -> Lab:
    """A lab of that name, not up yet, with its files in that directory."""
    return Lab(name, directory / name)
