"""The manager is killed under real jobs, and started again: they go on, and end as they would."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs import JOBS, Running, eventually

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


#: A benchmark client that knows nothing of managers: one call after another, each of them done.
CLIENT = """
import time
from syndicate.client import sync

with sync.connect() as client:
    cut = client.disconnect("slave[0]")
    client.mark("cut")
    for round in range(12):
        killed = client.kill("slave[1]")
        assert killed.state == "verified", killed
        assert client.revive("slave[1]").state == "verified"
        time.sleep(0.5)
    assert client.fault(cut).state == "verified"
    client.mark("hurt")
    assert client.reconnect("slave[0]").state == "verified"
    assert client.fault("f1").state == "healed"
    client.finish(passed=True, score=12)
"""


def heard(where: dict[str, str], machine: str, other: str) -> bool:
    """Whether a machine has heard another one just now; asked from outside of the job."""
    with socket.create_connection((where[machine], 4455), 5) as connection:
        told = b"".join(iter(lambda: connection.recv(4096), b""))
    return float(json.loads(told)["heard"].get(where[other], 1e9)) < 0.3


def test_a_client_goes_on_hurting_its_job_and_a_cut_stays_in_force(lab: Running) -> None:
    source = lab.source("client:\n\t@/usr/bin/python3 client.py\n", **{"client.py": CLIENT})
    everybody = " ".join(v["address"] for v in lab.volunteers().values())
    words = ("--client", str(source), "--clients", "1", "--set", f"env.PEERS={everybody}")
    number = lab.submit(JOBS / "hurt", 3, *words)
    marks = lambda: lab.run("fault", "list", str(number), "-o", "json").out.count("kill")  # noqa: E731
    eventually(lambda: marks() >= 2)
    where = {m["machine"]: m["address"] for m in lab.job(number)["machines"]}
    for _ in range(2):
        lab.lab.kill("manager")
        time.sleep(0.5)
        assert not heard(where, "master", "slave[0]")
        lab.lab.start("manager")
        time.sleep(1)
        assert not heard(where, "master", "slave[0]")
    job = lab.wait(number, timeout=60)
    assert (job["outcome"], job["attempt"]) == ("passed", 1), (job, lab.run("logs", str(number)))
    listed = lab.run("fault", "list", str(number), "-o", "json").json()
    faults = listed["faults"] if isinstance(listed, dict) else listed
    assert [(f["kind"], f["state"]) for f in faults] == [
        ("disconnect", "healed"),
        *[("kill", "healed"), ("revive", "verified")] * 12,
        ("reconnect", "verified"),
    ]
    eventually(lab.all_free)
