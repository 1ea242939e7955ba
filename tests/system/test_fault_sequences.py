"""Random sequences of faults against a job that probes all its links a hundred times a second.

``--fault-sequences 200`` runs as many; see ``CONTRIBUTING.rst``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support import agents
from tests.support.agents import AgentJob, Hub
from tests.support.fault_model import Disagreement, Step
from tests.support.fault_sequences import RATE, Move, Runner, moves
from tests.support.labs import Running, eventually, up
from tests.support.leaky_volunteer import LeakyDaemons

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(3600)]

MACHINES = ("master", "slave[0]", "slave[1]", "slave[2]", "client[0]")


@pytest.fixture(scope="module")
def daemons() -> LeakyDaemons:
    return LeakyDaemons()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, daemons: LeakyDaemons) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("lab"), len(MACHINES), daemons=daemons) as running:
        yield running


@pytest.fixture
def job(lab: Running, daemons: LeakyDaemons) -> Iterator[AgentJob]:
    hub = Hub(lab.lab.description.gateway)
    made = agents.start(lab, hub, 4, 1)
    assert tuple(made.where) == MACHINES
    yield made
    lab.run("cancel", str(made.number), "--yes")
    lab.wait(made.number)
    eventually(lab.all_free)
    hub.close()


def test_random_sequences_of_faults_do_just_what_the_model_says(
    request: pytest.FixtureRequest, lab: Running, job: AgentJob
) -> None:
    count: int = request.config.getoption("--fault-sequences")
    runner = Runner(job, job.hub.probe(job.number, job.where, RATE))
    done = 0
    began = time.monotonic()

    @hypothesis.settings(
        max_examples=count,
        database=None,
        # What is found once on real hosts is not found again by trying less.
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(moves(MACHINES))
    def agree(sequence: list[Move]) -> None:
        nonlocal done
        runner.run(sequence)
        done += 1

    agree()
    took = time.monotonic() - began
    print(
        f"{done} sequences, {runner.steps} steps, {runner.messages} messages in {took:.0f} s;"
        f" all flowed again within {runner.slowest:.2f} s"
    )
    assert done == count
    listed = lab.run("fault", "list", str(job.number), "-o", "json").json()
    faults = listed["faults"] if isinstance(listed, dict) else listed
    by_state: dict[str, set[str]] = {}
    for fault in faults:
        by_state.setdefault(fault["state"], set()).add(fault["kind"])
    # Nothing is in force; refused were revivals of what ran, and pauses of what did not.
    assert by_state.keys() <= {"verified", "healed", "failed"}
    assert by_state["verified"] <= {"revive", "reconnect", "resume", "heal"}
    assert by_state.get("failed", set()) <= {"revive", "pause"}


def test_a_link_that_does_not_come_up_again_would_be_noticed(job: AgentJob) -> None:
    runner = Runner(job, job.hub.probe(job.number, job.where, RATE), bound=1.0)
    job.call("disconnect", "slave[1]")
    with pytest.raises(Disagreement, match=r"nothing came by .*'slave\[1\]', 'master'"):
        runner.run([(Step("wait"),)])


def test_a_guard_that_leaves_one_direction_open_would_be_noticed(
    lab: Running, daemons: LeakyDaemons, request: pytest.FixtureRequest
) -> None:
    lab.lab.kill("v1")
    daemons.leaks.add("v1")
    lab.lab.start("v1")
    eventually(lab.all_free)
    job: AgentJob = request.getfixturevalue("job")
    runner = Runner(job, job.hub.probe(job.number, job.where, RATE))
    leaky = next(name for name, volunteer in job.hosts.items() if volunteer == "v1")
    with pytest.raises(Disagreement) as caught:
        runner.run([(Step("disconnect", leaky),)])
    seen = str(caught.value)
    assert f"udp {leaky} > " in seen
    # The other direction is cut by the peers.
    assert f"> {leaky} " not in seen
