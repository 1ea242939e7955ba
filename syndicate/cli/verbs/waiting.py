"""Verbs about the end of jobs: ``wait``, ``cancel``."""

from __future__ import annotations

import time
from typing import Any

import click

from syndicate.cli import exits
from syndicate.cli.asking import agreed, asks, yes_option
from syndicate.cli.connection import PATIENCE
from syndicate.cli.following import tell_end
from syndicate.cli.grammar import Verb
from syndicate.cli.listings import JOBS
from syndicate.cli.output import chosen, output_option, show, visible
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB, SPAN
from syndicate.domain.errors import Conflict

#: Seconds that the manager holds back its answer at most.
POLL = 30.0


@click.command(
    cls=Verb,
    examples=(
        "syndicate wait 17                          until it is finished; exits as the job did",
        "syndicate wait 17 18 --timeout 10m         exit code 124 when the time is over",
        "syndicate wait latest --until running",
    ),
)
@click.argument("jobs", type=JOB, nargs=-1, required=True)
@click.option(
    "--until",
    type=click.Choice(["running", "finished", "done"]),
    default="finished",
    help="What to wait for; done is finished.",
)
@click.option("--timeout", type=SPAN, metavar="TIME", help="Give up after so long.")
@output_option
@pass_session
def wait(
    session: Session, jobs: tuple[str, ...], until: str, timeout: float | None, output: str | None
) -> int:
    """Wait for jobs. The exit code is the highest that any of them has."""
    until = "finished" if until == "done" else until
    session.connection.patience = PATIENCE
    deadline = None if timeout is None else time.monotonic() + timeout
    ended = []
    for name in jobs:
        job = _wait_for(session, name, until, deadline)
        if job is None:
            session.say(f"Job {name} is not {until} after {timeout:g} s.")
            return exits.TIMEOUT
        ended.append(job)
        if job["outcome"]:
            tell_end(session, job)
    if output is not None:
        show(session, JOBS, ended, chosen(session, output))
    return max(map(exits.of_job, ended))


def _wait_for(
    session: Session, name: str, until: str, deadline: float | None
) -> dict[str, Any] | None:
    if name == "latest":  # which may be another one later
        name = str(session.job(name)["job"])
    while True:
        left = POLL if deadline is None else max(0.0, min(POLL, deadline - time.monotonic()))
        found = session.connection.get(
            f"/v1/jobs/{name}/wait?until={until}&timeout={left:.3f}", timeout=left + 30
        )
        if found["reached"]:
            job: dict[str, Any] = found["job"]
            return job
        if deadline is not None and time.monotonic() >= deadline:
            return None


@click.command(
    cls=Verb, examples=("syndicate cancel 17", "syndicate cancel 17 18 --yes     without asking")
)
@click.argument("jobs", type=JOB, nargs=-1, required=True)
@yes_option
@output_option
@pass_session
def cancel(session: Session, jobs: tuple[str, ...], yes: bool, output: str | None) -> int:
    """End jobs, whether they wait or run."""
    code = exits.PASSED
    cancelled = []
    for name in jobs:
        if asks(yes):
            job = session.job(name)
            name = str(job["job"])
            if not agreed(f"Cancel job {name} ({visible(job['name'])})?", yes):
                continue
        try:
            job = session.connection.post(f"/v1/jobs/{name}/cancel", {})["job"]
        except Conflict as error:
            session.say(str(error))
            code = exits.FAILED
            continue
        cancelled.append(job)
        words = "is cancelled" if job["state"] == "finished" else "is being cancelled"
        session.say(f"Job {job['job']} {words}.")
    if output is not None:
        show(session, JOBS, cancelled, chosen(session, output))
    return code
