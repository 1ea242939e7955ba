"""What `make demo` does, and that nothing is left of it however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syndicate.lab import Lab, leftovers

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "scripts/demo"
LAB = ROOT / ".demo"

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]


@pytest.fixture(autouse=True)
def end_what_is_left() -> Iterator[None]:
    yield
    Lab("demo", LAB).down()


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [DEMO],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    said = ""
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def leaves_nothing(said: str) -> bool:
    return "Nothing is left" in said and not LAB.exists() and not leftovers.claims_of(LAB)


def test_the_demo_runs_its_job_and_leaves_nothing() -> None:
    with start() as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "Job 1 passed" in said
    assert "agrees          true" in said
    assert said.count("exited  0") == 6
    assert "Job 2 passed" in said
    for done in (
        *("kill of slave[0]", "revive of slave[0]", "kill of slave[1]", "revive of slave[1]"),
        *("disconnect of slave[0]", "reconnect of slave[0]", "disconnect of master"),
    ):
        assert re.search(rf"f\d+ {re.escape(done)} by client\[0\] verified", said), done
    assert said.count("passed, score") >= 2  # both clients, in the report
    assert re.search(r"f1 kill slave\[0\] +put +\d+", said)
    assert re.search(r"faults\.jsonl +[\d,]+ bytes", said)
    assert leaves_nothing(said)


def test_an_interrupted_demo_takes_its_lab_down() -> None:
    with start() as process:
        read_until(process, "waiting for 5 slaves")
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)  # by somebody impatient
        said, _ = process.communicate()
    assert process.returncode == 130, said
    assert leaves_nothing(said)


def test_what_a_killed_demo_leaves_is_taken_away_by_the_next_which_runs() -> None:
    with start() as process:
        read_until(process, "waiting for 5 slaves")
        process.kill()
    assert LAB.exists()
    with start() as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "A former demo was cut short" in said
    assert leaves_nothing(said)


def test_two_demos_do_not_run_in_one_checkout_at_once() -> None:
    with start() as process:
        read_until(process, "waiting for 5 slaves")
        second = subprocess.run([DEMO], capture_output=True, text=True, check=False)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate()
    assert second.returncode == 75
    assert "Another demo runs" in second.stdout
    assert leaves_nothing(said)
