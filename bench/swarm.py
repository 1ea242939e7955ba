"""A thousand volunteers on one manager: the wire and the manager are real, the jobs are not."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import cluster, memory, sources
from bench.calibration import TRIP
from bench.children import WITH_US, child
from bench.cluster import Cluster
from bench.figures import Figure
from bench.session import Session

BOUND = 240.0

VOLUNTEERS = 1000
JOBS = 300
MACHINES = 3

#: Files that one process may have open: a socket for each volunteer, and some.
FILES = 4096


def measure(session: Session) -> list[Figure]:
    """Connect them all, then drain a queue of gangs."""
    _allow_files()
    place = session.directory / f"swarm{session.number()}"
    place.mkdir()
    with _manager(place) as (found, wire_port), _volunteers(place, found, wire_port) as took:
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
def _manager(place: Path) -> Iterator[tuple[Cluster, int]]:
    """A daemon of its own, on this machine's own address."""
    wire_port, api_port = _free_ports(2)
    configuration, state = place / "manager.toml", place / "state"
    configuration.write_text(
        "[manager]\n"
        f"state = {json.dumps(str(state))}\n"
        'address = "127.0.0.1"\n'
        f"wire_port = {wire_port}\n"
        f"api_port = {api_port}\n"
    )
    twistd = Path(sys.executable).with_name("twistd")
    words = [
        *WITH_US,
        sys.executable,
        str(twistd),
        "-n",
        "--pidfile=",
        f"--logfile={place / 'log'}",
    ]
    with (place / "output").open("wb") as output:
        words += ["syndicate-manager", "--config", str(configuration)]
        with child(words, cwd=place, stdout=output, stderr=output) as process:
            yield _reached(process, state, api_port), wire_port


def _reached(process: subprocess.Popen[bytes], state: Path, port: int) -> Cluster:
    secret, authority = state / "tokens/staff", state / "authority/ca.pem"
    for _ in range(500):
        if process.poll() is not None:
            raise RuntimeError("the manager did not start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            token = secret.read_text().strip()
            return Cluster(f"https://127.0.0.1:{port}", token, str(authority), process.pid)
        time.sleep(0.02)
    raise RuntimeError("the manager does not answer")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextlib.contextmanager
def _volunteers(place: Path, found: Cluster, wire_port: int) -> Iterator[float]:
    """All of them, in one process; gives the seconds until the last was registered."""
    words = [*WITH_US, sys.executable, "-m", "bench.simulated"]
    words += [str(VOLUNTEERS), str(wire_port), found.url.rsplit(":", 1)[1], str(place)]
    top = Path(__file__).parent.parent
    with (
        (place / "simulated").open("wb") as output,
        child(words, cwd=top, stdout=subprocess.PIPE, stderr=output) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            said = (place / "simulated").read_text()[-2000:]
            raise RuntimeError(f"the simulated volunteers ended: {said}")
        yield float(line)
