"""What is left when something dies that should not: nothing, or what the next start removes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from syndicate.domain.errors import NotClean
from syndicate.mounts import below, loops_below
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.confine import syscalls
from syndicate.sandbox.host import tag_of
from syndicate.sandbox.interface import Exit
from tests.support.sandbox_daemon import UIDS
from tests.support.sandboxes import NAP, Kit, sleepers, the_reactor, until

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(30)]

REPOSITORY = Path(__file__).parents[2]


class Daemon(ProcessProtocol):
    """The other end of `tests.support.sandbox_daemon`."""

    def __init__(self) -> None:
        self.said = b""
        self.up: Deferred[None] = Deferred()
        self.down: Deferred[None] = Deferred()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.said += data  # in any pieces
        if not self.up.called and self.said.endswith(b"up\n"):
            self.up.callback(None)

    def processEnded(self, reason: Failure) -> None:
        if not self.up.called:
            self.up.errback(reason)
        self.down.callback(None)


async def start(
    directory: Path, mode: str = "root", *words: str
) -> tuple[IProcessTransport, Daemon]:
    """A daemon with a job that runs."""
    daemon = Daemon()
    argv = [sys.executable, "-m", "tests.support.sandbox_daemon", str(directory), mode, *words]
    process = the_reactor().spawnProcess(
        daemon, argv[0], argv, env=dict(os.environ), path=str(REPOSITORY)
    )
    await daemon.up
    return process, daemon


async def until_none(what: Callable[[], object]) -> None:
    """Wait for what is ending."""
    await until(lambda: not what())


def launchers(daemon: int) -> list[str]:
    """The launchers of a daemon, which are told its number."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"/launcher.py") for word in words) and b"%d" % daemon in words:
            found.append(place.parent.name)
    return found


def sleeper_of(uid: int) -> subprocess.Popen[bytes]:
    """A process of that user, outside of any sandbox."""
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.Popen([*become, "sleep", NAP])


def groups_below(state: Path) -> list[Path]:
    """The control groups of the sandbox of a state directory."""
    wanted = f"syndicate-{tag_of('doomed', state)}"
    # Not by a pattern: it fails when a group of somebody else's goes away while it is looked for.
    places = os.walk("/sys/fs/cgroup")
    return [Path(place, wanted) for place, names, _ in places if wanted in names]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """The sandbox of the daemon's successor."""
    kit = Kit(ChrootSandbox(the_reactor(), tmp_path / "state", "doomed", UIDS), tmp_path)
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


@pytest.mark.parametrize("mode", ["root", "user"])
@pytest_twisted.ensureDeferred
async def test_a_daemon_killed_takes_its_jobs_along(tmp_path: Path, kit: Kit, mode: str) -> None:
    process, daemon = await start(tmp_path, mode)
    number = process.pid
    await until(lambda: len(sleepers()) == 3)
    assert len(launchers(number)) >= 2
    process.signalProcess("KILL")
    await daemon.down
    await until_none(sleepers)
    await until_none(lambda: launchers(number))
    await until_none(lambda: list(loops_below(tmp_path)))
    assert below(tmp_path) == []
    assert (tmp_path / "state/jobs/1.1.master").exists()
    assert mode == "user" or groups_below(tmp_path / "state")

    assert await kit.sandbox.sweep() >= 2
    assert await kit.sandbox.sweep() == 0
    assert groups_below(tmp_path / "state") == []
    assert os.listdir(tmp_path / "state/jobs") == []
    assert os.listdir(tmp_path / "state/trash") == []
    assert await kit.run(await kit.prepare(), ("exit", 3)) == Exit(code=3)


@pytest.mark.parametrize("version", ["first", "second"])
@pytest_twisted.ensureDeferred
async def test_the_jobs_that_a_killed_daemon_had_paused_are_swept(
    tmp_path: Path, kit: Kit, version: str
) -> None:
    process, daemon = await start(tmp_path, "root", "paused", version)
    process.signalProcess("KILL")
    await daemon.down
    if version == "first":  # where what is frozen cannot die
        assert len(sleepers()) == 3
    assert await kit.sandbox.sweep() >= 2
    assert sleepers() == []
    assert groups_below(tmp_path / "state") == []
    assert below(tmp_path) == []
    assert list(loops_below(tmp_path)) == []
    assert await kit.sandbox.sweep() == 0
    assert await kit.run(await kit.prepare(), ("exit", 3)) == Exit(code=3)


@pytest_twisted.ensureDeferred
async def test_a_launcher_killed_ends_its_run_and_no_process_is_left(kit: Kit) -> None:
    enclosure = await kit.prepare()
    nap = f"exec >/dev/null 2>&1; sleep {NAP} & sleep {NAP}"
    script = f"setsid sh -c '{nap}' & exec sleep {NAP}"
    run = await enclosure.start(["sh", "-c", script], {}, kit.take)
    await until(lambda: len(sleepers()) == 3)
    grandparents = {_parent(_parent(int(pid))) for pid in sleepers()}
    (launcher,) = grandparents & set(map(int, launchers(os.getpid())))
    os.kill(launcher, signal.SIGKILL)
    assert await run.wait() == Exit(signal=9)
    assert sleepers() == []
    await enclosure.destroy()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest_twisted.ensureDeferred
async def test_sweeping_leaves_the_neighbours_alone(tmp_path: Path, kit: Kit) -> None:
    # The same name and even the same user ids, as two labs on one host may have.
    neighbour = Kit(ChrootSandbox(the_reactor(), tmp_path / "other", "doomed", UIDS), tmp_path)
    enclosure = await neighbour.prepare()
    run = await enclosure.start(["sleep", NAP], {}, neighbour.take)
    try:
        assert await kit.sandbox.sweep() == 0
        await until(lambda: len(sleepers()) == 1)
        mine = await kit.prepare()
        assert await kit.shell(mine, "id -u") == f"{mine.uid}\n"
        assert mine.uid != enclosure.uid
        await mine.destroy()
        assert len(sleepers()) == 1
        assert await run.kill() == Exit(signal=9, killed=True)
    finally:
        await neighbour.sandbox.close()


@pytest_twisted.ensureDeferred
async def test_stray_processes_of_the_volunteers_users_are_swept(kit: Kit) -> None:
    with sleeper_of(UIDS[1]) as stray:
        await until(lambda: len(sleepers()) == 1)
        assert await kit.sandbox.sweep() == 1
        assert stray.wait() == -signal.SIGKILL


@pytest_twisted.ensureDeferred
async def test_a_mount_that_was_left_is_swept(tmp_path: Path, kit: Kit) -> None:
    place = tmp_path / "state/jobs/old/root"
    place.mkdir(parents=True)
    syscalls.mount("old", str(place), "tmpfs")
    assert await kit.sandbox.sweep() == 2
    assert below(tmp_path) == []
    assert not place.exists()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_removed_is_told_and_removed_later(kit: Kit, tmp_path: Path) -> None:
    enclosure = await kit.prepare()
    place = tmp_path / "state/jobs/1.1.master/root"
    syscalls.mount("stuck", str(place), "tmpfs")
    with pytest.raises(NotClean, match="root"):
        await enclosure.destroy()
    (mounted,) = below(tmp_path)
    syscalls.unmount(str(mounted.point))
    await enclosure.destroy()
    assert os.listdir(tmp_path / "state/jobs") == os.listdir(tmp_path / "state/trash") == []


@pytest_twisted.ensureDeferred
async def test_a_process_that_escaped_would_be_found(kit: Kit) -> None:
    enclosure = await kit.prepare()
    with sleeper_of(UIDS[0]) as escaped:
        await until(lambda: len(sleepers()) == 1)
        destroying = enclosure.destroy()
        await deferLater(the_reactor(), 0.3)
        assert not destroying.called
        escaped.kill()
        await destroying
