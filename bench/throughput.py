"""Many small jobs, one after the other through few volunteers."""

from __future__ import annotations

from bench import sources
from bench.figures import Figure
from bench.session import Session

BOUND = 150.0

JOBS = 300


def measure(session: Session) -> list[Figure]:
    """Drain no-op jobs of one machine each; their source is the same, as it is with sweeps."""
    found = session.cluster
    done = found.drain(sources.tarball(sources.NO_OP), JOBS, machines=1)
    accepted = JOBS / (done.submitted - done.began)
    return [
        Figure(
            f"{JOBS} no-op jobs: from first submission to last end",
            [done.rate],
            "jobs/s",
            target=20,
            more=True,
        ),
        Figure("  accepted meanwhile", [accepted], "jobs/s", more=True),
    ]
