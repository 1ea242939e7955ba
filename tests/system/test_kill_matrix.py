"""Manager, volunteers and users die at chosen steps, and nothing is lost or done twice.

The manager dies twice at each step here; ``make killmatrix`` is thirty times.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syndicate.torture import histories
from syndicate.torture.door import Door
from syndicate.torture.schedule import Asking, Manner, Task
from syndicate.torture.sources import source_of, spec_of
from tests.support.altered import BY_TURNS, STEPS
from tests.support.labs import Running, eventually
from tests.support.tortures import die

pytestmark = [pytest.mark.system, pytest.mark.needs_root]

TIMES = 2 * (len(STEPS) - 1)


@pytest.mark.deadline(480)
def test_a_manager_that_dies_at_each_step_of_its_work_loses_nothing(tmp_path: Path) -> None:
    result = die(tmp_path, BY_TURNS, TIMES)
    assert not result.violations, "\n".join(f"{v.text}\n{v.evidence}" for v in result.violations)
    assert result.counts["daemons that ended by themselves"] >= TIMES
    assert result.counts["jobs that passed"] >= 3


# One blow at a time, on a lab that all tests share.


@pytest.fixture
def door(lab: Running) -> Iterator[Door]:
    """The manager's API."""
    door = Door(lab.lab.description, lab.lab.token)
    yield door
    door.close()


def task(machines: int, lasts: float) -> Task:
    return Task(4, 0.0, Manner.KEEPS, machines, 0, lasts, 50, Asking.ONCE)


def submission(door: Door, machines: int, lasts: float) -> dict[str, Any]:
    of = task(machines, lasts)
    source = source_of(of)
    door.upload(source.data, source.sha256)
    return {"submission": str(uuid.uuid4()), "spec": spec_of(of, source)}


def submit(door: Door, machines: int, lasts: float) -> int:
    number: int = door.post("/v1/jobs", submission(door, machines, lasts))["job"]["job"]
    return number


def ended_once(lab: Running, door: Door, number: int) -> dict[str, Any]:
    """The job, whose events were judged as the torture judges them."""
    job = lab.wait(number, timeout=60)
    assert job["state"] == "finished"
    door.close()  # that to a manager that has died since
    events = door.events(number)
    assert list(histories.judge(job, events)) == []
    return job


@pytest.mark.deadline(120)
def test_a_volunteer_that_dies_while_the_manager_is_down_is_found_out(
    lab: Running, door: Door
) -> None:
    number = submit(door, 3, 4.0)
    job = lab.wait(number, "running")
    victim = job["machines"][1]["volunteer"]
    lab.lab.kill("manager")
    lab.lab.kill(victim)
    lab.lab.launch(victim)
    lab.lab.start("manager")
    job = ended_once(lab, door, number)
    assert (job["outcome"], job["attempt"]) == ("passed", 2), job


@pytest.mark.deadline(120)
def test_a_volunteer_that_dies_with_an_unacknowledged_report_has_one_outcome(
    lab: Running, door: Door
) -> None:
    number = submit(door, 1, 2.0)
    job = lab.wait(number, "running")
    victim = job["machines"][0]["volunteer"]
    outbox = lab.lab.directory / victim / "state" / "outbox"
    # The program ends while the manager does not take anything.
    lab.lab.kill("manager", signal.SIGSTOP)
    time.sleep(3.0)
    lab.lab.kill(victim)
    kept = list(outbox.glob("*.report"))
    lab.lab.launch(victim)
    lab.lab.kill("manager", signal.SIGCONT)
    job = ended_once(lab, door, number)
    assert job["outcome"] == "passed", job
    # Its log did not reach the manager, so there is no report yet and the attempt is lost; were
    # there one, it would count.
    assert job["attempt"] == (1 if kept else 2), (kept, job)
    eventually(lambda: not list(outbox.glob("*.report")))


SUBMITS = """
import json, sys
from pathlib import Path
from syndicate.lab import state
from syndicate.torture.door import Door
door = Door(state.read(Path(sys.argv[1])), sys.argv[2])
door.get("/v1/version")
print("ready", flush=True)
door.post("/v1/jobs", json.loads(sys.stdin.read()))
print("answered", flush=True)
"""


@pytest.mark.deadline(120)
def test_a_user_who_dies_while_submitting_and_asks_again_has_one_job(
    lab: Running, door: Door
) -> None:
    made = []
    for milliseconds in (0, 2, 4, 8, 16, 50):
        wanted = submission(door, 1, 0.1)
        words = [sys.executable, "-c", SUBMITS, str(lab.lab.directory), lab.lab.token]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write(json.dumps(wanted))
            process.stdin.close()
            time.sleep(milliseconds / 1000)
            process.kill()
        before = jobs(door)
        number = door.post("/v1/jobs", wanted)["job"]["job"]
        again = door.post("/v1/jobs", wanted)["job"]["job"]
        assert number == again
        # What was sent first may still have been under way when it was sent again.
        assert jobs(door) | {number} == before | {number}
        made.append(number)
    for number in made:
        assert ended_once(lab, door, number)["outcome"] == "passed"


def jobs(door: Door) -> set[int]:
    return {job["job"] for job in door.get("/v1/jobs?all=1")["jobs"]}
