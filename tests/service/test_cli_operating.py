"""The verbs for operators against a manager that answers as the JSON API says."""

from __future__ import annotations

import io
import json
import os
import pty
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from syndicate.cli.verbs import volunteers
from tests.support.commands import Commands
from tests.support.fake_manager import FakeManager, at, fault, job, volunteer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def manager(fake_manager: FakeManager) -> FakeManager:
    return fake_manager


def test_volunteers_are_drained_quarantined_and_resumed(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.volunteers = [volunteer("v1")]
    assert syndicate("volunteers", "drain", "v1", "--reason", "new disk").err == "v1 is drained.\n"
    assert "new disk" in syndicate("volunteers", "show", "v1").out
    assert syndicate("volunteers", "quarantine", "v1").err == "v1 is quarantined.\n"
    assert syndicate("volunteers", "resume", "v1").err == "v1 is free.\n"
    assert syndicate("volunteers", "drain", "v9").code == 3


def test_dashes_stand_for_what_is_not_known_of_a_host(
    syndicate: Commands, manager: FakeManager
) -> None:
    unknown = {"address": "", "cores": 0, "memory": 0, "arch": "", "kernel": "", "sandbox": ""}
    unknown |= {"enforced": [], "versions": {}, "registered_at": None, "heard_at": None}
    manager.volunteers = [volunteer("v1", state="gone", reason="Has not joined.", **unknown)]
    row = syndicate("volunteers", "-o", "wide").out.splitlines()[-1]
    assert row.split()[:8] == ["v1", "gone", *("-" * 6)]
    shown = syndicate("volunteers", "show", "v1").out
    assert "Has not joined." in shown
    assert "cores" not in shown
    manager.jobs[1] = job(1, state="queued")
    assert "v1            is gone, and its host is not known" in (why := syndicate("why", "1").out)
    assert "0 volunteers could be one" in why


def test_of_one_that_is_away_is_said_why_it_gets_no_job(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.volunteers = [volunteer("v1", state="gone", reason="The connection was lost.")]
    ended = syndicate("volunteers", "drain", "v1", "--wait", "--reason", "new disk")
    assert (ended.code, ended.err) == (0, "v1 is away. new disk\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_shell_has_closed_does_no_harm(
    manager: FakeManager, closed: str, tmp_path: Path
) -> None:
    manager.volunteers = [volunteer("v1")]
    said = tmp_path / "said"
    said.touch()
    shown = subprocess.run(
        [
            "sh",
            "-c",
            f'exec 2> "$1"; "$2" -m syndicate.cli volunteers {closed}',
            "sh",
            said,
            sys.executable,
        ],
        stdout=subprocess.PIPE,
        check=False,
        timeout=20,
        text=True,
    )
    assert (shown.returncode, said.read_text()) == (0, "")
    assert ("v1" in shown.stdout) == (">&-" not in closed.split())


def test_draining_waits_for_the_present_job_if_asked(
    syndicate: Commands, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volunteers, "LOOK", 0.02)
    manager.volunteers = [volunteer("v1", state="busy", job=17)]
    for verb in ("drain", "quarantine"):
        said = syndicate("volunteers", verb, "v1").err
        assert said == "v1 is busy.\nv1 works on job 17 to its end.\n"

    def end() -> None:
        time.sleep(0.3)
        manager.volunteers[0]["state"] = "drained"

    ending = threading.Thread(target=end)
    ending.start()
    began = time.monotonic()
    assert syndicate("volunteers", "drain", "v1", "--wait").code == 0
    assert time.monotonic() - began >= 0.2
    ending.join()


def test_the_audit_log_is_shown_without_what_would_move_the_cursor(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.audit = [
        {
            "at": at(n),
            "kind": "person",
            "who": who,
            "role": "user",
            "token": "4f21",
            "address": "10.0.0.7",
            "did": "cancel",
            "on": "job 17",
            "outcome": "done",
            "details": {"message": "\x1b[31m red"},
        }
        for n, who in enumerate(("ann", "bob"))
    ]
    shown = syndicate("audit").out
    assert "ann" in shown
    assert "bob" in shown
    assert "\x1b" not in shown
    found = syndicate("audit", "--who", "ann", "-o", "json").out
    assert [each["who"] for each in json.loads(found)] == ["ann"]
    assert syndicate("audit", "--who", "eve").err == "Nothing of that kind was recorded.\n"


@pytest.mark.parametrize(
    ("typed", "words", "done"),
    [("n\n", [], False), ("\x04", [], False), ("y\n", [], True), ("", ["--yes"], True)],
)
def test_what_cannot_be_undone_is_asked_for_on_a_terminal(
    manager: FakeManager, typed: str, words: list[str], done: bool
) -> None:
    manager.jobs[1] = job(1)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed.encode())
        subprocess.run(
            [sys.executable, "-m", "syndicate.cli", "cancel", "1", *words],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            check=False,
            timeout=8,
        )
        said = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("? [y/N]" in said) == (not words)
    assert (manager.jobs[1]["outcome"] == "cancelled") == done


def test_nobody_is_asked_where_there_is_no_terminal(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs[1] = job(1)
    assert "[y/N]" not in syndicate("cancel", "1").err
    assert manager.jobs[1]["outcome"] == "cancelled"


@pytest.mark.parametrize("form", ["table", "wide", "json", "jsonl", "csv", "id"])
def test_what_was_healed_is_told_in_every_form(
    syndicate: Commands, manager: FakeManager, form: str
) -> None:
    manager.jobs[1] = job(1, state="running")
    manager.faults[1] = [
        fault(1, "pause", 1, 2),
        fault(2, "kill", 1, None),
        fault(3, "disconnect", 1, None),
    ]
    (out, err) = (ended := syndicate("fault", "heal", "1", "-o", form)).out, ended.err
    assert (ended.code, err) == (0, "2 healed.\n")
    told = {
        "json": lambda: [each["id"] for each in json.loads(out)],
        "jsonl": lambda: [json.loads(line)["id"] for line in out.splitlines()],
        "csv": lambda: [line.partition(",")[0] for line in out.splitlines()[1:]],
        "id": out.split,
    }.get(form, lambda: [line.split()[0] for line in out.splitlines()[1:]])
    assert told() == ["f2", "f3"]


def test_one_fault_is_healed_and_nothing_where_none_is_left(
    syndicate: Commands, manager: FakeManager
) -> None:
    manager.jobs[1] = job(1, state="running")
    manager.faults[1] = [fault(1, "pause", 1, None), fault(2, "kill", 1, None)]
    assert syndicate("fault", "heal", "1", "f2", "-o", "id").out == "f2\n"
    assert syndicate("fault", "heal", "1", "f2", "-o", "json").out == "[]\n"
    told = "Nothing of that is in force.\n0 healed.\n"
    assert syndicate("fault", "heal", "1", "f2") == (0, "", told)


def noted_ssh(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Notes with which words ssh would have been started; the real one is in test_operating."""
    started: list[list[str]] = []

    def note(file: str, argv: list[str]) -> None:
        started.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr("os.execvp", note)
    return started


def test_the_console_is_found_by_the_api_and_its_key_pinned(
    syndicate: Commands,
    manager: FakeManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = noted_ssh(monkeypatch)
    manager.console = {
        "port": 7022,
        "host_key": "ssh-ed25519 AAAAC3Nz",
        "fingerprint": "SHA256:ab/c+d",
    }
    ann, vera = tmp_path / "ann", tmp_path / "vera"
    ann.touch()
    # The other half may be with an agent.
    (tmp_path / "vera.pub").touch()
    monkeypatch.setenv("SYNDICATE_CONSOLE_KEY", str(ann))
    with pytest.raises(SystemExit):
        syndicate("console", "why", "17")
    (argv,) = started
    assert argv[:5] == ["ssh", "-l", "ann", "-p", "7022"]
    assert argv[5:7] == ["-i", str(ann)]
    assert argv[-4:] == ["--", "127.0.0.1", "why", "17"]
    options = dict(word[2:].split("=", 1) for word in argv if word.startswith("-o"))
    assert options["StrictHostKeyChecking"] == "yes"
    assert options["IdentitiesOnly"] == "yes"
    known = Path(options["UserKnownHostsFile"])
    assert known.read_text() == f"{options['HostKeyAlias']} ssh-ed25519 AAAAC3Nz\n"
    assert known.is_relative_to(tmp_path / ".cache")
    assert stat.S_IMODE(known.parent.stat().st_mode) == 0o700
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(SystemExit):
        syndicate("console", "-l", "vera", "-p", "2222", "-i", str(vera))
    assert started[1][:7] == ["ssh", "-l", "vera", "-p", "2222", "-i", str(vera)]
    monkeypatch.setattr("sys.stdin", io.StringIO("queue\n"))
    with pytest.raises(SystemExit):
        syndicate("console")
    assert started[2][:4] == ["ssh", "-T", "-l", "ann"]


def test_a_key_for_the_console_that_is_not_there_is_refused_before_ssh_runs(
    syndicate: Commands,
    manager: FakeManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = noted_ssh(monkeypatch)
    manager.console = {"port": 7022, "host_key": "ssh-ed25519 AAAAC3Nz", "fingerprint": "x"}
    ended = syndicate("console", "-i", str(tmp_path / "none"))
    assert (ended.code, started) == (3, [])
    assert f"There is no SSH key {tmp_path}/none." in ended.err
    key = tmp_path / "mine"
    key.touch()
    monkeypatch.setattr("os.access", lambda path, mode: path != key)
    monkeypatch.setenv("SYNDICATE_CONSOLE_KEY", str(key))
    ended = syndicate("console")
    assert (ended.code, started) == (4, [])
    assert f"The SSH key {key} cannot be read by you." in ended.err


def test_where_there_is_no_console_that_is_said(syndicate: Commands, manager: FakeManager) -> None:
    ended = syndicate("console")
    assert ended.code == 3
    assert "This manager has no console." in ended.err
