"""Histories of jobs for the model of the torture, as the API shows them."""

from __future__ import annotations

import json
import time
from typing import Any

from syndicate.domain.events import (
    Finished,
    Finishing,
    JobEvent,
    MachineExited,
    MachineReady,
    MachineRunning,
    Placement,
    Preparing,
    Reserved,
    Running,
    Submitted,
)
from syndicate.domain.job import Job, JobSpec, Outcome, Role
from syndicate.domain.lifecycle import fold
from syndicate.manager.views import event_view, job_view
from syndicate.plain_events import event_to_plain
from syndicate.torture.facts import Ending
from syndicate.torture.schedule import Asking, Manner, Task
from syndicate.torture.witness import proof

BEGAN = 1_700_000_000.0


def task(number: int = 1, manner: Manner = Manner.QUIET) -> Task:
    """A job of one machine."""
    return Task(number, 0.0, manner, 1, 0, 1.0, 0, Asking.ONCE)


def passed(
    number: int, name: str = "torture-1", volunteer: str = "v1", attempt: int = 1
) -> list[JobEvent]:
    """A job of one machine whose attempt ends well."""
    spec = JobSpec(name, "0" * 64, 1)
    return [
        Submitted(number, "ann", spec),
        Reserved(attempt, (Placement(Role.MASTER, 0, volunteer, address(volunteer)),)),
        Preparing(),
        MachineReady("master"),
        Running(),
        MachineRunning("master"),
        MachineExited("master", 0),
        Finishing(Outcome.PASSED, "All well."),
        Finished(Outcome.PASSED, "All well."),
    ]


def address(volunteer: str) -> str:
    """A volunteer's address."""
    return f"10.77.0.{int(volunteer[1:]) + 2}"


def views(
    events: list[JobEvent], began: float = BEGAN
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The job, and its events, as the API shows them; one event a second."""
    job: Job | None = None
    shown = []
    for n, event in enumerate(events, 1):
        job = fold(job, event, began + n)
        shown.append(event_view(job.number, n, event_to_plain(event, began + n, job.attempt)))
    assert job is not None
    # As it comes over the network.
    return json.loads(
        json.dumps(job_view(job, None, job.reason, lambda machine: machine.log_bytes))
    ), json.loads(json.dumps(shown))


def said(
    of: Task,
    job: int,
    attempt: int = 1,
    machine: str = "master",
    at: str = "10.77.0.3",
    began: float = BEGAN + 6,
) -> bytes:
    """What a witness prints within a second."""
    facts = {"job": job, "attempt": attempt, "machine": machine, "address": at, "uid": 20000}
    words = [f"start {json.dumps(facts)}", *("beat " for _ in range(4)), "end 0"]
    return "".join(
        f"W {n} {proof(of.number, machine, n)} {began + n / 10:.6f} {what}\n"
        for n, what in enumerate(words)
    ).encode()


def ending(of: Task, number: int = 1, volunteer: str = "v1", began: float = BEGAN) -> Ending:
    """A job of one machine that has ended well, all about it as it should be."""
    job, events = views(passed(number, of.name, volunteer), began)
    output = said(of, number, at=address(volunteer), began=began + 6)
    return Ending(job, tuple(events), (), {"attempt-1/master.out": output})


def now() -> float:
    """The present, for sightings."""
    return time.time()
