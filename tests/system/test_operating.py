"""What operators do on real daemons: consoles, draining, and what is done after each job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from syndicate.lab.state import Host
from tests.support.consoles import make_key
from tests.support.labs import Ran, Running, eventually, up

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

NOTHING = "master slave:\n\t@true\n"
SLEEPER = "master slave:\n\t@echo started; sleep 600\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two volunteers: most of these tests want one that surely gets the job."""
    with up(tmp_path_factory.mktemp("lab"), 2) as running:
        yield running


@pytest.fixture
def console(lab: Running, tmp_path: Path) -> Callable[..., Ran]:
    """``syndicate console``."""
    key = str(Path(lab.lab.description.token_file).with_name("console"))

    def run(*words: str) -> Ran:
        home = str(tmp_path)
        return lab.run("console", *words, SYNDICATE_CONSOLE_KEY=key, XDG_CACHE_HOME=home)

    return run


def state_of(lab: Running, name: str) -> str:
    # It is not known to a manager that has just been started.
    return str(lab.volunteers().get(name, {}).get("state"))


def configure(lab: Running, name: str, section: str, **values: Any) -> Host:
    """Start a volunteer again with more in its configuration."""
    path = lab.lab.directory / name / "volunteer.toml"
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    text = path.read_text()
    head = f"[{section}]\n"
    path.write_text(text.replace(head, head + lines) if head in text else text + head + lines)
    lab.lab.restart(name)
    eventually(lambda: state_of(lab, name) == "free")
    return lab.lab.host(name)


def test_a_labs_console_answers_whoever_brought_it_up(
    lab: Running, console: Callable[..., Ran]
) -> None:
    done = console("volunteers")
    assert done.code == 0, done
    assert [line.split()[:2] for line in done.out.splitlines()[1:]] == [
        ["v1", "free"],
        ["v2", "free"],
    ]
    assert console("why", "999").code == 1
    told = lab.run("audit", "--did", "console", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["details"]["line"] for line in told] == ["volunteers", "why 999"]


def test_a_drained_volunteer_ends_its_job_and_stays_drained(lab: Running) -> None:
    number = lab.submit(lab.source(SLEEPER), 1)
    name = lab.wait(number, "running")["machines"][0]["volunteer"]
    assert lab.run("volunteers", "drain", name, "--reason", "new disk").code == 0
    assert state_of(lab, name) == "busy"
    waiting = lab.submit(lab.source(NOTHING), 2)
    reason = lab.job(waiting)["reason"]
    assert f"drained or quarantined ({name})" in reason
    lab.run("cancel", str(number), "--yes")
    eventually(lambda: state_of(lab, name) == "drained")
    for host in ("manager", name):
        lab.lab.restart(host)
        eventually(lambda: state_of(lab, name) == "drained")
    assert lab.volunteers()[name]["reason"] == "Drained by operator: new disk"
    assert lab.job(waiting)["state"] == "queued"
    assert lab.run("volunteers", "resume", name).code == 0
    assert lab.wait(waiting)["outcome"] == "passed"
    eventually(lab.all_free)


def test_a_volunteers_console_shows_what_it_holds(lab: Running, tmp_path: Path) -> None:
    key = make_key(tmp_path, "ann")
    keys = lab.lab.directory / "v1/state/console/keys"
    keys.mkdir(parents=True, mode=0o700)
    shutil.copy(f"{key}.pub", keys / "ann.keys")
    address = lab.volunteers()["v1"]["address"]
    configure(lab, "v1", "console", port=7022, address=address, operators=["ann"])
    words = ["ssh", "-F", "none", "-p", "7022", "-l", "ann", "-i", str(key)]
    words += ["-oStrictHostKeyChecking=no", f"-oUserKnownHostsFile={tmp_path}/known"]
    words += ["-oIdentitiesOnly=yes", "-oBatchMode=yes", "-oLogLevel=ERROR", address]

    def ask(*command: str) -> str:
        ran = subprocess.run(
            [*words, *command], capture_output=True, text=True, timeout=30, check=False
        )
        assert ran.returncode == 0, ran
        return ran.stdout

    assert ask("holds") == "Nothing.\n"
    number = lab.submit(lab.source(SLEEPER), 2)
    lab.wait(number, "running")
    assert f"job       {number}\n" in ask("holds")
    assert "sleep 600" in ask("processes")
    assert "clean     yes" in ask("sandbox")
    assert "link  up" in ask("manager")
    assert "pid" in ask("stats")
    lab.run("cancel", str(number), "--yes")
    eventually(lab.all_free)


def test_a_process_that_a_job_leaves_makes_its_volunteer_unclean_until_it_is_gone(
    lab: Running,
) -> None:
    number = lab.submit(lab.source(SLEEPER), 2)
    lab.wait(number, "running")
    first, last = lab.lab.host("v1").uids or (0, 0)
    (uid,) = {p.uids().real for p in psutil.process_iter() if first <= p.uids().real <= last}
    # Out of reach of all that the sandbox kills, as the user that the job runs as.
    stray = subprocess.Popen(["setpriv", f"--reuid={uid}", "--clear-groups", "sleep", "600"])
    try:
        lab.run("cancel", str(number), "--yes")
        eventually(lambda: state_of(lab, "v1") == "unclean", 60)
        assert f"process {stray.pid} of user {uid}" in lab.volunteers()["v1"]["reason"]
        assert "failure 1 of 3" in lab.volunteers()["v1"]["reason"]
        waiting = lab.submit(lab.source(NOTHING), 2)
        assert lab.job(waiting)["state"] == "queued"
    finally:
        stray.kill()
        stray.wait()
    assert lab.wait(waiting, timeout=60)["outcome"] == "passed"
    eventually(lab.all_free)


def test_what_operators_want_after_each_job_is_done_before_the_next(
    lab: Running, tmp_path: Path
) -> None:
    gate, told = tmp_path / "gate", tmp_path / "told"
    os.mkfifo(gate)
    script = f'read go < {gate}; echo "$SYNDICATE_JOB $SYNDICATE_MACHINE" >> {told}'
    configure(lab, "v1", "volunteer", after_job=["/bin/sh", "-c", script])
    number = lab.submit(lab.source(NOTHING), 2)
    machines = {m["volunteer"]: m["machine"] for m in lab.wait(number)["machines"]}
    eventually(lambda: state_of(lab, "v2") == "free")
    assert state_of(lab, "v1") == "cleaning"
    gate.write_text("go\n")
    eventually(lambda: state_of(lab, "v1") == "free")
    assert told.read_text() == f"{number} {machines['v1']}\n"


def test_a_host_that_reboots_after_each_job_comes_back(lab: Running, tmp_path: Path) -> None:
    # The host's end is the daemon's: what a lab can have of a reboot.
    daemon = tmp_path / "daemon"
    script = f"kill -9 $(cat {daemon})"
    host = configure(
        lab,
        "v2",
        "volunteer",
        after_job="reboot",
        reboot_command=["/bin/sh", "-c", script],
    )
    daemon.write_text(str(host.pid))
    process = psutil.Process(host.pid)
    number = lab.submit(lab.source(NOTHING), 2)
    assert lab.wait(number)["outcome"] == "passed"
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    eventually(lambda: state_of(lab, "v2") == "gone")
    lab.lab.start("v2")
    eventually(lambda: state_of(lab, "v2") == "free")
