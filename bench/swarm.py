"""A thousand volunteers on one manager: the wire and the manager are real, the jobs are not."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import cluster, daemon, memory, sources
from bench.calibration import TRIP
from bench.children import WITH_US, child
from bench.cluster import Cluster
from bench.figures import Figure
from bench.session import Session

BOUND = 240.0

VOLUNTEERS = 1000
JOBS = 300
MACHINES = 3

#: A file system in memory, on every Linux that people use.
MEMORY = Path("/dev/shm")

#: Files that one process may have open: a socket for each volunteer, and some.
FILES = 4096


def measure(session: Session) -> list[Figure]:
    """Connect them all, then drain a queue of gangs."""
    _allow_files()
    place = session.directory / f"swarm{session.number()}"
    place.mkdir()
    with daemon.manager(place) as (found, wire_port), _volunteers(place, found, wire_port) as took:
        connected = memory.resident(found.manager_pid)
        with found.connection() as connection:
            cluster.wait_free(connection, VOLUNTEERS, pause=0.1)
        done = found.drain(sources.tarball(sources.NO_OP), JOBS, MACHINES)
        peak = memory.peak(found.manager_pid)
    return [
        Figure(
            f"{JOBS} gangs of {MACHINES} drained, submission included",
            [done.rate],
            "jobs/s",
            target=100,
            more=True,
        ),
        Figure("  accepted meanwhile", [JOBS / (done.submitted - done.began)], "jobs/s", more=True),
        Figure("manager's memory at its peak", [peak], "MB", target=250),
        Figure(f"  with {VOLUNTEERS} connected, before the jobs", [connected], "MB"),
        Figure(
            f"{VOLUNTEERS} volunteers connected",
            [took],
            "s",
            peer=session.peer(TRIP, VOLUNTEERS / 1000),
            note="all dial at once, from one process",
        ),
    ]


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _volunteers(place: Path, found: Cluster, wire_port: int) -> Iterator[float]:
    """All of them, in one process; gives the seconds until the last was registered."""
    words = [*WITH_US, sys.executable, "-m", "bench.simulated"]
    words += [str(VOLUNTEERS), str(wire_port), found.url.rsplit(":", 1)[1], str(place)]
    top = Path(__file__).parent.parent
    with (
        # In memory: a thousand volunteers have a thousand disks, and here all of them would share
        # the manager's, on which a file made soon after many were removed takes its time.
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else place) as files,
        (place / "simulated").open("wb") as output,
        child([*words, files], cwd=top, stdout=subprocess.PIPE, stderr=output) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            said = (place / "simulated").read_text()[-2000:]
            raise RuntimeError(f"the simulated volunteers ended: {said}")
        yield float(line)
