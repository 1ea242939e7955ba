"""``syndicate report``, and what ``syndicate fetch`` brings of faults and measurements, against a
manager that answers as the JSON API says.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support.commands import Commands
from tests.support.fake_manager import START, FakeManager, at, fault, finished, job, machine

BEGAN = START.timestamp()


@pytest.fixture(autouse=True)
def manager(fake_manager: FakeManager) -> FakeManager:
    """A manager with one job that had a fault, that the environment names."""
    server = fake_manager
    said = {"passed": True, "score": 97.5, "notes": "fine"}
    machines = [
        machine("master", state="killed"),
        machine("client[0]", state="exited", exit_code=0, result=said),
    ]
    server.jobs[1] = job(1, **finished(attempt=2, machines=machines))
    server.events[1] = [
        {"n": n, "at": at(1), "attempt": 2, "machine": name, "kind": "machine-running", "text": ""}
        for n, name in enumerate(("master", "client[0]"), 1)
    ]
    server.faults[1] = [fault(1, "kill", 1.5, 2.5), fault(2, "revive", 2.5, None)]
    server.samples[1] = [
        *(f"1,client[0],{BEGAN + 1},put,100,true" for _ in range(3)),
        f"2,client[0],{BEGAN + 1.2},put,10,true",
        f"2,client[0],{BEGAN + 1.6},put,100,false",
        f"2,client[0],{BEGAN + 2.6},put,20,true",
        "2,client[0],cut off",
    ]
    return server


def test_a_report_has_every_form_for_programs(syndicate: Commands) -> None:
    assert syndicate("report", "1", "-o", "id").out == "1\n"
    (line,) = syndicate("report", "1", "-o", "jsonl").out.splitlines()
    assert json.loads(line) == json.loads(syndicate("report", "1", "-o", "json").out)
    rows = list(csv.DictReader(io.StringIO(syndicate("report", "1", "-o", "csv").out)))
    assert [(row["fault"], row["op"], row["count"], row["errors"]) for row in rows] == [
        ("", "put", "3", "1"),
        ("f1", "put", "1", "1"),
    ]
    assert rows[0]["p50"] == "15.0"


def test_a_report_tells_people_what_came_of_a_job(syndicate: Commands) -> None:
    ended = syndicate("report", "1")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0][:7] == ["Job", "1", "(wordcount)", "of", "ann:", "passed", "after"]
    assert ["client[0]", "v2", "10.77.0.3"] in [line[:3] for line in lines]
    assert "f2     revive, disk emptied" in ended.out
    assert ["f1", "kill", "master", "put", "1", "1"] in lines
    assert ["the", "whole", "job", "put", "3", "1"] in [line[:6] for line in lines]
    assert "1 lines of the samples could not be read." in ended.out
    assert "no process left" not in ended.out
    assert "no process left" in syndicate("report", "latest", "-o", "wide").out


def test_a_report_comes_as_json(syndicate: Commands) -> None:
    ended = syndicate("report", "1", "-o", "json")
    told = json.loads(ended.out)
    assert (told["job"], told["outcome"], told["attempt"]) == (1, "passed", 2)
    assert told["machines"][1]["result"] == {"passed": True, "score": 97.5, "notes": "fine"}
    assert (told["samples"], told["unreadable"]) == (3, 1)
    aftermath = told["faults"][0]["aftermath"]
    assert aftermath["errors"] == 1
    assert aftermath["first_error"] == pytest.approx(0.2, abs=1e-5)
    assert aftermath["recovery"] == pytest.approx(1.12, abs=1e-5)
    assert told["faults"][1]["aftermath"] is None


def test_a_report_outlasts_a_stream_that_breaks_off(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.break_streams = 1
    told = json.loads(syndicate("report", "1", "-o", "json").out)
    assert (told["samples"], manager.break_streams) == (3, 0)


def test_a_report_of_a_job_that_runs_says_that_it_does(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs[1].update(state="running", outcome=None, finished_at=None)
    ended = syndicate("report", "1")
    assert ended.code == 0
    assert ended.err == "Job 1 is still running: this is what there is so far.\n"


def test_a_report_of_a_job_without_faults_and_samples_is_short(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.faults.clear()
    manager.samples.clear()
    ended = syndicate("report", "1")
    assert ended.code == 0
    assert "No client has measured anything." in ended.out
    assert "FAULT" not in ended.out


@pytest.mark.parametrize(
    ("words", "code"), [(("1", "-o", "xml"), 2), (("2",), 3), (("no such",), 2)]
)
def test_what_cannot_be_reported_is_told(
    syndicate: Commands, words: tuple[str, ...], code: int
) -> None:
    ended = syndicate("report", *words)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err


def test_the_folder_of_a_job_has_its_faults_samples_machines_and_result(
    syndicate: Commands, manager: FakeManager, tmp_path: Path
) -> None:
    manager.break_streams = 1  # the samples are asked for again
    assert syndicate("fetch", "1").code == 0
    top = tmp_path / "job-1"
    lines = (top / "faults.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == manager.faults[1]
    samples = (top / "samples.csv").read_text().splitlines()
    assert samples == ["attempt,machine,t,op,ms,ok", *manager.samples[1]]
    assert json.loads((top / "machines.json").read_text()) == manager.jobs[1]["machines"]
    result = json.loads((top / "result.json").read_text())
    assert result["outcome"] == "passed"
    assert [client["machine"] for client in result["clients"]] == ["client[0]"]
