"""Real daemons of which one is cut off from its manager for longer than its grace."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.labs import Running, eventually, processes_of, up

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(90)]

LIVENESS = '[liveness]\nping = "0.5s"\ndeadline = "1.5s"\ngrace = "2s"\n'
MAKEFILE = """
master:
\t@echo "attempt $$SYNDICATE_ATTEMPT begins"
\t@for i in `seq 600`; do echo $$SYNDICATE_ATTEMPT; sleep 0.1; done
slave:
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("cut"), 2) as running:
        config = running.lab.directory / "manager/manager.toml"
        config.write_text(config.read_text() + LIVENESS)
        running.lab.restart("manager")
        eventually(running.all_free)
        yield running


@contextmanager
def cut_off(lab: Running, volunteer: str) -> Iterator[None]:
    """No packet goes between a volunteer and the manager; the volunteer is not told."""
    manager = lab.lab.host("manager").address
    rules = f"""table ip syn_test_cut {{
        chain out {{ type filter hook output priority 0; ip daddr {manager} drop
        }}
        chain in {{ type filter hook input priority 0; ip saddr {manager} drop
        }}
    }}"""
    nft(lab, volunteer, rules)
    try:
        yield
    finally:
        nft(lab, volunteer, "delete table ip syn_test_cut")


def nft(lab: Running, volunteer: str, rules: str) -> None:
    command = lab.lab.exec_command(volunteer, ["nft", rules])
    subprocess.run(command, check=True, timeout=20)


def running_on(lab: Running, volunteer: str) -> list[str]:
    uids = lab.lab.host(volunteer).uids
    assert uids is not None
    return [each for each in processes_of(range(uids[0], uids[1] + 1)) if "sleep" in each]


def test_it_finds_its_attempt_over_when_it_is_back_and_kills_it(lab: Running) -> None:
    number = lab.submit(lab.source(MAKEFILE), 1)
    (machine,) = lab.wait(number, "running")["machines"]
    away = machine["volunteer"]
    eventually(lambda: running_on(lab, away))
    with cut_off(lab, away):
        job = eventually(lambda: (j := lab.job(number))["attempt"] == 2 and j)
        eventually(lambda: lab.job(number)["state"] == "running")
        (machine,) = lab.job(number)["machines"]
        other = machine["volunteer"]
        assert other != away, job
        assert lab.volunteers()[away]["state"] == "gone"
        # It cannot know, and its attempt goes on: see doc/decisions/0030-adoption.rst.
        time.sleep(1)
        assert running_on(lab, away)
        assert running_on(lab, other)
    eventually(lambda: lab.volunteers()[away]["state"] == "free")
    assert running_on(lab, away) == []
    # The present attempt did not notice, and nothing of the former one came to it.
    assert running_on(lab, other)
    job = lab.job(number)
    assert (job["state"], job["attempt"]) == ("running", 2)
    eventually(lambda: lab.run("logs", str(number), "-n", "5").out.count("2") >= 3)
    told = lab.run("logs", str(number)).out.splitlines()
    begun = [line for line in told if "begins" in line]
    assert begun[-1].endswith("attempt 2 begins")
    assert lab.run("cancel", str(number)).code == 0
    eventually(lab.all_free)
