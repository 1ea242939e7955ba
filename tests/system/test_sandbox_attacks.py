"""Each limit is exceeded from inside a real sandbox, while a neighbour and the daemon's reactor are
watched: they must not notice, and the end must say which limit it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.task import LoopingCall

from syndicate.domain.errors import TooLarge
from syndicate.domain.job import Limits
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.interface import Exit
from tests.support.sandboxes import Kit, the_reactor, uids, until
from tests.support.tarballs import source

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(60)]

#: Small enough that an attack is over soon.
SMALL = Limits(
    wall=30, cpu=30, memory=96 << 20, pids=50, files=64, output=1 << 20, disk=24 << 20, inodes=500
)
#: Seconds without a sign of life that count as having noticed; others use this machine as well.
TOO_LONG = 3.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("attacks")


def _open(directory: Path, mode: str) -> Iterator[Kit]:
    state = directory / mode
    kit = Kit(ChrootSandbox(the_reactor(), state, "attacks", uids(60), mode), directory)
    pytest_twisted.blockon(kit.sandbox.probe())
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


@pytest.fixture
def kit(directory: Path) -> Iterator[Kit]:
    """A sandbox with root."""
    yield from _open(directory, "root")


@pytest.fixture
def user_kit(directory: Path) -> Iterator[Kit]:
    """One in which a disk is a plain directory of the host."""
    yield from _open(directory, "user")


@attrs.define
class Watch:
    """What the neighbours saw."""

    #: The longest that the reactor was held up, and that the neighbour did not beat, in seconds.
    reactor: float = 0.0
    neighbour: float = 0.0
    beats: int = 0
    _last_turn: float = attrs.field(factory=time.monotonic)
    _last_beat: float = attrs.field(factory=time.monotonic)

    def turn(self) -> None:
        now = time.monotonic()
        self.reactor, self._last_turn = max(self.reactor, now - self._last_turn), now
        self.neighbour = max(self.neighbour, now - self._last_beat)

    def beat(self, stream: int, data: bytes) -> None:
        self._last_beat = time.monotonic()
        self.beats += 1


@asynccontextmanager
async def watched(kit: Kit) -> AsyncIterator[Watch]:
    """While it lasts a neighbour writes, forks and opens files, and the reactor turns."""
    enclosure = await kit.prepare("2.1.master", limits=SMALL)
    watch = Watch()
    beat = "while :; do date > /tmp/x && cat /tmp/x; sleep 0.05; done"
    run = await enclosure.start(["sh", "-c", beat], {}, watch.beat)
    await until(lambda: watch.beats)
    turns = LoopingCall(watch.turn)
    turns.clock = the_reactor()
    turns.start(0.02)
    yield watch
    turns.stop()
    beats = watch.beats
    await until(lambda: watch.beats > beats + 1)
    assert (await run.kill()).killed
    await enclosure.destroy()
    assert watch.reactor < TOO_LONG
    assert watch.neighbour < TOO_LONG


async def attacked(kit: Kit, script: str, python: bool = False, **limits: Any) -> Exit:
    """How a script ends that goes over a limit."""
    place = kit.directory / "attack.tar.gz"
    makefile = f"master:\n\t{'/usr/bin/python3' if python else 'sh'} attack\n"
    sha256 = source(place, {"Makefile": makefile, "attack": script})
    plot = {"source": place, "sha256": sha256, "limits": attrs.evolve(SMALL, **limits)}
    kit.printed = {1: b"", 2: b""}
    async with watched(kit):
        enclosure = await kit.prepare("1.1.master", **plot)
        run = await enclosure.start(["make", "-s", "master"], {}, kit.take)
        ended: Exit = await run.wait()
        await enclosure.destroy()
    return ended


FORKS = """
import os, time
def bomb():
    while True:
        if os.fork() == 0:
            try:
                bomb()
            except OSError:
                time.sleep(60)
bomb()
"""
SPINS = "for i in 1 2 3 4; do (while :; do :; done) & done; wait"
SPAMS = "yes & yes >&2 & cat /dev/zero"
FILL_SHM = "for i in 1 2 3 4 5; do head -c 20M /dev/zero > /dev/shm/$i || exit 1; done"


@pytest.mark.parametrize(
    ("script", "limits", "limit"),
    [
        (SPINS, {"cpu": 1.0}, "cpu"),
        (SPAMS, {}, "output"),
        ("sleep 60", {"wall": 0.5}, "wall"),
        ("head -c 200M /dev/zero | tail", {}, "memory"),
        (FILL_SHM, {"memory": 32 << 20}, "memory"),
    ],
    ids=["cpu spin", "log spam", "sleep", "memory hog", "memory files"],
)
@pytest_twisted.ensureDeferred
async def test_what_a_limit_ends_says_which(
    kit: Kit, script: str, limits: dict[str, Any], limit: str
) -> None:
    ended = await attacked(kit, script, **limits)
    assert ended.limit == limit
    assert not ended.killed
    assert ended.short == ()


@pytest.mark.parametrize(
    ("script", "python", "short"),
    [
        ("head -c 1G /dev/zero > file", False, ("disk",)),
        ("head -c 1G /dev/zero > /tmp/file", False, ("disk",)),
        ("while :; do head -c 1M /dev/zero > $((i+=1)) || exit 1; done", False, ("disk",)),
        (FILL_SHM, False, ("/dev/shm",)),
        ("import os\nfor i in range(10**6): os.close(os.open(f'{i}', 64))", True, ("inodes",)),
        ("import os\nfor i in range(10**6): os.mkdir(f'/tmp/{i}')", True, ("inodes",)),
        ("import os\nfor i in range(10**6): os.symlink('x' * 80, f'{i}')", True, ("inodes",)),
        ("import os\nfor i in range(10**6): open(f'/dev/shm/{i}', 'w')", True, ("/dev/shm",)),
        (FORKS, True, ("pids",)),
        ("import threading\nfor i in range(100): threading.Thread("
         "target=threading.Event().wait, daemon=True).start()", True, ("pids",)),
    ],
    ids=[
        "disk", "tmp", "many files", "shm", "inodes", "directories", "links", "shm names",
        "fork bomb", "threads",
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_what_was_used_up_is_told_at_the_end(
    kit: Kit, script: str, python: bool, short: tuple[str, ...]
) -> None:
    ended = await attacked(kit, script, python, memory=200 << 20)
    assert ended.code == 2, kit.printed
    assert (ended.limit, ended.short) == (None, short)


@pytest_twisted.ensureDeferred
async def test_a_fork_bomb_that_goes_on_is_ended_by_the_clock(kit: Kit) -> None:
    bomb = "b() { b | b & }; b; sleep 60"
    assert (await attacked(kit, bomb, wall=2.0)).limit == "wall"


@pytest_twisted.ensureDeferred
async def test_open_files_are_capped_by_process(kit: Kit) -> None:
    script = "x = []\nwhile True: x.append(open('/dev/null'))"
    assert (await attacked(kit, script, python=True)).code == 2
    assert b"Too many open files" in kit.printed[2]


@pytest_twisted.ensureDeferred
async def test_cores_are_shared_out_as_asked(kit: Kit) -> None:
    if "cores" not in (await kit.sandbox.probe()).enforced:
        pytest.skip("this host has no cpu controller; see `syndicate volunteers show`")
    burn = (
        "import time\n"
        "began = time.monotonic()\n"
        "while time.process_time() < 0.5: pass\n"
        "print(time.monotonic() - began)\n"
    )
    assert (await attacked(kit, burn, python=True, cores=0.2)).code == 0
    assert float(kit.printed[1]) > 2.0  # half a second, at a fifth of its speed


@pytest_twisted.ensureDeferred
async def test_processor_time_is_counted_anew_for_each_run(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=attrs.evolve(SMALL, cpu=1.0))
    for _ in range(3):
        spin = "import time\nwhile time.process_time() < 0.5: pass"
        run = await enclosure.start(["/usr/bin/python3", "-c", spin], {}, kit.take)
        assert await run.wait() == Exit(code=0)


@pytest.mark.parametrize("disk", [64 << 20, 5 << 30])
@pytest_twisted.ensureDeferred
async def test_a_huge_file_of_holes_costs_nothing(kit: Kit, tmp_path: Path, disk: int) -> None:
    enclosure = await kit.prepare(limits=attrs.evolve(SMALL, disk=disk))
    target = tmp_path / "outputs.tar"
    async with watched(kit):
        said = await kit.shell(enclosure, "truncate -s 4G huge; stat -c '%s %b' huge")
        if disk < 4 << 30:
            assert "too large" in said or "limit exceeded" in said
            return
        assert said == f"{4 << 30} 0\n"
        script = "truncate -s 4G other"
        assert await kit.shell(enclosure, script) == ""
        with pytest.raises(TooLarge, match="outputs"):
            await enclosure.collect(("huge", "other"), target)
        assert not target.exists()
        assert (await enclosure.collect(("huge",), target)).size > 4 << 30
    status = target.stat()
    assert status.st_size > 4 << 30
    assert status.st_blocks * 512 < 1 << 20


DEEP = """
import os
try:
    for i in range({count}):
        os.mkdir('d'); os.chdir('d')
except OSError as e: print(e.strerror)
"""


@pytest_twisted.ensureDeferred
async def test_a_deep_tree_is_looked_into_and_removed(
    kit: Kit, user_kit: Kit, tmp_path: Path
) -> None:
    script = DEEP.format(count=2500)
    for one in (kit, user_kit):
        enclosure = await one.prepare(limits=attrs.evolve(SMALL, inodes=20_000, disk=99 << 20))
        async with watched(one):
            await one.shell(enclosure, f'/usr/bin/python3 -c "{script}"')
            assert await enclosure.written() > 100
            assert (await enclosure.collect(("**/x",), tmp_path / "none.tar")).size == 0
            await enclosure.wipe()
            assert await enclosure.written() == 0
            await enclosure.destroy()


@pytest_twisted.ensureDeferred
async def test_a_directory_with_very_many_entries_is_removed_in_the_background(
    user_kit: Kit, tmp_path: Path
) -> None:
    """Where the disk is an image that is one file; here the host has them all."""
    kit, count = user_kit, 60_000
    script = (
        "import os\n"
        "os.mknod('/tmp/0')\n"
        f"for i in range({count}): os.mknod(f'{{i}}') if i % 60000 == 0 else os.link('0', f'{{i}}')"
    )
    enclosure = await kit.prepare(limits=attrs.evolve(SMALL, disk=999 << 20))
    async with watched(kit):
        assert await kit.shell(enclosure, f'/usr/bin/python3 -c "{script}"') == ""
        assert await enclosure.written() > count
        began = time.monotonic()
        await enclosure.wipe()
        assert time.monotonic() - began < TOO_LONG
        assert await enclosure.written() == 0
        await enclosure.destroy()
    assert not any(os.scandir(kit.directory / "user/trash"))
