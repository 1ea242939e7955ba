"""A report as a whole, from what the JSON API tells of a job."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from syndicate.cli.output import STYLES, visible
from syndicate.cli.verbs.fault import FAULTS
from syndicate.domain.fault import UNDONE_BY, FaultState, Kind
from syndicate.report import folder
from syndicate.report.build import build
from syndicate.report.figures import Aftermath, Figures
from syndicate.report.moments import epoch, timestamp
from syndicate.report.render import render
from syndicate.report.samples import read_samples
from syndicate.report.values import FaultReport, MachineReport, Mark, Report, Result, to_plain

#: When the job of these tests began; its seconds are counted from here.
START = 1_900_000_000.0


def at(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(START + seconds)


def machine(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "machine": name,
        "role": name.partition("[")[0],
        "volunteer": "v1",
        "address": "10.0.0.2",
        "state": "killed",
        "exit_code": None,
        "signal": None,
        "limit": None,
        "reason": "",
        "result": None,
        "log_bytes": 3,
        "outputs": None,
        **changes,
    }


def job(**changes: Any) -> dict[str, Any]:
    said = {"passed": True, "score": 97.5, "notes": "fine"}
    return {
        "job": 17,
        "name": "kvstore",
        "user": "ann",
        "state": "finished",
        "outcome": "passed",
        "limit": None,
        "reason": "All clients have passed.",
        "attempt": 2,
        "seed": 5,
        "submitted_at": at(-10),
        "started_at": at(0),
        "finished_at": at(30),
        "machines": [
            machine("master"),
            machine("slave[0]", state="exited", exit_code=3),
            machine("client[0]", state="exited", exit_code=0, result=said),
        ],
        **changes,
    }


def fault(number: int, kind: str, applied: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"f{number}",
        "job": 17,
        "attempt": 2,
        "kind": kind,
        "machines": ["slave[0]"],
        "by": "client[0]",
        "state": "verified",
        "with_disk": True if kind == "revive" else None,
        "requested_at": at(None if applied is None else applied - 0.01),
        "applied_at": at(applied),
        "verified_at": at(None if applied is None else applied + 0.002),
        "healed_at": None,
        "note": "",
        **changes,
    }


EVENTS = [
    {"kind": "machine-running", "at": at(-9), "attempt": 1, "machine": "master"},
    {"kind": "machine-running", "at": at(0), "attempt": 2, "machine": "master"},
    {"kind": "machine-running", "at": at(0), "attempt": 2, "machine": "slave[0]"},
    {
        "kind": "mark",
        "at": at(1),
        "attempt": 2,
        "machine": None,
        "by": "client[0]",
        "name": "begin",
    },
    {"kind": "machine-revived", "at": at(9), "attempt": 2, "machine": "slave[0]"},
]


def made(*faults: dict[str, Any], rows: str = "", **changes: Any) -> Report:
    """A report; each row of the samples is ``seconds op ms ok``."""
    lines = ["attempt,machine,t,op,ms,ok"]
    for row in rows.split("\n"):
        if row.strip():
            t, op, ms, ok = row.split()
            lines.append(f"2,client[0],{START + float(t)},{op},{ms},{ok}")
    data = "\n".join(lines).encode()
    return build(job(**changes), EVENTS, faults, read_samples([data], 2))


ROWS = """
    1   put 2 true
    5.1 put 400 false
    6   put 3 true
    9.5 put 2 false
    10  put 2 true
    20  put 2 false
    25  get 1 true
"""


def only(report: Report) -> FaultReport:
    (found,) = report.faults
    return found


def test_machines_are_told_with_how_they_ended() -> None:
    report = made()
    assert [(m.machine, m.state, m.outcome, m.starts) for m in report.machines] == [
        ("master", "killed", "stopped", 1),
        ("slave[0]", "exited", "exit code 3", 2),
        ("client[0]", "exited", "exit code 0", 0),
    ]
    result = report.machines[2].result
    assert result is not None
    assert (result.passed, result.score, result.notes) == (True, 97.5, "fine")
    assert [(mark.at - START, mark.by, mark.name) for mark in report.marks] == [
        (1.0, "client[0]", "begin")
    ]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"limit": "memory", "signal": 9}, "over memory"),
        ({"state": "exited", "signal": 11}, "signal 11"),
        ({"state": "exited", "exit_code": 0}, "exit code 0"),
        ({"state": "killed"}, "stopped"),
        ({"state": "lost"}, "lost"),
        ({"state": "running"}, "running"),
    ],
)
def test_an_outcome_is_a_few_words(changes: dict[str, Any], outcome: str) -> None:
    report = made(machines=[machine("slave[0]", **changes)])
    assert report.machines[0].outcome == outcome


def test_a_window_goes_from_application_to_healing() -> None:
    found = only(made(fault(1, "kill", 5.0, healed_at=at(9.0), state="healed"), rows=ROWS))
    assert found.window == (START + 5, START + 9)
    assert [(f.op, f.count, f.errors) for f in found.operations] == [("put", 2, 1)]


def test_what_follows_is_counted_until_another_fault_is_applied() -> None:
    first = fault(1, "kill", 5.0, healed_at=at(9.0), state="healed")
    later = fault(2, "disconnect", 15.0, healed_at=at(22.0), state="healed")
    report = made(first, later, rows=ROWS)
    one, two = report.faults
    assert one.reach == pytest.approx(9.99)
    assert one.aftermath is not None
    assert (one.aftermath.errors, two.aftermath and two.aftermath.errors) == (2, 1)
    assert one.aftermath.first_error == pytest.approx(0.5)
    assert one.aftermath.recovery == pytest.approx(5.002)
    assert two.aftermath is not None
    assert two.aftermath.first_error == pytest.approx(5.002)
    # Whatever went well, of any kind, tells that the service is there.
    assert two.aftermath.recovery == pytest.approx(10.001)


def test_what_shows_while_a_fault_is_being_applied_is_its_own() -> None:
    first = fault(1, "kill", 5.0, healed_at=at(6.0), state="healed")
    report = made(first, fault(2, "kill", 6.5), rows="6.4935 put 1 false\n11 put 1 true")
    one, two = (found.aftermath for found in report.faults)
    assert one is not None
    assert two is not None
    assert (one.errors, two.errors, two.first_error) == (0, 1, 0.0)


def test_two_faults_at_once_both_answer_for_the_errors() -> None:
    faults = [fault(n, "kill", 5.0 + n / 10, healed_at=at(9.0)) for n in (0, 1)]
    report = made(*faults, rows=ROWS)
    assert [f.aftermath and f.aftermath.errors for f in report.faults] == [3, 3]


def test_without_a_recovery_there_is_none() -> None:
    found = only(made(fault(1, "kill", 15.0), rows="20 put 1 false\n21 put 1 false"))
    assert found.aftermath is not None
    assert found.aftermath.recovery is None
    assert found.aftermath.outage == pytest.approx(6.011)


def test_a_fault_that_was_never_healed_lasts_to_the_end_of_the_measurements() -> None:
    found = only(made(fault(1, "disconnect", 5.0), rows=ROWS))
    assert found.window is not None
    assert found.window[1] == pytest.approx(START + 25.001, abs=1e-5)
    without = only(made(fault(1, "disconnect", 5.0)))
    assert without.window == (START + 5, START + 30)
    assert without.aftermath is None
    assert only(made(fault(1, "disconnect", 5.0), state="running", finished_at=None)).window is None


def test_a_fault_that_does_not_say_when_it_was_healed_is_by_what_undoes_it() -> None:
    other = fault(2, "revive", 7.0, machines=["slave[1]"])
    report = made(fault(1, "kill", 5.0), other, fault(3, "revive", 8.0), rows=ROWS)
    assert report.faults[0].window == (START + 5, START + 8)


@pytest.mark.parametrize("kind", list(Kind))
def test_only_what_lasts_has_a_window(kind: Kind) -> None:
    found = only(made(fault(1, kind.value, 5.0, healed_at=at(6)), rows=ROWS))
    assert (found.window is not None) == (kind in UNDONE_BY)


@pytest.mark.parametrize("state", list(FaultState))
def test_only_what_may_have_been_in_force_has_a_window(state: FaultState) -> None:
    found = only(made(fault(1, "kill", 5.0, state=state.value), rows=ROWS))
    wanted = state in (FaultState.VERIFIED, FaultState.HEALED, FaultState.UNKNOWN)
    assert (found.window is not None) == wanted


def test_faults_of_earlier_attempts_are_not_told() -> None:
    assert made(fault(1, "kill", 5.0, attempt=1)).faults == ()


def test_the_plain_form_is_json_with_times_in_utc() -> None:
    report = made(fault(1, "kill", 5.0, healed_at=at(9.0)), fault(2, "revive", 9.0), rows=ROWS)
    plain = json.loads(json.dumps(to_plain(report)))
    assert plain["outcome"] == "passed"
    assert plain["seconds"] == 30.0
    assert plain["started_at"] == at(0)
    kill, revive = plain["faults"]
    assert (kill["fault"], kill["machines"], kill["applied_at"]) == ("f1", ["slave[0]"], at(5.0))
    assert kill["window"] == [at(5.0), at(9.0)]
    assert kill["operations"][0]["op"] == "put"
    assert kill["aftermath"]["errors"] == 3
    assert (revive["with_disk"], revive["window"], revive["aftermath"]) == (True, None, None)
    assert plain["machines"][2]["result"] == {"passed": True, "score": 97.5, "notes": "fine"}
    assert plain["marks"] == [{"at": at(1), "by": "client[0]", "name": "begin"}]
    assert [found["op"] for found in plain["operations"]] == ["get", "put"]


def test_times_are_the_same_in_both_forms() -> None:
    assert epoch("2030-05-01T12:00:00.250000Z") == 1903867200.25
    assert timestamp(epoch("2030-05-01T12:00:00.250000Z")) == "2030-05-01T12:00:00.250000Z"
    assert epoch(5.5) == 5.5
    assert epoch(None) is None
    assert timestamp(None) is None


def test_the_page_on_results_names_every_key_and_column() -> None:
    page = (Path(__file__).parents[2] / "doc" / "results.rst").read_text("utf-8")
    kinds: list[type[Any]] = [Report, MachineReport, FaultReport, Mark, Result, Figures, Aftermath]
    for kind in kinds:
        for field in attrs.fields(kind):
            if kind is not Report or field.name in ("machines", "faults", "marks", "samples"):
                assert f"``{field.name}``" in page, field.name
    for title in ("COUNT", "ERRORS", "P50", "P99", "SLOWEST", "FIRST ERROR", "RECOVERY", "OUTAGE"):
        assert title in page
    for lasting in UNDONE_BY:
        assert f"``{lasting.value}``" in page
    for file in (folder.FAULTS, folder.SAMPLES, folder.MACHINES, folder.RESULT):
        assert f"``{file}``" in page


def printed(report: Report, width: int = 200, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in render(report, shown=visible, styles=STYLES, **options):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_people_see_verdict_machines_faults_and_figures() -> None:
    report = made(
        fault(1, "kill", 5.0, healed_at=at(9.0), state="healed", note="no process left"),
        fault(2, "revive", 9.0),
        rows=ROWS,
    )
    text = printed(report)
    assert "Job 17 (kvstore) of ann: passed after 30s\nAll clients have passed." in text
    assert "passed, score 97.5: fine" in text
    lines = [line.split() for line in text.splitlines()]
    assert next(line for line in lines if line[:1] == ["f1"])[:8] == [
        "f1",
        "kill",
        "slave[0]",
        "client[0]",
        "healed",
        "+5.00s",
        "10ms",
        "12ms",
    ]
    assert any(line[:4] == ["f1", "kill", "slave[0]", "put"] for line in lines)
    assert any(line[:4] == ["the", "whole", "job", "get"] for line in lines)
    assert "revive, disk kept" in text
    assert "no process left" not in text
    wide = printed(report, wide=True)
    assert "no process left" in wide
    assert "client[0] marks: begin" in wide


def test_what_proved_a_fault_is_told_when_it_is_over_too() -> None:
    healed = {"healed_at": at(9.0), "state": "healed"}
    report = made(
        fault(1, "kill", 5.0, note="no process left", ended="by f2", **healed),
        fault(2, "revive", 9.0, note="a process runs"),
        fault(3, "loss", 9.0, ended="with the attempt", **healed),
    )
    assert [found.ended for found in report.faults] == ["by f2", None, "with the attempt"]
    text = printed(report, width=200, wide=True)
    for line in (
        "f1: no process left; healed, by f2",
        "f2: a process runs",
        "f3: healed, with the attempt",
    ):
        assert f"  {line}\n" in text


def test_nothing_of_a_report_is_cut_short_where_a_terminal_is_narrow() -> None:
    report = made(
        fault(11, "kill", 5.0, healed_at=at(9.0), state="healed", machines=["slave[10]"]),
        fault(12, "revive", 9.0, with_disk=False, machines=["slave[10]"]),
        fault(13, "disconnect", 9.5, healed_at=at(9.9), state="healed"),
        rows=ROWS,
    )
    broad = printed(report, width=200)
    for width, gap in ((88, 2), (80, 1)):
        narrow = printed(report, width=width, gap=gap)
        assert sorted(narrow.split()) == sorted(broad.split())
        assert max(map(len, narrow.splitlines())) <= width


def test_spans_are_told_in_one_style_and_count_as_the_list_of_faults_counts_them() -> None:
    kill = fault(1, "kill", 5.0, healed_at=at(9.0), state="healed")
    text = printed(made(kill, rows=ROWS), width=200)
    assert re.search(r"\+5\.00s +10ms +12ms +4s\n", text)
    assert not re.search(r"\d ms", text)
    titles = ("APPLIED", "VERIFIED", "HEALED")
    listed = [column.text(kill) for column in FAULTS.columns if column.title in titles]
    assert listed == ["10ms", "12ms", "4.01s"]


def test_people_see_that_a_client_did_not_finish_and_that_nothing_was_measured() -> None:
    text = printed(made(machines=[machine("client[0]", state="exited", exit_code=1)]))
    assert "no finish" in text
    assert "No client has measured anything." in text


def test_text_of_jobs_gives_no_orders_to_the_terminal() -> None:
    said = {"passed": False, "score": None, "notes": "\x1b[2Jgone\n\x07"}
    report = made(
        fault(1, "kill", 5.0, note="\x1b]0;evil\x07"),
        rows="6 \x1b[31mput 1 true",
        machines=[machine("client[0]", result=said)],
        name="\x1b[5m",
    )
    text = printed(report, wide=True)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "␛[2Jgone" in text


def test_the_folder_has_faults_machines_and_the_result() -> None:
    files = {name: io.StringIO() for name in (folder.FAULTS, folder.MACHINES, folder.RESULT)}
    faults = [fault(1, "kill", 5.0), fault(2, "revive", 9.0)]
    folder.write_faults(files[folder.FAULTS], faults)
    record = job(machines=[machine("master"), machine("client[0]"), *job()["machines"][2:]])
    folder.write_machines(files[folder.MACHINES], record)
    folder.write_result(files[folder.RESULT], record)
    lines = files[folder.FAULTS].getvalue().splitlines()
    assert [json.loads(line) for line in lines] == faults
    assert json.loads(files[folder.MACHINES].getvalue()) == record["machines"]
    result = json.loads(files[folder.RESULT].getvalue())
    assert (result["outcome"], result["seed"]) == ("passed", 5)
    silent = {"finished": False, "passed": False, "score": None, "notes": ""}
    assert result["clients"] == [
        {"machine": "client[0]", **silent},
        {"machine": "client[0]", "finished": True, "passed": True, "score": 97.5, "notes": "fine"},
    ]
