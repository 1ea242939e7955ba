"""The command line against a manager that answers as the JSON API says, over real HTTPS."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Commands
from tests.support.fake_manager import FakeManager, at, finished, job, machine, serving, volunteer

MAKEFILE = "master:\n\ttrue\nslave:\n\ttrue\n"
PASSED = [
    {"n": 2, "kind": "reserved", "text": "Reserved v1, v2.", "machine": None},
    {"n": 3, "kind": "machine-ready", "text": "master is ready.", "machine": "master"},
    {"n": 4, "kind": "running", "text": "All machines run.", "machine": None},
    {"n": 5, "kind": "machine-exited", "text": "master ended.", "machine": "master"},
    {"n": 6, "kind": "finished", "text": "Passed.", "machine": None},
]


@pytest.fixture
def manager(fake_manager: FakeManager) -> FakeManager:
    return fake_manager


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "wordcount"
    top.mkdir()
    (top / "Makefile").write_text(MAKEFILE)
    return top


def ends(manager: FakeManager, outcome: str = "passed", **changes: Any) -> None:
    """Have every job that is submitted end so, after it has printed two lines."""

    def end(record: dict[str, Any]) -> None:
        number = record["job"]
        manager.events[number] = PASSED
        manager.lines[number] = [line("master", "hello"), line("slave[0]", "there", "err", 1)]
        record.update(finished(outcome, **changes))

    manager.on_submit = end


def line(name: str, text: str, stream: str = "out", seconds: float = 0, **changes: Any) -> Any:
    told = {"at": at(seconds), "machine": name, "stream": stream, "line": text, "partial": False}
    return {**told, **changes}


# -- submit


def test_submitting_a_directory_prints_the_number_and_nothing_else(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    ended = syndicate("submit", str(source), "-n", "3", "--wall", "10m", "--memory", "512M")
    assert (ended.code, ended.out) == (0, "1\n")
    assert "Job 1 (wordcount, 3 machines) is queued" in ended.err
    posted = next(json.loads(seen.body) for seen in manager.seen if seen.method == "POST")
    spec = posted["spec"]
    assert spec["machines"] == 3
    assert spec["limits"] == {"wall": 600.0, "memory": 512 << 20}
    with tarfile.open(fileobj=io.BytesIO(manager.blobs[spec["sha256"]])) as tar:
        assert tar.getnames() == ["Makefile"]


def test_a_source_that_the_manager_has_is_not_sent_again(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    syndicate("submit", str(source))
    syndicate("submit", str(source))
    assert [seen.method for seen in manager.seen] == ["HEAD", "PUT", "POST", "HEAD", "POST"]


def test_an_upload_that_breaks_off_goes_on_where_it_was(
    syndicate: Commands, manager: FakeManager, tmp_path: Path
) -> None:
    tarball = tmp_path / "big.tar"
    tarball.write_bytes(os.urandom(3 << 20))
    manager.break_next_upload = True
    ended = syndicate("submit", str(tarball))
    assert (ended.code, ended.out) == (0, "1\n")
    put = next(seen for seen in manager.seen if seen.method == "PUT")
    assert int(put.headers["X-Syndicate-Offset"]) > 0
    (sent,) = manager.blobs.values()
    assert sent == tarball.read_bytes()


def test_a_submission_whose_answer_was_lost_makes_one_job(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    syndicate("submit", str(source))
    manager.break_on = "POST"
    ended = syndicate("submit", str(source), "-o", "id")
    assert (ended.code, ended.out) == (0, "2\n")
    assert sorted(manager.jobs) == [1, 2]
    posts = [json.loads(seen.body) for seen in manager.seen if seen.method == "POST"]
    assert len(posts) == 3
    assert posts[1] == posts[2]


def test_following_prints_the_output_and_exits_as_the_job_does(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    ends(manager, "failed", reason="slave[0] ended with exit code 2.")
    ended = syndicate("submit", str(source), "-n", "2", "--follow")
    assert ended.code == 1
    assert ended.out == "master   | hello\nslave[0] | there\n"
    assert "All machines run." in ended.err
    assert "master is ready." not in ended.err
    assert ended.err.splitlines()[-1] == (
        "Job 1 failed after 2.5s: slave[0] ended with exit code 2."
    )


@pytest.mark.parametrize(
    ("outcome", "limit", "code"),
    [
        ("passed", None, 0),
        ("failed", None, 1),
        ("failed", "memory", 5),
        ("timed out", "wall", 5),
        ("cancelled", None, 5),
        ("lost", None, 5),
        ("refused", None, 5),
    ],
)
def test_every_outcome_has_its_exit_code(
    syndicate: Commands,
    manager: FakeManager,
    source: Path,
    outcome: str,
    limit: str | None,
    code: int,
) -> None:
    ends(manager, outcome, limit=limit)
    assert syndicate("run", str(source)).code == code
    assert syndicate("submit", str(source), "--wait").code == code
    assert syndicate("wait", "1").code == code


def test_waiting_prints_the_job_as_it_ended(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    ends(manager)
    ended = syndicate("submit", str(source), "--wait", "-o", "json")
    assert json.loads(ended.out)["outcome"] == "passed"
    assert syndicate("submit", str(source), "--wait", "-o", "id").out == "2\n"


def test_a_job_file_is_checked_before_anything_is_sent(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    (source / "job.toml").write_text('machines = 0\n[limits]\nmemry = "1G"\n')
    ended = syndicate("submit", str(source))
    assert (ended.code, ended.out, manager.seen) == (2, "", [])
    assert "machines: 0 is less than 1" in ended.err
    assert "limits.memry: no such key; did you mean 'memory'?" in ended.err


def test_a_dry_run_sends_no_source_and_makes_no_job(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    manager.volunteers = [volunteer("v1"), volunteer("v2")]
    ended = syndicate("submit", str(source), "-n", "2", "--dry-run")
    assert (ended.code, ended.out) == (0, "v1\nv2\n")
    assert syndicate("submit", str(source), "-n", "3", "--dry-run").code == 75
    assert not manager.jobs
    assert not manager.blobs


def test_a_job_that_is_not_to_wait_is_refused_when_it_would(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    ended = syndicate("submit", str(source), "--no-wait")
    assert (ended.code, ended.out) == (75, "")
    assert "The job would wait." in ended.err


def test_resubmitting_sends_the_same_spec(syndicate: Commands, manager: FakeManager) -> None:
    manager.jobs[1] = job(1, **finished(), env={"A": "1"})
    assert syndicate("resubmit", "1", "-o", "id").out == "2\n"
    posted = json.loads(manager.seen[-1].body)["spec"]
    assert posted["sha256"] == "ab" * 32
    assert posted["machines"] == 3
    assert posted["env"] == {"A": "1"}
    assert posted["seed"] == 0
    syndicate("resubmit", "1", "--seed", "new")
    assert json.loads(manager.seen[-1].body)["spec"]["seed"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "0"], "machines: 0 is less than 1"),
        (["-n", "many"], "'many' is not a valid integer"),
        (["--memory", "1 Gig"], "'1 Gig' is not a size"),
        (["--wall", "soon"], "'soon' is not a time"),
        (["--set", "machines"], "'machines' is not KEY=VALUE"),
        (["--wiat"], "No such option '--wiat'"),
        (["-f", "-o", "json"], "there is no -o with it"),
        (["-n", "3", "--set", "machines=abc"], "--set machines and --machines say the same"),
        (["--set", "limits.output=1K", "--output-limit", "2K"], "and --output-limit say the"),
    ],
)
def test_wrong_use_is_told_and_sends_nothing(
    syndicate: Commands, manager: FakeManager, source: Path, words: list[str], said: str
) -> None:
    ended = syndicate("submit", str(source), *words)
    assert (ended.code, ended.out, manager.seen) == (2, "", [])
    assert said in ended.err


# -- looking


@pytest.fixture
def three_jobs(manager: FakeManager) -> None:
    manager.jobs = {
        1: job(1, **finished("passed")),
        2: job(2, state="running", started_at=at(1), machines=[machine("master")]),
        3: job(3, name="näme, \x1b[31mred", user="bob", position=1),
    }


@pytest.mark.usefixtures("three_jobs")
def test_the_queue_comes_in_every_form(syndicate: Commands) -> None:
    table = syndicate("queue").out
    assert table.splitlines()[0].split() == [
        *("JOB", "NAME", "USER", "STATE", "MACHINES", "PLACE", "AGE", "RAN", "WHY")
    ]
    assert [row.split()[0] for row in table.splitlines()[1:]] == ["2", "3"]
    assert "\x1b" not in table
    assert "näme, ␛[31mred" in table
    assert "SOURCE" in syndicate("queue", "-o", "wide").out
    assert syndicate("q", "--all", "-o", "id").out == "1\n2\n3\n"
    assert [each["job"] for each in json.loads(syndicate("queue", "-o", "json").out)] == [2, 3]
    lines = syndicate("queue", "--user", "bob", "-o", "jsonl").out.splitlines()
    assert [json.loads(each)["name"] for each in lines] == ["näme, \x1b[31mred"]
    rows = list(csv.DictReader(io.StringIO(syndicate("queue", "-o", "csv").out)))
    assert [(row["job"], row["state"], row["finished_at"]) for row in rows] == [
        ("2", "running", ""),
        ("3", "queued", ""),
    ]


def test_an_empty_queue_prints_no_data(syndicate: Commands) -> None:
    assert syndicate("queue") == (0, "", "No jobs wait or run.\n")
    assert syndicate("queue", "-o", "json").out == "[]\n"


@pytest.mark.usefixtures("three_jobs")
def test_the_form_may_come_from_the_configuration(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNDICATE_OUTPUT", "id")
    assert syndicate("queue").out == "2\n3\n"
    monkeypatch.setenv("SYNDICATE_OUTPUT", "xml")
    assert syndicate("queue").code == 2


@pytest.mark.usefixtures("three_jobs")
def test_a_job_is_shown_with_its_machines(syndicate: Commands) -> None:
    shown = syndicate("status", "2").out
    assert "job        2 (wordcount) of ann" in shown
    assert "master   v1         10.77.0.2  running" in shown
    assert re.search(r"^MACHINE .* WHY$", shown, re.MULTILINE)
    # People are told whole seconds.
    assert re.search(r"^submitted  \S+T\d\d:\d\d:\d\dZ$", shown, re.MULTILINE)
    assert json.loads(syndicate("status", "2", "-o", "json").out)["job"] == 2
    assert syndicate("status", "latest", "-o", "id").out == "3\n"


def test_the_cluster_is_shown(syndicate: Commands, manager: FakeManager) -> None:
    shown = syndicate("status").out
    assert "cluster     fake (Syndicate 0.1.0)" in shown
    assert manager.url in shown
    assert "store       memory, 2K; stalled: It is full.\n" in shown
    assert json.loads(syndicate("status", "-o", "json").out)["you"]["user"] == "ann"
    assert json.loads(syndicate("status", "-o", "jsonl").out)["you"]["user"] == "ann"
    assert syndicate("status", "-o", "jsonl").out.count("\n") == 1
    assert syndicate("status", "-o", "id").out == "fake\n"
    (row,) = csv.DictReader(io.StringIO(syndicate("status", "-o", "csv").out))
    assert (row["cluster"], row["you_user"]) == ("fake", "ann")


def test_why_names_what_each_volunteer_lacks(syndicate: Commands, manager: FakeManager) -> None:
    wanted = {"cores": 4, "memory": 4 << 30, "arch": ["x86_64"]}
    manager.jobs[1] = job(1, resources=wanted, reason="Waits for 2 more.")
    manager.volunteers = [
        volunteer("v1", cores=8),
        volunteer("v2", cores=2),
        volunteer("v3", cores=4, state="busy", job=7),
        volunteer("v4", cores=4, arch="aarch64"),
    ]
    told = syndicate("why", "1").out
    assert "Waits for 2 more." in told
    assert "v1            fits, is free" in told
    assert "v2            lacks cores (2 of 4)" in told
    assert "v3            fits, is busy with job 7" in told
    assert "v4            lacks architecture (aarch64, not x86_64)" in told
    assert told.endswith("It wants 3 machines; 2 volunteers could be one.\n")
    found = json.loads(syndicate("why", "1", "-o", "json").out)
    assert (found["job"], found["reason"], found["fitting"]) == (1, "Waits for 2 more.", 2)
    assert [each["fits"] for each in found["volunteers"]] == [True, False, True, False]
    assert found["volunteers"][1]["lacks"] == ["cores (2 of 4)"]
    assert json.loads(syndicate("why", "1", "-o", "jsonl").out) == found
    assert syndicate("why", "1", "-o", "id").out == "1\n"
    (row,) = csv.DictReader(io.StringIO(syndicate("why", "1", "-o", "csv").out))
    assert (row["machines_wanted"], row["fitting"]) == ("3", "2")


def test_why_of_a_job_that_ended_tells_of_no_volunteers(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs[1] = job(1, **finished("failed"))
    manager.volunteers = [volunteer("v1")]
    assert "v1" not in syndicate("why", "1").out
    found = json.loads(syndicate("why", "1", "-o", "json").out)
    assert (found["outcome"], found["volunteers"], found["fitting"]) == ("failed", None, 0)


def test_a_job_that_ended_while_it_waited_was_never_given_machines(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs = {
        3: job(3, machines=[]),
        4: job(4, state="finished", outcome="cancelled", finished_at=at(1), machines=[]),
    }
    assert "It has no machines yet." in syndicate("status", "3").err
    assert "\nmachines   3\n" in syndicate("status", "3").out
    assert "It was never given machines." in syndicate("status", "4").err


def test_volunteers_are_listed_and_shown(syndicate: Commands, manager: FakeManager) -> None:
    manager.volunteers = [volunteer("v1"), volunteer("v2", state="busy", job=3)]
    assert syndicate("volunteers", "-o", "id").out == "v1\nv2\n"
    assert syndicate("volunteers", "list", "-o", "id").out == "v1\nv2\n"
    assert "8G" in syndicate("volunteers").out
    assert "sandbox     root" in syndicate("volunteers", "show", "v1").out
    assert syndicate("volunteers", "show", "v9").code == 3
    why = "Its disk cannot be capped: run the volunteer as root."
    manager.volunteers = [
        volunteer("v1", remarks=[why], faults=["pause"], unsupported={"loss": "no nftables"})
    ]
    shown = syndicate("volunteers", "show", "v1").out
    for line in (f"lacks       {why}", "faults      kill, pause", "no faults   loss: no nftables"):
        assert f"{line}\n" in shown


# -- logs


@pytest.fixture
def printed(manager: FakeManager) -> None:
    manager.jobs[1] = job(
        1, **finished(), machines=[machine("master"), machine("slave[0]"), machine("slave[1]")]
    )
    manager.lines[1] = [
        line("master", "one"),
        line("slave[0]", "two", "err", 1),
        line("slave[1]", "x" * 10, "out", 2, partial=True),
        line("slave[1]", "yyy", "out", 2),
        line("master", "\x1b]0;evil\x07", "out", 3),
    ]


@pytest.mark.usefixtures("printed")
def test_logs_are_told_with_their_machines(syndicate: Commands) -> None:
    assert syndicate("logs", "1").out.splitlines() == [
        "master   | one",
        "slave[0] | two",
        "slave[1] | xxxxxxxxxxyyy",
        "master   | \x1b]0;evil\x07",
    ]


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize("name", ["slave[0]", "slave0", "10.77.0.3"])
def test_logs_of_one_machine_are_bare_however_it_is_named(syndicate: Commands, name: str) -> None:
    assert syndicate("logs", "1", "-m", name).out == "two\n"


@pytest.mark.usefixtures("printed")
def test_logs_may_have_times_or_be_json(syndicate: Commands, manager: FakeManager) -> None:
    first = syndicate("logs", "1", "-T").out.splitlines()[0]
    assert first.endswith(" master   | one")
    assert first[4] == "-"
    told = syndicate("logs", "1", "-n", "1", "-o", "jsonl").out
    assert json.loads(told)["line"] == "\x1b]0;evil\x07"
    lines = syndicate("logs", "1", "-o", "jsonl").out.splitlines()
    whole = json.loads(syndicate("logs", "1", "-o", "json").out)
    assert len(lines) > 1
    assert whole == [json.loads(line) for line in lines]
    manager.lines[1] = []
    assert syndicate("logs", "1", "-o", "json").out == "[]\n"


@pytest.mark.usefixtures("printed")
def test_following_logs_through_a_break_tells_every_line_once(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.lines[1] = [line("master", f"{n}", "out", n // 3) for n in range(30)]
    manager.break_streams = 3
    told = syndicate("logs", "1", "-f", "-m", "master").out
    assert told.split() == [str(n) for n in range(30)]
    manager.break_streams = 3
    told = syndicate("logs", "1", "-f", "-m", "master", "-n", "21").out
    assert told.split() == [str(n) for n in range(9, 30)]


# -- waiting and cancelling


def test_waiting_for_several_jobs_has_the_highest_exit_code(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs = {
        1: job(1, **finished("passed")),
        2: job(2, **finished("cancelled")),
        3: job(3, **finished("failed")),
    }
    assert syndicate("wait", "1", "3").code == 1
    assert syndicate("wait", "1", "2", "3").code == 5
    assert syndicate("wait", "1", "-o", "id").out == "1\n"


def test_a_wait_ends_when_its_time_is_over(syndicate: Commands, manager: FakeManager) -> None:
    manager.jobs[1] = job(1, state="running")
    ended = syndicate("wait", "1", "--timeout", "50ms")
    assert (ended.code, ended.out) == (124, "")
    assert syndicate("wait", "1", "--until", "running", "--timeout", "50ms").code == 0


def test_a_wait_outlasts_a_restart_of_the_manager(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs[1] = job(1, state="running")

    def end() -> None:
        manager.jobs[1].update(finished())

    timer = manager.restart_after(0.5, then=end, before=lambda: bool(manager.seen))
    try:
        ended = syndicate("wait", "1")
    finally:
        timer.join()
    assert ended.code == 0
    assert "The manager does not answer" in ended.err


def test_cancelling_tells_what_could_not_be(syndicate: Commands, manager: FakeManager) -> None:
    manager.jobs = {1: job(1), 2: job(2, **finished())}
    ended = syndicate("cancel", "1", "2")
    assert (ended.code, ended.out) == (1, "")
    assert "Job 1 is cancelled." in ended.err
    assert "Job 2 is finished already." in ended.err
    assert manager.jobs[1]["outcome"] == "cancelled"


def spawn(*words: str) -> subprocess.Popen[str]:
    """A command in a process of its own, for those that are about signals."""
    return subprocess.Popen(
        [sys.executable, "-m", "syndicate.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until_seen(manager: FakeManager, part: str) -> None:
    deadline = time.monotonic() + 8
    while not any(part in seen.path for seen in manager.seen):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_leaves_a_followed_job_alone(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    with spawn("submit", str(source), "-f") as process:
        until_seen(manager, "/logs")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=8)
    assert process.returncode == 130
    assert "syndicate cancel 1" in said
    assert manager.jobs[1]["state"] == "queued"


def test_ctrl_c_leaves_a_job_alone_whose_output_is_followed(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs[1] = job(1, state="running")
    with spawn("logs", "1", "-f") as process:
        until_seen(manager, "/logs")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=8)
    assert process.returncode == 130
    assert "Job 1 goes on. End it: syndicate cancel 1" in said
    assert manager.jobs[1]["state"] == "running"


def test_ctrl_c_twice_cancels_a_job_that_is_run(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    with spawn("run", str(source)) as process:
        until_seen(manager, "/logs")
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert manager.jobs[1]["state"] == "queued"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=8)
    assert process.returncode == 5
    assert "Press Ctrl-C again to cancel job 1." in said
    assert "Job 1 cancelled" in said


# -- on a terminal


def on_terminal(
    *words: str,
    variables: dict[str, str] | None = None,
    columns: int = 100,
    meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> tuple[int, str]:
    """Run a command with a terminal for all it says; gives its exit code and what was shown."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **(variables or {})}
    argv = [sys.executable, "-m", "syndicate.cli", *words]
    with subprocess.Popen(argv, stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        if meanwhile is not None:
            threading.Thread(target=meanwhile, args=(process,)).start()
        shown = b""
        with contextlib.suppress(OSError):  # what Linux says when the other end is closed
            while data := os.read(ours, 4096):
                shown += data
    os.close(ours)
    return process.returncode, shown.decode()


def left(text: str) -> list[str]:
    """The lines that stay on a terminal, of what went there."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.endswith("A") and piece.startswith("\x1b"):
            row -= int(piece[2:-1] or 1)
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith(("\x1b", "\r")):
            lines[row] += piece
    return lines


def test_what_is_said_at_ctrl_c_stays_above_the_table(manager: FakeManager, source: Path) -> None:
    names = ("master", "slave[0]", "slave[1]", "slave[2]")
    manager.on_submit = lambda record: record.update(
        machines=[machine(name, state="running") for name in names]
    )

    def press(process: subprocess.Popen[bytes]) -> None:
        until_seen(manager, "/logs")
        time.sleep(0.3)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)

    code, shown = on_terminal("run", str(source), meanwhile=press)
    assert code == 5
    lines = left(shown)
    assert "Press Ctrl-C again to cancel job 1." in lines
    assert "Cancelling job 1." in lines
    assert not [line for line in lines if line.startswith("MACHINE")]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_shows_the_machines_while_the_output_goes_by(
    manager: FakeManager, source: Path
) -> None:
    ends(manager, machines=[machine("master", state="exited", exit_code=0), machine("slave[0]")])
    code, shown = on_terminal("submit", str(source), "-n", "2", "-f")
    assert code == 0
    assert "\x1b[" in shown
    assert "master   | hello" in plain(shown)
    assert "slave[0] | there" in plain(shown)
    assert "VOLUNTEER" in plain(shown)
    assert (
        plain(shown)
        .rstrip()
        .endswith("Job 1 passed after 2.5s: Every machine ended with exit code 0.")
    )


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_without_colours_gets_plain_lines(
    manager: FakeManager, source: Path, variables: dict[str, str]
) -> None:
    ends(manager)
    code, shown = on_terminal("submit", str(source), "-n", "2", "-f", variables=variables)
    assert code == 0
    assert "\x1b" not in shown
    assert "All machines run." in shown


def test_a_table_fits_the_terminal(manager: FakeManager) -> None:
    manager.jobs[1] = job(1, reason="Waits for " + "very " * 40 + "long.")
    _, shown = on_terminal("queue")
    lines = plain(shown).splitlines()
    assert max(map(len, lines)) <= 100
    assert "".join(lines).count("very") == 40


def test_a_narrow_terminal_has_room_for_why_whatever_the_names(manager: FakeManager) -> None:
    manager.jobs[1] = job(
        1,
        name="a-very-long-name-for-a-job-that-somebody-made-up",
        user="somebody-from-elsewhere",
        reason="Waits for two more volunteers than there are.",
        position=1,
    )
    _, shown = on_terminal("queue", columns=80)
    lines = plain(shown).splitlines()
    assert max(map(len, lines)) <= 80
    told = [line[lines[0].index("WHY") :].strip() for line in lines[1:]]
    assert " ".join(told).strip() == "Waits for two more volunteers than there are."
    assert len(told) <= 3
    assert "a-very-long-name" in lines[1]
    assert "queued" in lines[1]


def test_a_narrow_terminal_shows_every_column_when_there_is_nothing_to_say(
    manager: FakeManager,
) -> None:
    manager.volunteers = [volunteer("v1")]
    _, shown = on_terminal("volunteers", columns=90)
    assert "SANDBOX" in plain(shown)


def test_cancelling_on_a_terminal_asks(manager: FakeManager) -> None:
    manager.jobs[1] = job(1)
    ours, its = pty.openpty()
    os.write(ours, b"n\n")
    with subprocess.Popen(
        [sys.executable, "-m", "syndicate.cli", "cancel", "1"], stdin=its, stdout=its, stderr=its
    ) as process:
        process.wait(8)
    os.close(its)
    os.close(ours)
    assert manager.jobs[1]["state"] == "queued"
    assert on_terminal("cancel", "1", "--yes")[0] == 0
    assert manager.jobs[1]["outcome"] == "cancelled"


# -- who, where, and what else


@pytest.mark.parametrize("words", [["status", "9"], ["logs", "9"], ["cancel", "9"], ["wait", "9"]])
def test_a_job_that_is_not_there_is_exit_code_3(syndicate: Commands, words: list[str]) -> None:
    ended = syndicate(*words)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == "syndicate: There is no job 9.\n"


def test_what_is_no_job_is_wrong_use(syndicate: Commands, manager: FakeManager) -> None:
    assert syndicate("status", "-1").code == 2
    assert syndicate("status", "../tokens").code == 2
    assert manager.seen == []


def test_a_wrong_token_is_exit_code_4(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNDICATE_TOKEN", "wrong")
    assert syndicate("queue").code == 4


def test_no_token_at_all_is_exit_code_4_and_says_what_to_do(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNDICATE_TOKEN")
    ended = syndicate("queue")
    assert ended.code == 4
    assert "SYNDICATE_TOKEN_FILE" in ended.err


def test_no_manager_there_is_exit_code_69_and_says_what_to_check(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNDICATE_URL", "https://127.0.0.1:1")
    ended = syndicate("queue")
    assert (ended.code, ended.out) == (69, "")
    assert "Connection refused" in ended.err
    assert "syndicate config show" in ended.err


def test_the_manager_of_another_cluster_is_not_spoken_to(
    syndicate: Commands,
    manager: FakeManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(tmp_path / "other") as other:
        monkeypatch.setenv("SYNDICATE_AUTHORITY", str(other.authority))
        ended = syndicate("queue")
    assert ended.code == 69
    assert "not the manager of the expected cluster" in ended.err
    assert "/other/" in ended.err
    assert manager.seen == []
    monkeypatch.delenv("SYNDICATE_AUTHORITY")
    ended = syndicate("queue")
    assert ended.code == 69
    assert "name the cluster's authority where the URL is named (--authority" in ended.err


def test_an_authority_that_is_no_certificate_is_told_in_our_own_words(
    syndicate: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("", "This is not a certificate.\n"):
        (tmp_path / "ca.pem").write_text(text)
        monkeypatch.setenv("SYNDICATE_AUTHORITY", str(tmp_path / "ca.pem"))
        ended = syndicate("queue")
        assert (ended.code, ended.out) == (69, "")
        assert f"The authority {tmp_path}/ca.pem holds no certificate." in ended.err
        assert "syndicate config show" in ended.err
        assert "_ssl" not in ended.err


def test_a_url_that_is_none_is_wrong_use(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNDICATE_URL", "http://127.0.0.1:80")
    ended = syndicate("queue")
    assert ended.code == 2
    assert "is not the URL of a manager" in ended.err


def test_a_verb_takes_one_connection(
    syndicate: Commands, manager: FakeManager, source: Path
) -> None:
    before = manager.connections
    syndicate("submit", str(source))
    assert manager.connections == before + 1


def test_a_token_is_made_and_its_secret_is_all_that_is_printed(
    syndicate: Commands, manager: FakeManager
) -> None:
    ended = syndicate("token", "new", "--user", "bob", "--expires", "1d")
    assert (ended.code, ended.out) == (0, "syn_x_y\n")
    assert "bob" in ended.err
    assert json.loads(manager.seen[-1].body) == {"role": "user", "user": "bob", "expires_in": 86400}


def test_the_configuration_is_shown_without_secrets(
    syndicate: Commands, manager: FakeManager
) -> None:
    shown = syndicate("config", "show").out
    assert f"url          {manager.url}  (from environment)" in shown
    assert manager.secret not in shown


def test_completion_offers_the_numbers_of_jobs(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.jobs = {12: job(12), 13: job(13), 2: job(2)}
    monkeypatch.setenv("_SYNDICATE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "syndicate status 1")
    monkeypatch.setenv("COMP_CWORD", "2")
    told = subprocess.run(
        [sys.executable, "-m", "syndicate.cli"], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["plain,13", "plain,12"]


# -- fetch


@pytest.fixture
def with_files(manager: FakeManager) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, content in (("result.json", b"{}"), ("traces/1.log", b"trace")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    manager.jobs[1] = job(1, **finished())
    manager.events[1] = PASSED
    manager.files[1] = {
        "attempt-1/master.out": b"hello\n",
        "attempt-1/master.err": b"\xff\n",
        "attempt-1/master/outputs.tar": tar.getvalue(),
    }


@pytest.mark.usefixtures("with_files")
def test_everything_of_a_job_is_fetched(syndicate: Commands, tmp_path: Path) -> None:
    ended = syndicate("fetch", "1")
    assert (ended.code, ended.out) == (0, "job-1\n")
    top = tmp_path / "job-1"
    found = {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}
    assert json.loads(found.pop("job.json"))["outcome"] == "passed"
    assert len(found.pop("events.jsonl").splitlines()) == len(PASSED)
    for name in ("faults.jsonl", "samples.csv", "machines.json", "result.json"):
        del found[name]  # see test_cli_report.py
    assert found == {
        "attempt-1/master.out": b"hello\n",
        "attempt-1/master.err": b"\xff\n",
        "attempt-1/master/result.json": b"{}",
        "attempt-1/master/traces/1.log": b"trace",
    }
    assert syndicate("fetch", "latest", "-d", "out").out == "out\n"
    assert (tmp_path / "out/job.json").exists()


@pytest.mark.usefixtures("with_files")
def test_what_a_job_did_not_keep_is_told(syndicate: Commands, manager: FakeManager) -> None:
    missing, link = "no file matches result.json", "out/\x1b[2J is a link"
    machines = [
        machine("master", outputs="0" * 64, left_out=[missing]),
        machine("slave[0]", left_out=[missing, link]),
    ]
    manager.jobs[1] = job(1, **{**finished(), "machines": machines})
    shown = syndicate("status", "1").out
    assert "in part" in shown
    assert "none" in shown
    lines = [
        "Not kept of master, slave[0]: no file matches result.json.",
        "Not kept of slave[0]: out/␛[2J is a link.",
    ]
    assert shown.splitlines()[-2:] == lines
    fetched = syndicate("fetch", "1")
    assert (fetched.code, fetched.out) == (0, "job-1\n")
    assert all(line in fetched.err for line in lines)


def test_a_pattern_that_one_machine_has_matched_is_not_told_of_the_others(
    syndicate: Commands, manager: FakeManager
) -> None:
    missing, link = "no file matches result.json", "result.json is a link"
    machines = [
        machine("master", outputs="0" * 64),
        machine("slave[0]", left_out=[missing]),
        machine("slave[1]", left_out=[link]),
    ]
    manager.jobs[1] = job(1, **{**finished(), "machines": machines})
    shown = syndicate("status", "1").out
    assert missing not in shown
    assert shown.splitlines()[-1] == f"Not kept of slave[1]: {link}."
    assert "none" in shown


@pytest.mark.usefixtures("with_files")
def test_fetching_again_replaces_what_was_fetched(syndicate: Commands, tmp_path: Path) -> None:
    syndicate("fetch", "1")
    (tmp_path / "job-1/attempt-1/master.out").write_text("spoilt")
    assert syndicate("fetch", "1").code == 0
    assert (tmp_path / "job-1/attempt-1/master.out").read_text() == "hello\n"


@pytest.mark.usefixtures("with_files")
def test_a_download_that_breaks_off_is_made_again(
    syndicate: Commands, manager: FakeManager, tmp_path: Path
) -> None:
    manager.files[1] = {"attempt-1/master.out": b"x" * 100_000}
    manager.break_streams = 1
    assert syndicate("fetch", "1").code == 0
    assert (tmp_path / "job-1/attempt-1/master.out").stat().st_size == 100_000


@pytest.mark.usefixtures("with_files")
def test_names_that_lead_out_of_the_directory_are_refused(
    syndicate: Commands, manager: FakeManager, tmp_path: Path
) -> None:
    manager.files[1] = {"../evil": b"x"}
    ended = syndicate("fetch", "1")
    assert ended.code == 2
    assert not (tmp_path / "evil").exists()
