"""A gang of six: its start, its way through the command line, its end, its cancellation."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import psutil

from bench import cluster, sources
from bench.calibration import FORK, PYTHON
from bench.children import child
from bench.cluster import VOLUNTEERS, Cluster
from bench.figures import Figure
from bench.lab import COMMAND
from bench.session import Session
from syndicate.cli.connection import Connection

BOUND = 240.0

#: Steps on the way to the start, by the last event of each.
STEPS = ("submitted", "reserved", "preparing", "machine-ready", "running", "machine-running")


def measure(session: Session) -> list[Figure]:
    """Measure gangs whose source is new each time."""
    found = session.cluster
    _start_and_end(found, 0.1)  # what is imported at the first job is not part of the others
    lengths = [0.1 + 1.4 * run / session.runs for run in range(session.runs)]
    ended = [_start_and_end(found, length) for length in lengths]
    followed = [_followed(session, found) for _ in range(session.runs)]
    users = _users(session)
    cancelled = [_cancelled(found, users) for _ in range(session.runs)]
    forks = session.peer(FORK, VOLUNTEERS)
    return [
        Figure(
            "submit -> six make processes run",
            [run["running"] for run in ended],
            "ms",
            target=250,
            peer=forks,
            note="connect, upload, post; until the last event is here",
        ),
        *_steps(ended),
        Figure(
            "last process ended -> six free",
            [run["free"] for run in ended],
            "ms",
            target=150,
            peer=forks,
            note="jobs of 0.1 to 1.5 s",
        ),
        Figure(
            "syndicate submit --follow: to its exit",
            [run["exit"] for run in followed],
            "ms",
            target=600,
            peer=session.peer(PYTHON),
        ),
        Figure("  to the first line of output", [run["first"] for run in followed], "ms"),
        Figure(
            "cancel -> finished, and all processes dead",
            [max(run.values()) for run in cancelled],
            "ms",
            target=75,
            peer=forks,
        ),
        Figure("  until it is finished", [run["finished"] for run in cancelled], "ms"),
        Figure("  until all processes are dead", [run["dead"] for run in cancelled], "ms"),
    ]


def _steps(runs: list[dict[str, Any]]) -> Iterator[Figure]:
    """How far each step was after the submission began, by the manager's clock."""
    for step in STEPS:
        yield Figure(f"  until {step}", [run["steps"][step] for run in runs], "ms")


def _start_and_end(found: Cluster, length: float) -> dict[str, Any]:
    """The same gang with other lengths: volunteers have things to do a while after a start, and
    some gangs end in the midst of that.

    :param length: seconds that the job takes.
    """
    source = sources.tarball(sources.brief(length))
    steps: dict[str, float] = {}
    running = 0.0
    with found.connection() as connection, found.connection() as other:
        began = time.time()
        job = cluster.submit(connection, source, VOLUNTEERS)
        exited = 0
        for arrived, event in cluster.events(connection, job):
            steps[event["kind"]] = (cluster.seconds(event["at"]) - began) * 1000
            if event["kind"] == "machine-running":
                running = arrived
                other.get("/v1/version")  # connected before it is needed
            exited += event["kind"] == "machine-exited"
            if exited == VOLUNTEERS:
                break
        free = cluster.wait_free(other)
        said = [float(line) for line in _output(connection, job)]
        cluster.require_passed([connection.get(f"/v1/jobs/{job['job']}")["job"]])
    if len(said) != VOLUNTEERS:
        raise RuntimeError(f"job {job['job']}: {len(said)} machines have said when they ended")
    return {
        "running": (running - began) * 1000,
        "free": (free - max(said)) * 1000,
        "steps": steps,
    }


def _output(connection: Connection, job: dict[str, Any]) -> Iterator[str]:
    from syndicate.cli import streams

    for record in streams.log_lines(connection, job["job"], {}):
        yield record["line"]


def _followed(session: Session, found: Cluster) -> dict[str, float]:
    """The time that a command takes from its start to its first output, and to its exit."""
    place = sources.directory(session.directory / f"hello{session.number()}", sources.HELLO)
    words = [str(COMMAND), "submit", str(place), "-n", str(VOLUNTEERS), "--follow"]
    environment = {**os.environ, **found.environment()}
    began = time.monotonic()
    with child(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline()]
        first = time.monotonic()
        lines += process.stdout.readlines()
        process.wait()
        ended = time.monotonic()
        said = process.stderr.read()
    if process.returncode or len(lines) != VOLUNTEERS:
        raise RuntimeError(f"{' '.join(words)}: {said.strip()} {lines}")
    with found.connection() as connection:
        cluster.wait_free(connection)
    return {"first": (first - began) * 1000, "exit": (ended - began) * 1000}


def _users(session: Session) -> set[int]:
    """The users that jobs of the lab run as."""
    hosts = session.lab.hosts.values()
    ranges = [range(host.uids[0], host.uids[1] + 1) for host in hosts if host.uids]
    return {uid for each in ranges for uid in each}


def _cancelled(found: Cluster, users: set[int]) -> dict[str, float]:
    with found.connection() as connection, found.connection() as other:
        job = cluster.submit(connection, sources.tarball(sources.ENDLESS), VOLUNTEERS)
        happening = cluster.events(connection, job)
        running = 0
        for _, event in happening:
            running += event["kind"] == "machine-running"
            if running == VOLUNTEERS:
                break
        time.sleep(0.2)  # what starting has left to do is not part of it
        deaths = _Deaths(users)
        began = time.time()
        other.post(f"/v1/jobs/{job['job']}/cancel", {})
        finished = next(at for at, event in happening if event["kind"] == "finished")
        dead = deaths.wait(10.0)
        cluster.wait_free(other)
    return {"finished": (finished - began) * 1000, "dead": (dead - began) * 1000}


class _Deaths:
    """Sees when the last of all processes of some users has died."""

    def __init__(self, users: set[int]) -> None:
        self._left = {os.pidfd_open(pid) for pid in _processes_of(users)}
        if len(self._left) < 2 * VOLUNTEERS:  # a make and its child on each
            raise RuntimeError(f"only {len(self._left)} processes of the job were found")
        self._last = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor in self._left:
            poll.register(descriptor, select.POLLIN)
        while self._left:
            for descriptor, _ in poll.poll():
                poll.unregister(descriptor)
                os.close(descriptor)
                self._left.discard(descriptor)
            self._last = time.time()

    def wait(self, seconds: float) -> float:
        """The time of the last death."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise RuntimeError(f"{len(self._left)} processes live on after the cancellation")
        return self._last


def _processes_of(users: set[int]) -> Iterable[int]:
    for process in psutil.process_iter(["uids"]):
        uids = process.info["uids"]
        if uids is not None and uids.real in users:
            yield process.pid
