"""A volunteer or the manager dies in the midst of a fault: nothing stays cut, paused or half wiped,
and the ledger says what is known and what is not.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import agents
from tests.support.agents import AgentJob, Hub
from tests.support.halting_daemon import HaltingDaemons
from tests.support.labs import Running, eventually, up

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

VICTIM = "slave[0]"
#: What is called, and at which of the volunteer's points it dies.
VOLUNTEER = {
    "after a kill, before its proof": ("kill", {}),
    "with half of a disk wiped": ("revive", {"with_disk": False}),
    "after a pause, before its proof": ("pause", {}),
    "after a cut, before its proof": ("disconnect", {}),
}
MANAGER = [
    ("kill", "with a fault done, before its answer"),
    ("pause", "with a fault done, before its answer"),
    ("disconnect", "with a fault written down, before its orders"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("lab"), 3, daemons=HaltingDaemons()) as running:
        yield running


@pytest.fixture
def job(lab: Running) -> Iterator[AgentJob]:
    """A master, a slave, and a client, of one test's own: its volunteer dies."""
    yield from a_job(lab)


@pytest.fixture(scope="module")
def lasting_job(lab: Running) -> Iterator[AgentJob]:
    """One that outlives what happens to the manager; all volunteers belong to it from then on."""
    yield from a_job(lab)


def a_job(lab: Running) -> Iterator[AgentJob]:
    eventually(lab.all_free)
    hub = Hub(lab.lab.description.gateway)
    made = agents.start(lab, hub, 2, 1)
    yield made
    for each in lab.lab.status():
        if not each.runs:
            lab.lab.start(each.host.name)
    lab.run("cancel", str(made.number), "--yes")
    lab.wait(made.number)
    eventually(lab.all_free)
    hub.close()


def halt(lab: Running, host: str, point: str) -> None:
    """Have a daemon die there."""
    (lab.directory / "state" / host / "halt").write_text(point)


def await_death(lab: Running, host: str) -> None:
    def dead() -> bool:
        return any(each.host.name == host and not each.runs for each in lab.lab.status())

    eventually(dead)
    assert not (lab.directory / "state" / host / "halt").exists()


def tables(lab: Running, host: str) -> list[str]:
    """The tables of the packet filter on a host."""
    argv = lab.lab.exec_command(host, ["nft", "list", "tables"])
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


def faults(lab: Running, number: int) -> list[dict[str, Any]]:
    return list(lab.get(f"/v1/jobs/{number}/faults")["faults"])


def all_reach_all(job: AgentJob) -> bool:
    for a, b in itertools.permutations(job.where, 2):
        ways = [("new", job.where[b]), ("udp", job.where[b])]
        if job.ask(a, "reach", ways=ways, patience=2.0) != [True, True]:
            return False
    return True


@pytest.mark.parametrize("point", VOLUNTEER)
def test_a_volunteer_that_dies_in_the_midst_of_a_fault_leaves_nothing_of_it(
    lab: Running, job: AgentJob, point: str
) -> None:
    call, more = VOLUNTEER[point]
    host = job.hosts[VICTIM]
    assert job.ask(VICTIM, "fresh") is True
    if call == "revive":
        assert job.call("kill", VICTIM)["state"] == "verified"
    halt(lab, host, point)
    words = {"call": call, "words": [VICTIM], "more": more}
    job.hub.begin(job.number, "client[0]", "fault", **words)
    await_death(lab, host)
    # The kernel has lifted its rules; nothing of it can be cut.
    eventually(lambda: tables(lab, host) == [])
    lab.lab.start(host)
    # What the job is done to is not known, so it begins anew, on a disk as new.
    eventually(lambda: lab.job(job.number)["attempt"] == 2)
    lab.wait(job.number, "running")
    assert lab.job(job.number)["state"] == "running"
    again = agents.found(lab, job.hub, job.number)
    assert again.ask(VICTIM, "fresh") is True
    assert all_reach_all(again)
    told = faults(lab, job.number)
    # Of the one in whose midst it died nobody can say more; nothing is told to be in force.
    assert (told[-1]["kind"], told[-1]["state"]) == (call, "unknown"), told
    assert told[-1]["note"]
    assert all(fault["state"] in ("healed", "unknown") for fault in told)


@pytest.mark.parametrize(("call", "point"), MANAGER)
def test_a_manager_that_dies_in_the_midst_of_a_fault_comes_back_and_heals_it(
    lab: Running, lasting_job: AgentJob, point: str, call: str
) -> None:
    job = lasting_job
    before = len(faults(lab, job.number))
    halt(lab, "manager", point)
    words = {"call": call, "words": [VICTIM], "more": {}}
    asked = job.hub.begin(job.number, "client[0]", "fault", **words)
    await_death(lab, "manager")
    lab.lab.start("manager")
    # Whatever the client was told, or asked again: it is written down, and can be healed.
    job.hub.end(asked)
    told = faults(lab, job.number)[before:]
    assert told[0]["kind"] == call
    assert told[0]["state"] in ("verified", "unknown", "healed"), told
    eventually(lambda: "healed" in job.call("heal"))
    job.there(VICTIM)
    assert all_reach_all(job)
    assert all(fault["state"] != "requested" for fault in faults(lab, job.number))
    assert lab.job(job.number)["attempt"] == 1


def test_a_lease_ends_though_the_manager_died_in_the_midst_of_the_fault(
    lab: Running, lasting_job: AgentJob
) -> None:
    job = lasting_job
    before = len(faults(lab, job.number))
    halt(lab, "manager", "with a fault done, before its answer")
    words = {"call": "disconnect", "words": [VICTIM], "more": {"for_": "4s"}}
    asked = job.hub.begin(job.number, "client[0]", "fault", **words)
    await_death(lab, "manager")
    master = [("udp", job.where["master"])]
    assert job.ask(VICTIM, "reach", ways=master, patience=0.3) == [False]
    eventually(lambda: job.ask(VICTIM, "reach", ways=master, patience=0.3) == [True])
    lab.lab.start("manager")
    job.hub.end(asked)
    assert all_reach_all(job)
    eventually(lambda: faults(lab, job.number)[before]["state"] == "healed")
