"""The examples on real daemons: each language as a job, and as a client that hurts one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.doorsteps import NEEDS
from tests.support.labs import Running

EXAMPLES = Path(__file__).parents[2] / "examples"

#: A Go compiler that fills its cache on a busy machine takes a while.
PATIENCE = 90.0

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]


def needs(command: str) -> None:
    if shutil.which(command, path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip(f"there is no {command} on this machine")


@pytest.mark.parametrize(("example", "compiler"), [("c-echo", "gcc"), ("go-echo", "go")])
def test_a_job_is_compiled_and_runs_on_every_machine(
    lab: Running, example: str, compiler: str
) -> None:
    needs(compiler)
    number = lab.submit(EXAMPLES / example, 3)
    job = lab.wait(number, timeout=PATIENCE)
    printed = lab.run("logs", str(number)).out
    assert job["outcome"] == "passed", printed
    assert "2 of 2 slaves sent all their 2000 pings" in printed


def test_staff_hurt_a_job_by_hand_and_get_any_form(lab: Running) -> None:
    number = str(lab.submit(lab.source("master slave:\n\t@sleep 600\n"), 2))
    lab.wait(int(number), "running")
    (killed,) = lab.run("fault", "kill", number, "slave0", "-o", "json").json()
    assert (killed["state"], killed["machines"]) == ("verified", ["slave[0]"])
    assert lab.run("fault", "revive", number, "slave[0]", "-o", "id").out == "f2\n"
    refused = lab.run("fault", "revive", number, "slave[0]")
    assert refused.code == 1, refused
    assert "runs; kill it before you revive it" in refused.err
    odd = lab.run("fault", "loss", number, "much", "slave[0]")
    assert (odd.code, "much" in odd.err) == (2, True)
    nobody = lab.run("fault", "kill", number, "slave[7]")
    assert nobody.code == 3, nobody
    lab.run("cancel", number, "--yes")
    lab.wait(int(number))


@pytest.mark.parametrize("language", list(NEEDS))
def test_a_client_in_any_language_hurts_a_real_job(lab: Running, language: str) -> None:
    needs(NEEDS[language])
    client = EXAMPLES / "clients" / language
    number = lab.submit(EXAMPLES / "kvstore", 3, "--client", str(client), "--clients", "1")
    job = lab.wait(number, timeout=PATIENCE)
    printed = lab.run("logs", str(number), "-m", "client[0]").out
    assert job["outcome"] == "passed", printed
    faults = lab.run("fault", "list", str(number), "-o", "json").json()
    assert [(f["kind"], f["machines"], f["by"], f["state"]) for f in faults] == [
        ("kill", ["slave[1]"], "client[0]", "healed"),
        ("revive", ["slave[1]"], "client[0]", "verified"),
    ]
    assert faults[1]["with_disk"] is False
