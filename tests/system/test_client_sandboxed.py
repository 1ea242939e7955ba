"""The door as a client finds it in the sandbox of a real volunteer, and as others do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.doorsteps import EXAMPLES, WORDS, Doorstep
from tests.support.sandboxes import Kit, the_reactor
from tests.support.tarballs import source

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


def tarball_of(example: str, directory: Path) -> tuple[Path, str]:
    place = directory / f"{example}.tar.gz"
    files = {path.name: path.read_bytes() for path in (EXAMPLES / example).iterdir()}
    return place, source(place, files)


@pytest.mark.parametrize("example", ["python", "shell", "c"])
@pytest_twisted.ensureDeferred
async def test_a_client_hurts_its_job_from_its_sandbox(
    kit: Kit, directory: Path, tmp_path: Path, example: str
) -> None:
    place, sha256 = tarball_of(example, directory)
    shown = tmp_path / "door"
    enclosure = await kit.prepare(
        "1.1.client-0", source=place, sha256=sha256, shares=((shown, INSIDE),)
    )
    doorstep = await Doorstep.at(shown, enclosure.uid)
    words = " ".join(WORDS)
    printed = await kit.shell(enclosure, f"make {words} 2>&1", **doorstep.environment(INSIDE))
    await doorstep.door.close()
    await enclosure.destroy()
    assert doorstep.handle.result is not None, printed
    doorstep.was_hurt("")


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
