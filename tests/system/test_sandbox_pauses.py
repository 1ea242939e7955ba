"""Pausing, with the control groups of either version; as root, who can use both."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from syndicate.domain.job import Limits
from syndicate.sandbox import hierarchies
from syndicate.sandbox.cgroups import remove_group
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.interface import Exit, IRun
from syndicate.sandbox.leftovers import thaw
from tests.support.sandboxes import (
    NAP,
    Kit,
    only_first_version,
    sleepers,
    the_reactor,
    uids,
    until,
)

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(30)]

#: Five that ignore signals in sessions of their own, whose parents have gone, beside the program.
TREE = (
    "for i in 1 2 3 4 5; do (trap '' TERM INT HUP; setsid sleep NAP >/dev/null 2>&1 &); done;"
    "exec sleep NAP"
).replace("NAP", NAP)


@pytest.fixture
def frozen(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is frozen by the first version, in a group with the name of the parameter."""
    first = [m for m in hierarchies.mounts() if m.version == 1]
    points = [m.point for m in first if "freezer" in m.controllers]
    if not points:
        pytest.skip("this host has no freezer of the first version")
    group = points[0] / f"{request.param}-test-{NAP}"
    group.mkdir()
    process = subprocess.Popen(["sleep", NAP])
    try:
        (group / "cgroup.procs").write_text(str(process.pid))
        (group / "freezer.state").write_text("FROZEN")
        yield process
    finally:
        process.kill()
        (group / "freezer.state").write_text("THAWED")
        process.wait()
        while not remove_group(group):
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("frozen", "ours"), [("syndicate", True), ("somebody", False)], indirect=["frozen"]
)
def test_only_what_jobs_left_frozen_is_let_go_on(
    frozen: subprocess.Popen[bytes], ours: bool
) -> None:
    frozen.kill()
    thaw([os.getpid(), frozen.pid])
    if ours:
        assert frozen.wait() == -signal.SIGKILL
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            frozen.wait(0.3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("pauses")


@pytest.fixture(params=["first", "second"])
def kit(
    request: pytest.FixtureRequest, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kit]:
    """A sandbox that finds the freezer in the control groups of one version."""
    versions = {m.version for m in hierarchies.mounts() if "freezer" in m.controllers}
    if {"first": 1, "second": 2}[request.param] not in versions:
        pytest.skip(f"this host has no freezer of the {request.param} version")
    if request.param == "first":
        only_first_version(lambda name, value: monkeypatch.setattr(hierarchies, name, value))
    sandbox = ChrootSandbox(the_reactor(), directory / "state", "pauses", uids(60), "root")
    kit = Kit(sandbox, directory)
    assert pytest_twisted.blockon(sandbox.probe()).freezer
    yield kit
    pytest_twisted.blockon(sandbox.close())


async def start(kit: Kit, enclosure: Any = None) -> IRun:
    """The tree, all of it up."""
    enclosure = enclosure or await kit.prepare()
    run: IRun = await enclosure.start(["sh", "-c", TREE], {}, kit.take)
    await until(lambda: len(sleepers()) == 6)
    return run


def processor_time(pids: list[int]) -> int:
    """What they have used together, in ticks."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(words[11]) + int(words[12]) for words in fields)


@pytest_twisted.ensureDeferred
async def test_the_processes_listed_are_just_those_of_the_job(kit: Kit) -> None:
    run = await start(kit)
    assert run.processes() == sorted(map(int, sleepers()))
    os.kill(run.processes()[0], signal.SIGKILL)
    await until(lambda: len(run.processes()) == 5 or not run.processes())
    await run.kill()
    assert run.processes() == []


@pytest_twisted.ensureDeferred
async def test_what_is_paused_gets_no_processor_time(kit: Kit) -> None:
    enclosure = await kit.prepare()
    run = await enclosure.start(["sh", "-c", "while :; do :; done & wait"], {}, kit.take)
    await until(lambda: processor_time(run.processes()) > 2)
    await run.pause()
    assert run.paused()
    before = processor_time(run.processes())
    await deferLater(the_reactor(), 0.3)
    assert processor_time(run.processes()) == before
    await run.resume()
    assert not run.paused()
    await until(lambda: processor_time(run.processes()) > before)
    await run.kill()


@pytest_twisted.ensureDeferred
async def test_killing_what_is_paused_leaves_none(kit: Kit) -> None:
    enclosure = await kit.prepare()
    for _ in range(3):
        run = await start(kit, enclosure)
        await run.pause()
        assert len(run.processes()) == 6
        assert await run.kill() == Exit(signal=9, killed=True)
        assert sleepers() == []
        assert run.processes() == []
        assert not run.paused()


@pytest_twisted.ensureDeferred
async def test_pausing_what_is_being_killed_does_not_keep_it_alive(kit: Kit) -> None:
    run = await start(kit)
    first, killing, second = run.pause(), run.kill(), run.pause()
    assert await killing == Exit(signal=9, killed=True)
    await first
    await second
    assert sleepers() == []
    assert not run.paused()


@pytest_twisted.ensureDeferred
async def test_pausing_what_ends_meanwhile_is_no_error(kit: Kit) -> None:
    enclosure = await kit.prepare()
    for delay in range(8):
        script = f"sleep 0.00{delay}; exit 3"
        run = await enclosure.start(["sh", "-c", script], {}, kit.take)
        await run.pause()
        await run.resume()
        assert await run.wait() == Exit(code=3)
        await run.pause()
        assert not run.paused()


@pytest_twisted.ensureDeferred
async def test_closing_ends_what_is_paused(kit: Kit) -> None:
    run = await start(kit)
    await run.pause()
    await kit.sandbox.close()
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_a_limit_ends_what_is_paused(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(wall=1, disk=16 << 20))
    run = await enclosure.start(["sh", "-c", TREE], {}, kit.take)
    await run.pause()
    assert await run.wait() == Exit(signal=9, limit="wall")
    assert sleepers() == []
