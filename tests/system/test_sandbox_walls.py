"""What a job cannot do, however it tries; as the real sandbox of a volunteer with root has it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from syndicate.domain.errors import NotClean
from syndicate.domain.job import Limits
from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.interface import Exit
from tests.support.sandboxes import NAP, Kit, sleepers, the_reactor, uids
from tests.support.tarballs import source

pytestmark = [pytest.mark.needs_root, pytest.mark.system]

UIDS = uids(10)
FIRST_UID = UIDS[0]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("walls")


@pytest.fixture
def kit(directory: Path) -> Iterator[Kit]:
    """A sandbox with root."""
    kit = Kit(ChrootSandbox(the_reactor(), directory / "state", "walls", UIDS, "root"), directory)
    pytest_twisted.blockon(kit.sandbox.probe())
    yield kit
    pytest_twisted.blockon(kit.sandbox.close())


async def said(kit: Kit, script: str, **limits: Any) -> str:
    """What a script prints in a fresh enclosure."""
    enclosure = await kit.prepare(limits=Limits(**{"disk": 16 << 20, **limits}))
    printed = await kit.shell(enclosure, script)
    await enclosure.destroy()
    return printed


async def python(kit: Kit, script: str) -> str:
    """What a Python program prints in a fresh enclosure."""
    place = kit.directory / "python.tar.gz"
    sha256 = source(place, {"Makefile": "master:\n", "program.py": script})
    enclosure = await kit.prepare(source=place, sha256=sha256)
    return await kit.shell(enclosure, "/usr/bin/python3 program.py")


@pytest_twisted.ensureDeferred
async def test_a_job_has_no_capability_and_can_gain_none(kit: Kit) -> None:
    status = await said(kit, "grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status")
    words = dict(line.split(":\t", 1) for line in status.splitlines())
    assert {words[name].strip("0") for name in words if name.startswith("Cap")} == {""}
    assert words["NoNewPrivs"] == "1"
    assert words["Groups"].strip() == ""
    assert words["Uid"] == words["Gid"] == "\t".join([str(FIRST_UID)] * 4)


@pytest_twisted.ensureDeferred
async def test_a_job_has_none_of_the_daemons_groups_and_goes_first_when_memory_is_short(
    directory: Path,
) -> None:
    before = os.getgroups()
    os.setgroups([4, 24])  # where the tests run there may be none
    kit = Kit(ChrootSandbox(the_reactor(), directory / "state", "groups", UIDS, "root"), directory)
    try:
        await kit.sandbox.probe()
        printed = await said(kit, "grep ^Groups /proc/self/status; cat /proc/self/oom_score_adj")
    finally:
        await kit.sandbox.close()
        os.setgroups(before)
    assert printed.split() == ["Groups:", "500"]


@pytest_twisted.ensureDeferred
async def test_a_process_that_is_left_of_a_job_is_told(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syndicate.sandbox.enclosure.DYING", 0.3)
    enclosure = await kit.prepare()
    with subprocess.Popen(["sleep", "60"], user=enclosure.uid) as stray:  # noqa: ASYNC220  (begun at once)
        try:
            with pytest.raises(NotClean, match=f"process {stray.pid} of user {enclosure.uid}"):
                await enclosure.destroy()
        finally:
            stray.kill()
    await enclosure.destroy()


@pytest_twisted.ensureDeferred
async def test_a_setuid_program_gives_nothing(kit: Kit) -> None:
    assert str(FIRST_UID) in await said(kit, "cp /usr/bin/id /me; chmod 6755 /me; /me -u; su -c id")
    mounts = await said(kit, "cut -d' ' -f5,6 /proc/self/mountinfo")
    writable = dict(line.split() for line in mounts.splitlines())
    assert all("nosuid" in writable[place] for place in ("/", "/tmp", "/usr", "/dev/shm"))


@pytest_twisted.ensureDeferred
async def test_the_hosts_programs_are_read_only_for_everybody(kit: Kit) -> None:
    (line,) = (await said(kit, "grep ' /usr ' /proc/self/mountinfo")).splitlines()
    assert line.split()[5].startswith("ro,nosuid,nodev")


@pytest_twisted.ensureDeferred
async def test_a_job_cannot_make_namespaces_mounts_or_devices(kit: Kit) -> None:
    for attempt in (
        "unshare -Ur true",
        "unshare -m true",
        "mount -t tmpfs x /tmp",
        "mount --bind /etc /tmp",
        "umount /usr",
        "mount -o remount,rw /usr",
        "mknod /tmp/sda b 8 0",
        "chroot / true",
        "hostname other",
        "touch /usr/x",
        "chown 0 /Makefile",
        "echo 1 > /proc/sys/kernel/printk",
        "head -c 1 /proc/kmsg | grep -q .",
        "head -c 1 /proc/kcore | grep -q .",
        "test -w /proc/sys/kernel/core_pattern",
        "ulimit -Hn 1000000",
    ):
        assert "denied" in await said(kit, f"({attempt}) || echo denied"), attempt


@pytest_twisted.ensureDeferred
async def test_the_classic_ways_out_of_a_chroot_are_shut(kit: Kit) -> None:
    seen = await python(
        kit,
        "import os\n"
        "for act in (lambda: os.chroot('/tmp'), lambda: os.unshare(0x10000000),\n"
        "            lambda: os.open('/proc/1/root/etc/shadow', 0),\n"
        "            lambda: os.listdir('/proc/1/fd'), lambda: os.open('/proc/1/environ', 0)):\n"
        "    try:\n"
        "        act(); print('did')\n"
        "    except Exception as e:\n"
        "        print(type(e).__name__)\n"
        "for i in range(100): os.chdir('..')\n"
        "print(sorted(os.listdir('.')) == sorted(os.listdir('/')), os.path.exists('Makefile'))\n",
    )
    # Debian's 3.11 has no os.unshare: then it is an AttributeError.
    words = seen.split()
    assert "did" not in words
    assert words[-2:] == ["True", "True"]


@pytest_twisted.ensureDeferred
async def test_the_host_cannot_be_seen(kit: Kit, directory: Path) -> None:
    (directory / "secret").write_text("secret")
    script = (
        f"cat {directory}/secret /etc/shadow; ls /root /home /var /sys /run /opt {directory};"
        "ls /; find / -xdev -user root -perm /6000 2>/dev/null | grep -v ^/usr; ls /dev"
    )
    seen = await said(kit, script)
    assert "secret\n" not in seen.replace(f"{directory}/secret", "")
    assert seen.count("No such file") == 9
    listing = set(seen.split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "shm", "Makefile"} <= listing
    assert not {"mem", "kmsg", "loop0", "sda", "vda"} & listing


@pytest_twisted.ensureDeferred
async def test_no_process_but_its_own_can_be_seen(kit: Kit) -> None:
    pids = (await said(kit, "ls /proc | grep -E '^[0-9]+$'")).split()
    assert pids[0] == "1"
    assert len(pids) <= 4


@pytest_twisted.ensureDeferred
async def test_a_job_cannot_harm_the_first_process_of_its_namespace(kit: Kit) -> None:
    script = "kill -9 1; kill -STOP 1; kill -TERM 1; kill -SEGV 1; sleep 0.1; echo still here"
    assert "still here" in await said(kit, script)


@pytest_twisted.ensureDeferred
async def test_two_jobs_share_neither_memory_nor_files_nor_user(kit: Kit) -> None:
    one = await kit.prepare()
    other = await kit.prepare("1.1.slave-0")
    make = "ipcmk -M 1000 >/dev/null; echo x > /dev/shm/x; echo x > /tmp/x; id -u"
    look = "ipcs -m | grep -c 0x; ls -A /dev/shm /tmp; id -u"
    assert await kit.shell(one, make) == f"{FIRST_UID}\n"
    assert await kit.shell(other, look) == f"0\n/dev/shm:\n\n/tmp:\n{FIRST_UID + 1}\n"


@pytest_twisted.ensureDeferred
async def test_a_fork_bomb_stays_within_its_cap(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(pids=40, disk=16 << 20, wall=60))
    script = (
        f"i=0; while [ $i -lt 200 ]; do sleep {NAP} 2>/dev/null & i=$((i+1)); done 2>&1 | head -1;"
        f"sleep {NAP}"
    )
    run = await enclosure.start(["sh", "-c", script], {}, kit.take)
    highest = 0
    for _ in range(100):
        await _rest(0.01)
        highest = max(highest, len(sleepers()))
    assert 20 < highest <= 40
    await run.kill()
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_a_memory_hog_is_ended_and_told_why(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(memory=64 << 20, disk=16 << 20))
    script = f"/usr/bin/python3 -c 'x = bytearray(200 << 20)'; echo survived; sleep {NAP}"
    run = await enclosure.start(["sh", "-c", script], {}, kit.take)
    ended = await run.wait()
    assert ended.limit == "memory"
    assert not ended.killed
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_files_in_memory_count_as_memory(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(memory=32 << 20, disk=99 << 20))
    run = await enclosure.start(["sh", "-c", "head -c 60M /dev/zero > /dev/shm/x"], {}, kit.take)
    assert (await run.wait()).limit == "memory"


@pytest_twisted.ensureDeferred
async def test_what_is_written_to_disk_does_not_count_as_memory(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(memory=64 << 20, disk=400 << 20))
    script = "head -c 300M /dev/zero > big && rm big && echo fine"
    assert await kit.shell(enclosure, script) == "fine\n"


@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_the_jobs_own_trouble(kit: Kit, directory: Path) -> None:
    before = _used(directory)
    enclosure = await kit.prepare(limits=Limits(disk=32 << 20))
    script = (
        "head -c 100M /dev/zero > a; head -c 100M /dev/zero > /tmp/b; echo x > bin/c; stat -c %s a"
    )
    seen = await kit.shell(enclosure, script)
    assert seen.count("No space left on device") >= 2
    assert 20 << 20 < int(seen.split()[0]) < 32 << 20
    assert _used(directory) - before < 40 << 20
    await enclosure.wipe()
    assert await kit.shell(enclosure, "head -c 20M /dev/zero > a && echo fine") == "fine\n"


@pytest_twisted.ensureDeferred
async def test_a_disk_can_run_out_of_names_too(kit: Kit) -> None:
    seen = await python(
        kit,
        "import os\n"
        "try:\n"
        "    for i in range(10**6): os.close(os.open(f'f{i}', os.O_CREAT))\n"
        "except OSError as e: print(i, e.strerror)\n",
    )
    count, *words = seen.split()
    assert 100 < int(count) < 100_000
    assert " ".join(words) == "No space left on device"


def _used(directory: Path) -> int:
    return sum(
        path.lstat().st_blocks * 512
        for path in directory.rglob("*")
        if not path.is_symlink() and path.is_file()
    )


@pytest_twisted.ensureDeferred
async def test_a_file_larger_than_the_disk_is_stopped(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(disk=16 << 20))
    run = await enclosure.start(["truncate", "-s", "17M", "x"], {}, kit.take)
    ended = await run.wait()
    assert ended.signal == 25 or b"too large" in kit.printed[2]


@pytest_twisted.ensureDeferred
async def test_files_open_at_once_are_capped(kit: Kit) -> None:
    assert await said(kit, "ulimit -n; ulimit -Hn", files=100) == "100\n100\n"


@pytest.mark.deadline(60)
@pytest_twisted.ensureDeferred
async def test_a_flood_of_output_is_cut_without_filling_the_daemon(kit: Kit) -> None:
    enclosure = await kit.prepare(limits=Limits(output=8 << 20, disk=16 << 20))
    count = 0

    def take(stream: int, data: bytes) -> None:
        nonlocal count
        count += len(data)

    before = _resident()
    script = f"yes & yes >&2 & head -c 1G /dev/zero & sleep {NAP}"
    run = await enclosure.start(["sh", "-c", script], {}, take)
    assert (await run.wait()).limit == "output"
    assert count == 8 << 20
    assert _resident() - before < 30 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest_twisted.ensureDeferred
async def test_processes_that_are_stopped_are_killed_too(kit: Kit) -> None:
    enclosure = await kit.prepare()
    script = f"sleep {NAP} & kill -STOP $!; echo up; kill -STOP $$"
    run = await enclosure.start(["sh", "-c", script], {}, kit.take)
    while kit.printed[1] != b"up\n":
        await _rest(0.01)
    assert (await run.kill()) == Exit(signal=9, killed=True)
    assert sleepers() == []


@pytest_twisted.ensureDeferred
async def test_a_job_takes_no_signal_mask_of_the_daemons(kit: Kit) -> None:
    status = await said(kit, "grep -E '^Sig(Pnd|Blk|Ign)' /proc/self/status")
    words = dict(line.split(":\t") for line in status.splitlines())
    pending, blocked, ignored = (int(words[f"Sig{name}"], 16) for name in ("Pnd", "Blk", "Ign"))
    # 32 and 33 are the C library's own, and it lets nobody change them.
    assert pending == blocked == ignored & ~(1 << 31 | 1 << 32) == 0


@pytest_twisted.ensureDeferred
async def test_what_a_job_makes_can_be_read_by_all_and_written_by_itself(kit: Kit) -> None:
    assert await said(kit, "umask; touch x; stat -c %a x") == "0022\n644\n"


async def _rest(seconds: float) -> None:
    await deferLater(the_reactor(), seconds)
