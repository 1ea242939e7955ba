"""Faults on real daemons, with real packets and real processes: by hand, and by a client."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import agents
from tests.support.agents import Hub
from tests.support.labs import JOBS, Running, eventually, processes_of

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

PORT = 4455


def addresses(job: dict[str, Any]) -> dict[str, str]:
    return {machine["machine"]: machine["address"] for machine in job["machines"]}


def asked(address: str) -> dict[str, Any]:
    """What a machine has heard, asked over TCP from outside the job."""
    with socket.create_connection((address, PORT), 5) as connection:
        told = b""
        while piece := connection.recv(4096):
            told += piece
    return dict(json.loads(told))


def hears(address: str, other: str) -> bool:
    """Whether a machine has heard another one just now."""
    return float(asked(address)["heard"].get(other, 1e9)) < 0.3


@pytest.fixture
def talking(lab: Running) -> Iterator[tuple[int, dict[str, str]]]:
    """A job of three machines that all hear each other; its number, and their addresses."""
    everybody = " ".join(v["address"] for v in lab.volunteers().values())
    number = lab.submit(JOBS / "hurt", 3, "--set", f"env.PEERS={everybody}")
    where = addresses(lab.wait(number, "running"))
    eventually(lambda: all(_reachable(address) for address in where.values()))
    eventually(lambda: hears(where["master"], where["slave[1]"]))
    yield number, where
    lab.run("cancel", str(number), "--yes")
    lab.wait(number)
    eventually(lab.all_free)


def _reachable(address: str) -> bool:
    try:
        asked(address)
    except OSError:
        return False
    return True


def fault(lab: Running, *words: str) -> None:
    done = lab.run("fault", *words)
    assert done.code == 0, done


def test_a_kill_leaves_no_process_and_a_revival_keeps_or_empties_the_disk(
    lab: Running, talking: tuple[int, dict[str, str]]
) -> None:
    number, where = talking
    job = lab.job(number)
    volunteer = next(m["volunteer"] for m in job["machines"] if m["machine"] == "slave[0]")
    uids = lab.lab.host(volunteer).uids
    assert uids is not None
    for words, fresh in (((), False), (("--no-disk",), True)):
        fault(lab, "kill", str(number), "slave[0]")
        assert processes_of(range(uids[0], uids[1] + 1)) == []
        assert not _reachable(where["slave[0]"])
        fault(lab, "revive", str(number), "slave[0]", *words)
        eventually(lambda: _reachable(where["slave[0]"]))
        assert asked(where["slave[0]"])["fresh"] is fresh
    assert lab.job(number)["state"] == "running"


def test_a_kill_for_a_moment_is_healed_and_nothing_of_it_is_said_to_have_failed(
    lab: Running, talking: tuple[int, dict[str, str]]
) -> None:
    """Whoever revives first, the volunteer whose lease is over or the manager who looks at it."""
    number, where = talking
    for span in ("1ms", "5ms", "20ms", "1ms", "5ms", "20ms"):
        fault(lab, "kill", str(number), "slave[0]", "--for", span)
        eventually(lambda: _reachable(where["slave[0]"]))

    def told() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = lab.get(f"/v1/jobs/{number}/faults")["faults"]
        return found

    eventually(lambda: all(f["state"] == "healed" for f in told() if f["kind"] == "kill"))
    assert {f["state"] for f in told()} <= {"healed", "verified"}, told()
    assert len([f for f in told() if f["kind"] == "kill"]) == 6
    assert lab.job(number)["attempt"] == 1


def test_a_disconnected_machine_hears_nobody_and_nobody_hears_it_until_it_is_reconnected(
    lab: Running, talking: tuple[int, dict[str, str]]
) -> None:
    number, where = talking
    fault(lab, "disconnect", str(number), "slave[0]")
    time.sleep(0.6)
    assert not hears(where["slave[0]"], where["master"])
    assert not hears(where["master"], where["slave[0]"])
    # The others hear each other, and the volunteer its manager.
    assert hears(where["master"], where["slave[1]"])
    assert hears(where["slave[1]"], where["master"])
    assert all(v["state"] != "gone" for v in lab.volunteers().values())
    fault(lab, "reconnect", str(number), "slave[0]")
    time.sleep(0.6)
    assert hears(where["slave[0]"], where["master"])
    assert hears(where["master"], where["slave[0]"])
    listed = lab.run("fault", "list", str(number), "-o", "json").json()
    faults = listed["faults"] if isinstance(listed, dict) else listed
    assert [(f["kind"], f["state"]) for f in faults] == [
        ("disconnect", "healed"),
        ("reconnect", "verified"),
    ]


def test_a_lease_heals_a_cut_by_itself(lab: Running, talking: tuple[int, dict[str, str]]) -> None:
    number, where = talking
    fault(lab, "disconnect", str(number), "slave[1]", "--for", "1s")
    time.sleep(0.5)
    assert not hears(where["master"], where["slave[1]"])
    time.sleep(1.5)
    assert hears(where["master"], where["slave[1]"])


def test_a_paused_machine_stands_still_until_it_is_resumed(
    lab: Running, talking: tuple[int, dict[str, str]]
) -> None:
    number, where = talking
    fault(lab, "pause", str(number), "slave[0]")
    time.sleep(0.6)
    assert not hears(where["master"], where["slave[0]"])
    fault(lab, "resume", str(number), "slave[0]")
    time.sleep(0.6)
    assert hears(where["master"], where["slave[0]"])


CLIENT = """\
client:
\tset -e; \\
\tsyndicate-fault job -o json; \\
\tsyndicate-fault kill 'slave[0]' -o json; \\
\tsyndicate-fault revive 'slave[0]' --no-disk; \\
\tsyndicate-fault disconnect master; \\
\tsyndicate-fault reconnect master; \\
\tsyndicate-fault mark done; \\
\tsyndicate-fault finish --passed --score 7
"""


def test_a_client_in_its_sandbox_hurts_its_own_job_and_passes(lab: Running) -> None:
    client = lab.source(CLIENT)
    everybody = " ".join(v["address"] for v in lab.volunteers().values())
    number = lab.submit(
        JOBS / "hurt", 2, "--set", f"env.PEERS={everybody}", "--client", str(client)
    )
    job = lab.wait(number)
    logs = lab.run("logs", str(number)).out
    assert job["outcome"] == "passed", (job["reason"], logs)
    results = {m["machine"]: m["result"] for m in job["machines"]}
    assert results["client[0]"]["score"] == 7
    listed = lab.run("fault", "list", str(number), "-o", "json").json()
    faults = listed["faults"] if isinstance(listed, dict) else listed
    assert [f["kind"] for f in faults] == ["kill", "revive", "disconnect", "reconnect"]
    assert {f["by"] for f in faults} == {"client[0]"}
    assert {f["state"] for f in faults} <= {"verified", "healed"}
    eventually(lab.all_free)
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    assert "syn" not in tables.stdout


def test_clients_kill_each_other_and_themselves(lab: Running) -> None:
    hub = Hub(lab.lab.description.gateway)
    job = agents.start(lab, hub, 1, 2)
    uids = lab.lab.host(job.hosts["client[1]"]).uids
    assert uids is not None
    users = range(uids[0], uids[1] + 1)
    try:
        # Another client: dead with all it started, and back on a disk that is as it was made.
        assert job.ask("client[1]", "fresh") is True
        job.ask("client[1]", "children", script="setsid sleep 1000 >/dev/null 2>&1 & echo")
        killed = job.call("kill", "client[1]")
        assert (killed["state"], killed["by"]) == ("verified", "client[0]")
        assert processes_of(users) == []
        assert job.call("revive", "client[1]", with_disk=False)["state"] == "verified"
        job.there("client[1]")
        assert job.ask("client[1]", "fresh") is True
        # Itself: the call dies with it, the fault does not, and the other one is told.
        own = hub.begin(job.number, "client[1]", "fault", call="kill", words=["client[1]"], more={})
        assert hub.end(own) is None
        by_itself = next(f for f in job.call("faults") if f["by"] == "client[1]")
        eventually(lambda: job.call("fault", by_itself["id"])["state"] == "verified")
        assert processes_of(users) == []
        assert job.call("finish", passed=True)["passed"]
        ended = lab.wait(job.number)
        # One that was killed before its Finish counts as finished, and not as passed.
        assert ended["outcome"] == "failed"
        assert "client[1]" in ended["reason"]
    finally:
        lab.run("cancel", str(job.number), "--yes")
        lab.wait(job.number)
        eventually(lab.all_free)
        hub.close()
