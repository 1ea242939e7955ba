"""A cluster of real daemons whose manager has a disk without room: nothing is lost, all goes on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from syndicate.lab import Lab
from tests.support.labs import Running, eventually, keeping_daemons
from tests.support.manager_daemon import manage
from tests.support.tiny_disk import fill, tiny_disk

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(180)]

#: Prints until it is told that the disk is full, then some more, and leaves a file.
COUNTING = """
master:
\t@for n in $$(seq 1 150); do echo line $$n; sleep 0.1; done; echo done > result.txt
slave:
\t@true
"""
JOB = 'name = "counting"\nsource = "."\nmachines = 1\noutputs = ["result.txt"]\n'
LINES = 150


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A lab whose manager's state is on a disk of 32 MiB, 2 of which are reserved."""
    directory = tmp_path_factory.mktemp("lab")
    directory.chmod(0o755)
    with tiny_disk(directory / "disk", 32 << 20) as disk:
        lab = Lab("storelab", directory / "state")
        lab.up(2)

        try:
            with keeping_daemons(lab):
                _move_state(lab, disk / "state")
                running = Running(lab, directory)
                eventually(lambda: len(running.volunteers()) == 2 and running.all_free())
                yield running
        finally:
            lab.down()


def _move_state(lab: Lab, state: Path) -> None:
    """As an operator would: a backup, restored elsewhere."""
    config = lab.directory / "manager/manager.toml"
    copy = lab.directory.parent / "copy.tar"
    for words in (
        ("backup", "-c", config, copy),
        ("restore", "--state", state, copy),
    ):
        done = manage(*words)
        assert done.code == 0, done
    told = config.read_text().replace(str(lab.directory / "manager/state"), str(state))
    config.write_text(told + '\n[storage]\nreserve = "2M"\n[history]\njobs = 1\n')
    lab.restart("manager")


def disk_of(lab: Running) -> Path:
    return lab.directory / "disk"


def lines_of(lab: Running, number: int) -> list[str]:
    done = lab.run("logs", str(number), "-o", "jsonl")
    assert done.code == 0, done
    return [json.loads(line)["line"] for line in done.out.splitlines()]


@pytest.mark.parametrize("leave", [1 << 20, 0], ids=["the reserve is left", "nothing is left"])
def test_a_job_that_runs_while_the_managers_disk_is_full_loses_nothing(
    cramped: Running, leave: int
) -> None:
    lab = cramped
    source = lab.source(COUNTING, **{"job.toml": JOB})
    number = int(lab.run("submit", str(source / "job.toml"), "-o", "id").out)
    other = lab.source("master slave:\n\t@echo I am another\n")
    eventually(lambda: lines_of(lab, number))
    filler = fill(disk_of(lab), leave=leave)
    refused = lab.run("submit", str(other), "-n", "1")
    assert refused.code == 75, refused
    assert "room" in refused.err or "full" in refused.err
    before = len(lines_of(lab, number))
    assert before < LINES
    status = lab.run("status", "-o", "json").json()["store"]
    assert status["refuses"]
    # It prints on, and ends: all of that waits at the volunteer.
    eventually(lambda: lab.job(number)["machines"][0]["state"] == "running")
    assert lab.job(number)["state"] == "running"
    filler.unlink()
    job = lab.wait(number, timeout=90)
    assert job["outcome"] == "passed", job
    assert lines_of(lab, number) == [f"line {n}" for n in range(1, LINES + 1)]
    assert job["machines"][0]["outputs"]
    eventually(lab.all_free)
    after = lab.wait(lab.submit(other, 1))
    assert after["outcome"] == "passed", after


def archived(lab: Running, number: int) -> bool:
    database = sqlite3.connect(f"file:{disk_of(lab)}/state/state.db?mode=ro", uri=True)
    try:
        found = database.execute(
            "SELECT 1 FROM archive WHERE kind = 'job' AND key = ?", (f"{number:016x}",)
        ).fetchone()
    finally:
        database.close()
    return found is not None


def test_jobs_in_the_archive_are_shown_and_fetched_as_before(
    cramped: Running, tmp_path: Path
) -> None:
    lab = cramped
    source = lab.source(
        "master:\n\t@echo I was here; echo done > result.txt\nslave:\n", **{"job.toml": JOB}
    )
    number = int(lab.run("submit", str(source / "job.toml"), "-o", "id").out)
    assert lab.wait(number)["outcome"] == "passed"
    last = lab.submit(lab.source("master slave:\n\t@true\n"), 1)
    before, _ = lab.job(number), lab.wait(last)
    # Of a job that has just ended something may still be on its way: those stay for a while.
    eventually(lambda: archived(lab, number), 90)
    lab.lab.kill("manager")
    lab.lab.start("manager")
    eventually(lambda: lab.run("version").code == 0 and lab.run("queue").code == 0)
    assert lab.job(number) == before
    assert lines_of(lab, number) == ["I was here"]
    everything = lab.run("queue", "--all", "-o", "json").json()
    assert [job["job"] for job in everything][-2:] == [number, last]
    fetched = lab.run("fetch", str(number), "-d", str(tmp_path / "out"))
    assert fetched.code == 0, fetched
    assert [path.read_text() for path in tmp_path.rglob("result.txt")] == ["done\n"]
    again = lab.wait(lab.submit(lab.source("master slave:\n\t@true\n"), 1))
    assert again["job"] == last + 1
