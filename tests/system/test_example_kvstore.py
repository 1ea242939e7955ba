"""The key-value store and its benchmark by plain ``make`` on this machine, without Syndicate:
machines on loopback that are really killed, wiped and cut.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from syndicate.client.kit import lay_out
from tests.support.by_hand import Job, Plan, running

EXAMPLES = Path(__file__).parents[2] / "examples"

#: Seconds of a phase here; a run takes some fifteen times that and the store's own time outs.
PHASE = 0.5
PATIENCE = 60.0

pytestmark = [pytest.mark.deadline(PATIENCE + 20)]


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    def make(*words: str) -> Plan:
        if shutil.which("make") is None or not Path("/usr/bin/python3").exists():
            pytest.skip("needs make and /usr/bin/python3")
        inside = tmp_path / "run"
        inside.mkdir()
        lay_out(inside)
        return Plan(
            place=tmp_path / "job",
            source=EXAMPLES / "kvstore",
            client=EXAMPLES / "kvbench",
            library=inside / "lib",
            words=words,
            client_words=(f"PHASE={PHASE}",),
        )

    return make


def run(plan: Plan) -> Job:
    """Run a job until its clients are done; tells all that was printed if they are not."""
    with running(plan) as job:
        try:
            job.wait(PATIENCE)
        except TimeoutError as error:
            raise AssertionError(job.logs()) from error
    assert job.results.keys() == {"client[0]", "client[1]"}, job.logs()
    return job


def test_the_store_loses_nothing_under_all_faults(plan: Callable[..., Plan]) -> None:
    job = run(plan())
    for result in job.results.values():
        assert result["passed"], job.logs()
        assert 0 < result["score"] <= 100
    assert [(fault["kind"], fault["machines"]) for fault in job.faults] == [
        ("kill", ["slave[0]"]),
        ("revive", ["slave[0]"]),
        ("kill", ["slave[1]"]),
        ("revive", ["slave[1]"]),
        ("disconnect", ["slave[0]"]),
        ("reconnect", ["slave[0]"]),
        ("kill", ["master"]),
        ("revive", ["master"]),
        ("disconnect", ["master"]),
        ("kill", ["master"]),
        ("revive", ["master"]),
        ("reconnect", ["master"]),
    ]
    assert job.marks[0] == "whole"
    assert job.marks[-1] == "over"
    told = job.logs()
    assert "took a whole copy" in told  # by the backup that lost its disk
    assert "recovered" in told  # by the master that lost its disk
    for op in ("put", "get"):
        outcomes = {sample["ok"] for sample in job.samples if sample["op"] == op}
        assert outcomes == {True, False}, op  # it was hurt, and it went on


def test_a_store_that_acknowledges_early_is_caught_by_every_client(
    plan: Callable[..., Plan],
) -> None:
    job = run(plan("ACKNOWLEDGE=early"))
    for result in job.results.values():
        assert not result["passed"], job.logs()
        assert "keys that lost an acknowledged write" in result["notes"]
    by_leader = job.results["client[0]"]["notes"]
    assert "writes acknowledged while no backup could be reached" in by_leader


def test_a_benchmark_whose_other_client_dies_says_so(plan: Callable[..., Plan]) -> None:
    with running(plan()) as job:
        while not job.faults:
            job.pause()
        job.machines["client[1]"].kill()
        job.wait(PATIENCE)
        assert not job.results["client[0]"]["passed"]
        assert "the benchmark itself was broken" in job.results["client[0]"]["notes"]
