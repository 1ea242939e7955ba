"""The door as a client finds it in the sandbox of a real volunteer, and as others do not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.doorsteps import NEEDS, Doorstep
from tests.support.sandboxes import Kit, the_reactor

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(60)]

INSIDE = "/run/syndicate"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("doors")


@pytest.fixture
def kit(directory: Path) -> Iterator[Kit]:
    state = directory / "state"
    kit = Kit(ChrootSandbox(the_reactor(), state, "doors", (41400, 41409), "root"), directory)
    pytest_twisted.blockon(kit.sandbox.probe())
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each example of a client did in a sandbox of its own, where there is no network."""
    state = tmp_path_factory.mktemp("offline")
    words = ["unshare", "--net", sys.executable, "-m", "tests.support.clients_offline", str(state)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.deadline(120)
@pytest.mark.parametrize("way", [*NEEDS, "twisted"])
def test_a_client_hurts_its_job_from_a_sandbox_without_network(
    told: dict[str, Any], way: str
) -> None:
    if told[way] is None:
        pytest.skip(f"there is no {NEEDS[way]} on this machine")
    found = told[way]
    assert found["faults"] == [["kill", ["slave[1]"]], ["revive", ["slave[1]"]]], found
    assert found["emptied"], found
    assert found["result"]["passed"] is True, found
    assert "Network is unreachable" in found["printed"]
    assert "1 interface" in found["printed"]


@pytest_twisted.ensureDeferred
async def test_who_is_no_client_has_no_door_and_nobody_can_change_one(
    kit: Kit, tmp_path: Path
) -> None:
    shown = tmp_path / "door"
    client = await kit.prepare("1.1.client-0", shares=((shown, INSIDE),))
    slave = await kit.prepare("1.1.slave-0")
    doorstep = await Doorstep.at(shown, client.uid)
    environment = doorstep.environment(INSIDE)
    tried = "rm -f {0}/http {0}/bin/* || true; touch {0}/x {0}/lib/x || true"
    await kit.shell(client, tried.format(INSIDE), **environment)
    assert "slave[0]" in await kit.shell(client, "syndicate-fault job", **environment)
    assert "not found" in await kit.shell(slave, "syndicate-fault job; ls /run", **environment)
    await doorstep.door.close()
    await client.destroy()
    await slave.destroy()
