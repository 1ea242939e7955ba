"""The manager is killed under real jobs, and started again: they go on, and end as they would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import Running, eventually

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def mapreduce(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's job with a corpus of seconds."""
    directory = tmp_path_factory.mktemp("mapreduce") / "source"
    shutil.copytree(EXAMPLES / "mapreduce", directory)
    makefile = directory / "Makefile"
    small = makefile.read_text().replace("/usr/lib/python3.11\n", "/usr/lib/python3.11/json\n")
    makefile.write_text(small.replace("master:\n", "master:\n\t@sleep 2\n"))
    return directory


def reached(lab: Running, number: int, phase: Callable[[dict[str, Any]], bool]) -> None:
    eventually(lambda: phase(lab.job(number)))


PHASES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "at once": lambda job: True,
    "reserved": lambda job: job["state"] != "queued",
    "all run": lambda job: [m["state"] for m in job["machines"]] == ["running"] * 6,
    "some ended": lambda job: any(m["state"] == "exited" for m in job["machines"]),
}


@pytest.mark.parametrize("phase", PHASES)
def test_the_demos_job_survives_the_death_of_the_manager(
    lab: Running, mapreduce: Path, phase: str
) -> None:
    number = lab.submit(mapreduce, 6)
    reached(lab, number, PHASES[phase])
    lab.lab.kill("manager")
    lab.lab.start("manager")
    job = lab.wait(number, timeout=60)
    assert (job["outcome"], job["attempt"]) == ("passed", 1), job
    eventually(lab.all_free)
    fetched = lab.directory / f"job-{number}"
    done = lab.run("fetch", str(number), "-d", str(fetched))
    assert done.code == 0, done
    (result,) = fetched.rglob("master/result.json")
    assert json.loads(result.read_text())
