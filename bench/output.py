"""A job that prints far more than it may."""

from __future__ import annotations

import time

from bench import cluster, memory, sources
from bench.figures import Figure
from bench.session import Session

BOUND = 150.0

MOST_RUNS = 3

#: A gigabyte, in lines of 100 bytes.
CHATTY = f"master slave:\n\t@yes {'x' * 99} | head -c 1000000000\n.PHONY: master slave\n"

#: Bytes that a job prints at the most when it does not say otherwise.
LIMIT = 50 << 20


def measure(session: Session) -> list[Figure]:
    """Let it be cut, and see what it costs the manager."""
    found, grown, took = session.cluster, [], []
    for _ in range(min(session.runs, MOST_RUNS)):
        with found.connection() as connection:
            memory.forget_peak(found.manager_pid)
            before = memory.resident(found.manager_pid)
            began = time.time()
            job = cluster.submit(connection, sources.tarball(CHATTY), 1)
            for _ in cluster.events(connection, job):
                pass
            took.append(time.time() - began)
            grown.append(memory.peak(found.manager_pid) - before)
            _check(connection.get(f"/v1/jobs/{job['job']}")["job"])
            cluster.wait_free(connection)
    return [
        Figure("1 GB printed: what the manager grows by", grown, "MB", target=20),
        Figure("  until it is cut and finished", took, "s"),
    ]


def _check(job: cluster.Record) -> None:
    """Make sure that what was to be measured has happened.

    :raises RuntimeError: the job was not ended for its output, or not where it should.
    """
    kept = job["machines"][0]["log_bytes"]
    if job["limit"] != "output" or not 0.9 * LIMIT < kept < 1.5 * LIMIT:
        raise RuntimeError(f"{job['outcome']} with {kept} bytes of log: {job['reason']}")
