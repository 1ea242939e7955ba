"""A sandbox proves itself clean in whatever directory an operator has put it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from syndicate.mounts import below
from syndicate.sandbox import leftovers
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.confine import syscalls
from tests.support.sandboxes import NAP, Kit, the_reactor, uids

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(30)]


@pytest.fixture(params=["Größe", "a b", "#1"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param) / "state"


@pytest.fixture
def kit(state: Path, tmp_path: Path) -> Iterator[Kit]:
    kit = Kit(ChrootSandbox(the_reactor(), state, "odd", uids(40), "root"), tmp_path)
    pytest_twisted.blockon(kit.sandbox.probe())
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


@pytest_twisted.ensureDeferred
async def test_the_processes_of_a_job_are_known_for_what_they_are(kit: Kit, state: Path) -> None:
    enclosure = await kit.prepare()
    run = await enclosure.start(["sleep", NAP], {}, kit.take)
    assert run.processes()
    assert leftovers.strays({enclosure.uid}, state) >= set(run.processes())
    await run.kill()
    await enclosure.destroy()


@pytest_twisted.ensureDeferred
async def test_a_mount_that_was_left_is_seen_and_swept(kit: Kit, state: Path) -> None:
    place = state / "jobs/old/root"
    place.mkdir(parents=True)
    syscalls.mount("old", str(place), "tmpfs")
    try:
        assert [mount.point for mount in below(state / "jobs")] == [place]
        await kit.sandbox.sweep()
        assert below(state / "jobs") == []
        assert not place.exists()
    finally:
        if place.is_mount():
            syscalls.unmount(str(place))
