"""What a job has around it that others made: shared directories, and control groups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from syndicate.sandbox import hierarchies
from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import NAP, Kit, only_first_version, the_reactor, uids

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(30)]

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("surroundings")


def test_without_any_network_the_socket_in_a_shared_directory_can_be_used(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.support.sandbox_offline", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=25,
    )
    said = done.stdout.splitlines()
    # Loopback, and that is down. The directory may be passed through, but not be listed.
    assert said[:4] == [
        "1 interface",
        "Network is unreachable",
        "HELLO 0o600",
        "ls: cannot open directory '/run/own': Permission denied",
    ]
    assert "ls: cannot access '/run/own': No such file or directory" in said[4:]


@pytest_twisted.ensureDeferred
async def test_a_share_is_there_again_after_the_job_has_removed_its_place(
    directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("shared\n")
    os.chmod(tmp_path, 0o755)
    sandbox = ChrootSandbox(the_reactor(), directory / "state", "shares", uids(80), "root")
    kit = Kit(sandbox, directory)
    try:
        enclosure = await kit.prepare(shares=((tmp_path, "/run/own"), (tmp_path, "/run/other")))
        assert await kit.shell(enclosure, "cat /run/own/file; mv /run /moved") == "shared\n"
        script = "cat /run/own/file /run/other/file; rm /run/own/file || ls -A /moved/own"
        assert "shared\nshared\nrm" in await kit.shell(enclosure, script)
        assert await kit.shell(enclosure, "rm -r /moved; ln -s /etc /new; ls /run/own") == "file\n"
    finally:
        await sandbox.close()


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of somebody else's."""
    points = [mount.point for mount in hierarchies.mounts() if mount.version == 2]
    if not points:
        pytest.skip("this host has no control groups of the second version")
    path = points[0] / f"syndicate-test-{NAP}"
    path.mkdir()
    yield path
    path.rmdir()  # which works only if the sandbox has left nothing in it


def below(group: Path) -> list[Path]:
    """The control groups in a control group."""
    return [path for path in group.iterdir() if path.is_dir()]


def processes_below(group: Path) -> set[int]:
    """The processes in a control group and those in it."""
    return {int(pid) for path in group.rglob("cgroup.procs") for pid in path.read_text().split()}


def frozen_below(home: Path) -> subprocess.Popen[bytes]:
    """A process that is frozen in a group of its own."""
    left = subprocess.Popen(["sleep", NAP])
    (home / "left").mkdir()
    (home / "left/cgroup.procs").write_text(str(left.pid))
    (home / "left/cgroup.freeze").write_text("1")
    return left


@pytest.mark.parametrize("version", ["first", "both"])
@pytest_twisted.ensureDeferred
async def test_every_process_is_in_the_groups_of_others_from_its_first_moment(
    directory: Path, group: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version == "first":  # nothing of ours is made in the second, so theirs is joined itself
        only_first_version(lambda name, value: monkeypatch.setattr(hierarchies, name, value))
    sandbox = ChrootSandbox(
        the_reactor(), directory / "state", "groups", uids(90), "root", groups=lambda: (group,)
    )
    kit = Kit(sandbox, directory)
    try:
        assert (await sandbox.probe()).freezer
        enclosure = await kit.prepare()
        for _ in range(4):  # one more than there are spare launchers
            place = (
                (await kit.shell(enclosure, "grep ^0:: /proc/self/cgroup"))
                .strip()
                .removeprefix("0::/")
            )
            inside = Path(place).relative_to(group.name).parts
            assert len(inside) == (0 if version == "first" else 2)
        run = await enclosure.start(["sleep", NAP], {}, kit.take)
        assert set(run.processes()) < processes_below(group)  # and the launcher and its like
        await run.pause()
        assert run.paused()
        await run.kill()
    finally:
        await sandbox.close()
    assert below(group) == []


@pytest_twisted.ensureDeferred
async def test_what_a_crash_left_within_the_groups_of_others_is_swept(
    directory: Path, group: Path
) -> None:
    state = directory / "swept"
    sandbox = ChrootSandbox(
        the_reactor(), state, "groups", uids(90), "root", groups=lambda: (group,)
    )
    await sandbox.probe()
    left = frozen_below(below(group)[0])
    assert await sandbox.sweep() == 2
    assert left.wait() == -signal.SIGKILL
    await sandbox.close()
    assert below(group) == []
