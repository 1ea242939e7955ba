"""Ways out of a sandbox, each tried from inside a real one; with the filter of system calls and
without, so that the other walls are seen to stand alone.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import NAP, Kit, the_reactor, uids
from tests.support.tarballs import source

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(60)]

REPOSITORY = Path(__file__).parents[2]

#: What the programs try things with.
ATTEMPTS = """
import os, socket
def error(act):
    try:
        act()
        return 'did'
    except OSError as e:
        return type(e).__name__ + str(e.errno)
def write(path, text):
    def act():
        with open(path, 'w') as file:
            file.write(text)
    return act
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("escapes")


@pytest.fixture(params=[True, False], ids=["filtered", "unfiltered"])
def kit(request: pytest.FixtureRequest, directory: Path) -> Iterator[Kit]:
    """A sandbox with root."""
    sandbox = ChrootSandbox(
        the_reactor(), directory / "state", "escapes", uids(50), "root", seccomp=request.param
    )
    kit = Kit(sandbox, directory)
    pytest_twisted.blockon(sandbox.probe())
    yield kit
    pytest_twisted.blockon(sandbox.close())


async def tried(kit: Kit, script: str) -> Any:
    """What a Python program that has `ATTEMPTS` at hand prints last, read as a value."""
    place = kit.directory / "escape.tar.gz"
    program = ATTEMPTS + textwrap.dedent(script)
    sha256 = source(place, {"Makefile": "master:\n", "escape.py": program})
    enclosure = await kit.prepare(source=place, sha256=sha256)
    said = await kit.shell(enclosure, "/usr/bin/python3 escape.py")
    return ast.literal_eval(said.strip().splitlines()[-1])


def started_as(uid: int) -> subprocess.Popen[bytes]:
    """A process of a user's that sleeps."""
    return subprocess.Popen(["sleep", NAP], user=uid)


@pytest_twisted.ensureDeferred
async def test_the_way_out_of_a_chroot_by_another_one_is_shut(kit: Kit) -> None:
    seen = await tried(
        kit,
        """
            os.mkdir('/tmp/d')
            top = os.open('/', os.O_RDONLY)
            how = error(lambda: os.chroot('/tmp/d'))
            os.fchdir(top)
            for i in range(200): os.chdir('..')
            up = os.stat('.').st_ino == os.stat('/').st_ino
            print((how, up, error(lambda: os.listdir('/proc/1/root')),
                   error(lambda: os.listdir('/proc/1/cwd'))))
        """,
    )
    assert seen == ("PermissionError1", True, "PermissionError13", "PermissionError13")


def test_even_root_gets_no_further_than_an_empty_place(directory: Path, tmp_path: Path) -> None:
    """Should a job ever become root in its sandbox: the old root is not mounted any more."""
    for name in ("root", "lower", "disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/Makefile").touch()
    script = (
        "import os, sys\n"
        "from syndicate.sandbox.confine import root, syscalls\n"
        "syscalls.unshare(syscalls.CLONE_NEWNS)\n"
        f"place = {{'root': {str(tmp_path / 'root')!r}, 'lower': [{str(tmp_path / 'lower')!r}],\n"
        f"          'disk': {str(tmp_path / 'disk')!r}, 'image': None, 'furnished': False,\n"
        "         'shares': []}\n"
        "root.enter(place, {'mode': 'root', 'uid': 0})\n"
        "print(sorted(os.listdir('/')))\n"
        "os.mkdir('/d')\n"
        "os.chroot('/d')\n"
        "for i in range(200): os.chdir('..')\n"
        "os.chroot('.')\n"
        "print(sorted(os.listdir('/')))\n"
    )
    # A disk that is an overlay itself cannot be one's upper layer, so it is a tmpfs.
    mounted = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs x {tmp_path / "disk"} && "$@"']
    done = subprocess.run(
        [*mounted, "sh", sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "['Makefile']\n['root']\n", done.stderr


@pytest_twisted.ensureDeferred
async def test_what_the_kernel_lets_root_set_cannot_be_set(kit: Kit) -> None:
    seen = await tried(
        kit,
        """
            print({path: error(write(path, text)) for path, text in (
                ('/proc/sys/kernel/core_pattern', '|/tmp/x'),
                ('/proc/sys/kernel/modprobe', '/tmp/x'),
                ('/proc/sys/vm/overcommit_memory', '1'),
                ('/proc/sys/net/ipv4/ip_forward', '1'),
                ('/proc/self/oom_score_adj', '-1000'),
                ('/proc/self/uid_map', '0 0 1'),
            )})
        """,
    )
    refusals = ("PermissionError", "OSError30", "FileNotFoundError")  # or the kernel has no such
    assert all(how.startswith(refusals) for how in seen.values()), seen


@pytest_twisted.ensureDeferred
async def test_masked_files_and_devices_lead_nowhere(kit: Kit) -> None:
    seen = await tried(
        kit,
        """
            import stat
            found = {}
            for path in ('/proc/kcore', '/proc/kmsg', '/proc/sysrq-trigger', '/proc/keys'):
                if os.path.exists(path):
                    null = os.stat(path).st_rdev == os.makedev(1, 3)
                    found[path] = (open(path, 'rb').read(9), null)
            for path in ('/dev/kmsg', '/dev/mem', '/dev/loop-control', '/dev/fuse', '/dev/net/tun',
                         '/dev/kvm', '/dev/vda', '/dev/sda', '/dev/loop0', '/sys/kernel',
                         '/dev/ptmx',
                         '/dev/vhost-vsock', '/dev/userfaultfd', '/dev/console', '/sys/fs/cgroup'):
                if os.path.lexists(path): found[path] = 'there'
            for kind, major in ((stat.S_IFBLK, 7), (stat.S_IFCHR, 1)):
                device = os.makedev(major, 1)
                found[kind] = error(lambda: os.mknod('/tmp/device', kind | 0o666, device))
            print(found)
        """,
    )
    assert {how for name, how in seen.items() if isinstance(name, int)} == {"PermissionError1"}
    rest = {name: how for name, how in seen.items() if not isinstance(name, int)}
    assert set(rest.values()) <= {(b"", True)}, rest


@pytest_twisted.ensureDeferred
async def test_no_process_but_its_own_can_be_signalled(kit: Kit) -> None:
    bystander = started_as(uids(59)[0])
    other = await kit.prepare("1.1.slave-0")
    neighbour = await other.start(["sleep", NAP], {}, kit.take)
    try:
        seen = await tried(
            kit,
            f"""
                import signal
                pids = {[os.getpid(), os.getppid(), bystander.pid, *neighbour.processes()]}
                how = {{error(lambda: os.kill(pid, 9)) for pid in pids}}
                how |= {{error(lambda: os.kill(pid, 0)) for pid in range(60, 5000)}}
                print(how, flush=True)
                os.kill(-1, signal.SIGKILL)
            """,
        )
        assert seen == {"ProcessLookupError3"}
        assert bystander.poll() is None
        assert neighbour.processes()
        await neighbour.kill()
    finally:
        bystander.kill()
        bystander.wait()


@pytest_twisted.ensureDeferred
async def test_a_control_group_cannot_be_left(kit: Kit) -> None:
    seen = await tried(
        kit,
        """
            found = [top for top, _, names in os.walk('/') if 'cgroup.procs' in names
                     or 'release_agent' in names]
            print((found, error(write('/proc/self/cgroup', '0'))))
        """,
    )
    assert seen[0] == []
    assert seen[1].startswith("PermissionError")


@pytest_twisted.ensureDeferred
async def test_hard_links_and_open_directories_change_nothing_of_the_hosts(kit: Kit) -> None:
    before = os.stat("/usr/bin/env").st_nlink, os.stat("/etc/hostname").st_mtime_ns
    seen = await tried(
        kit,
        """
            print([error(lambda: os.link('/usr/bin/env', '/env')),
                   error(lambda: os.link('/usr/bin/env', '/usr/bin/env2')),
                   error(lambda: os.chmod('/usr/bin/env', 0o777)),
                   error(lambda: os.utime('/usr/bin/env')),
                   error(lambda: os.unlink('/usr/bin/env')),
                   error(lambda: os.rename('/usr', '/usr2')),
                   error(lambda: os.rmdir('/proc')),
                   error(lambda: os.setxattr('/usr/bin/env', 'user.x', b'1'))])
        """,
    )
    assert "did" not in seen
    assert (os.stat("/usr/bin/env").st_nlink, os.stat("/etc/hostname").st_mtime_ns) == before


@pytest_twisted.ensureDeferred
async def test_only_what_belongs_to_the_job_is_mounted_and_nothing_with_devices(kit: Kit) -> None:
    seen = await tried(
        kit,
        """
            found = {}
            for line in open('/proc/self/mountinfo'):
                fields, _, rest = line.partition(' - ')
                words = fields.split()
                found[words[4]] = (rest.split()[0], words[5].split(','))
            print(found)
        """,
    )
    expected = {"/", "/tmp", "/usr", "/dev", "/dev/shm", "/proc"}
    places = set(seen)
    assert expected <= places
    assert all(place.startswith(("/dev/", "/proc/", "/usr/")) for place in places - expected)
    for place, (kind, flags) in seen.items():
        if kind != "devtmpfs":  # single devices, each shown by itself
            assert "nosuid" in flags, place
        if place in expected - {"/dev"}:
            assert "nodev" in flags, place
        if place.startswith("/usr"):
            assert "ro" in flags, place


@pytest_twisted.ensureDeferred
async def test_a_program_of_the_jobs_with_capabilities_or_setuid_gets_neither(kit: Kit) -> None:
    seen = await tried(
        kit,
        """
            import subprocess, shutil
            shutil.copy('/usr/bin/id', '/me'); os.chmod('/me', 0o6755)
            ran = subprocess.run(['/me', '-u'], capture_output=True, text=True).stdout
            how = error(lambda: os.setxattr('/me', 'security.capability', bytes(20)))
            print((int(ran) == os.getuid(), how, error(lambda: os.setuid(0)),
                   error(lambda: os.setgroups([0])), error(lambda: os.setpriority(0, 0, -5))))
        """,
    )
    assert seen[0] is True
    assert all(how.startswith(("PermissionError", "OSError")) for how in seen[1:]), seen
