"""The lab as its user has it: by ``syndicate lab``, with the real daemons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syndicate.lab import Lab, state
from syndicate.lab.traces import find_traces
from tests.support.commands import Commands, Ended, forget_environment

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(90)]


@pytest.fixture
def syndicate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Commands of a user who has no lab yet; whatever he leaves is taken away."""
    forget_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("SYNDICATE_LAB_STATE", str(tmp_path / "labs"))
    yield Commands()
    for place in (tmp_path / "labs").glob("*"):
        Lab(place.name).down()


def spawn(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "syndicate.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def source(directory: Path, master: str, slave: str = "true") -> str:
    directory.mkdir()
    (directory / "Makefile").write_text(f"master:\n\t@{master}\nslave:\n\t@{slave}\n")
    return str(directory)


def rows(ended: Ended) -> Any:
    assert ended.code == 0, ended
    return json.loads(ended.out)


def test_a_lab_from_its_first_to_its_last_command(syndicate: Commands, tmp_path: Path) -> None:
    assert syndicate("queue").code == 69
    up = syndicate("lab", "up", "-n", "2")
    assert up.code == 0, up
    assert up.out.startswith("https://10.")
    # Who has brought it up is known there without another word.
    assert [each["state"] for each in rows(syndicate("volunteers", "-o", "json"))] == ["free"] * 2
    assert syndicate("lab", "up", "-n", "2").code == 0
    assert syndicate("lab", "up", "-n", "3").code == 1

    assert [each["lab"] for each in rows(syndicate("lab", "list", "-o", "json"))] == ["lab"]
    hosts = rows(syndicate("lab", "status", "-o", "json"))
    assert [(each["host"], each["state"]) for each in hosts] == [
        *(("manager", "ready"), ("v1", "ready"), ("v2", "ready"))
    ]
    shown = syndicate("lab", "env").out
    url = subprocess.run(
        ["sh", "-c", f"{shown}echo $SYNDICATE_URL"], capture_output=True, text=True, check=True
    )
    assert url.stdout == up.out

    with spawn("lab", "exec", "v2", "--", "ip", "-j", "addr", "show", "eth0") as process:
        said, _ = process.communicate()
    assert json.loads(said)[-1]["addr_info"][0]["local"] == hosts[2]["address"]
    with spawn("lab", "exec", "v2", "--", "sh", "-c", "exit 7") as process:
        process.communicate()
    assert process.returncode == 7
    assert syndicate("lab", "exec", "v9", "--", "true").code == 3

    assert syndicate("lab", "kill", "v1", "--signal", "XYZ").code == 2
    assert syndicate("lab", "kill", "v1").code == 0
    assert syndicate("lab", "status").code == 1
    assert syndicate("lab", "restart", "v1").code == 0
    assert syndicate("lab", "status").code == 0

    ran = syndicate("run", source(tmp_path / "src", "echo hello", "echo there"), "-n", "2")
    assert ran.code == 0, ran
    assert sorted(ran.out.splitlines()) == ["master   | hello", "slave[0] | there"]

    assert syndicate("lab", "down") == (0, "", "")
    assert not (tmp_path / "labs").exists()
    assert syndicate("queue").code == 69
    assert syndicate("lab", "status").code == 3


def test_who_follows_a_job_follows_it_through_a_kill_of_the_manager(
    syndicate: Commands, tmp_path: Path
) -> None:
    assert syndicate("lab", "up", "-n", "2").code == 0
    job = source(tmp_path / "src", "for i in 1 2 3 4 5 6; do echo $$i; sleep 0.5; done", "sleep 3")
    with spawn("submit", job, "-n", "2", "-f") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "master   | 1\n"
        assert syndicate("lab", "kill", "manager").code == 0
        assert syndicate("lab", "restart", "manager").code == 0
        said, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    # It goes on in the same attempt: what was read already does not come again.
    assert [line[-1] for line in said.splitlines()] == list("23456")
    assert "The manager does not answer" in told


def test_jobs_outlive_a_lab_whose_state_is_kept(syndicate: Commands, tmp_path: Path) -> None:
    assert syndicate("lab", "up", "-n", "1").code == 0
    assert syndicate("run", source(tmp_path / "src", "echo hello"), "-n", "1").code == 0
    assert syndicate("lab", "down", "--keep-state").code == 0
    assert [each["state"] for each in rows(syndicate("lab", "list", "-o", "json"))] == ["kept"]
    assert syndicate("lab", "up", "-n", "1").code == 0
    assert syndicate("logs", "1").out == "master | hello\n"


def test_an_up_that_was_killed_is_repaired_by_the_next(syndicate: Commands, tmp_path: Path) -> None:
    with spawn("lab", "up", "-n", "3") as process:
        deadline = time.monotonic() + 20
        # With all daemons started, and no volunteer registered yet.
        while not list((tmp_path / "labs").glob("lab/v3/log")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
    shown = rows(syndicate("lab", "list", "-o", "json"))
    assert [each["state"] for each in shown] == ["building"]
    assert syndicate("lab", "status").code == 3
    assert syndicate("lab", "up", "-n", "2").code == 0
    assert len(rows(syndicate("volunteers", "-o", "json"))) == 2
    with spawn("lab", "up", "-n", "2", "--name", "other") as process:
        _, told = process.communicate()
    assert process.returncode == 0, told
    which = syndicate("queue")  # the one named lab
    assert which.code == 0
    assert syndicate("--lab", "other", "volunteers", "-o", "id").out == "v1\nv2\n"
    assert os.path.exists(tmp_path / "labs/other/lab.json")


def test_a_lab_whose_daemons_were_killed_leaves_no_trace(
    syndicate: Commands, tmp_path: Path
) -> None:
    assert syndicate("lab", "up", "-n", "2").code == 0
    about = state.read(tmp_path / "labs/lab")
    for host in ("v1", "v2"):
        assert syndicate("lab", "kill", host).code == 0
    assert syndicate("lab", "down").code == 0
    assert find_traces(tmp_path / "labs/lab", about) == []
