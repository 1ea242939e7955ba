"""System calls that a job is refused, tried from inside real sandboxes with and without the
filter, and by a root without any sandbox: there every call gets through to the kernel.
"""

from __future__ import annotations

import ast
import errno
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from syndicate.sandbox.chroot import ChrootSandbox
from syndicate.sandbox.confine import seccomp
from tests.support.sandboxes import Kit, the_reactor, uids
from tests.support.tarballs import source

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(60)]

REPOSITORY = Path(__file__).parents[2]

# Nothing that these calls are given makes sense, so that they do no harm where they get through.
CALL_ALL = """
import ctypes, os
os.setsid()
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    given = [ctypes.c_long(word) for word in (number, *arguments)]
    return libc.syscall(*given), ctypes.get_errno()
seen = {}
for name, number in NUMBERS.items():
    seen[name] = call(number, *[-1] * 6)[1]
def spawn(number, flags):
    result, error = call(number, flags, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    if result > 0:
        os.waitpid(result, 0)
    return error
seen['clone'] = spawn(CLONE, 0x04000011)       # a new UTS namespace
seen['clone user'] = spawn(CLONE, 0x10000011)
seen['fork'] = spawn(CLONE, 17)
seen['clone3'] = call(CLONE3, 0, 0)[1]
seen['unshare'] = call(UNSHARE, 0x04000000)[1]
seen['unshare files'] = call(UNSHARE, 0x400)[1]
for family in (1, 2, 10, 16, 17, 40):
    try:
        import socket
        socket.socket(family, {16: 2, 17: 3}.get(family, 1)).close()
        seen[f'socket {family}'] = 0
    except OSError as error:
        seen[f'socket {family}'] = error.errno
if os.uname().machine == 'x86_64':
    seen['x32'] = call(0x40000000 | 39)[1]
    import mmap
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex('b814000000cd804898c3'))     # getpid, as a program of 32 bits has it
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_long)(address)()
    seen['i386'] = 0 if result == os.getpid() else -result
print(seen)
"""


def program() -> str:
    """The program, with the numbers of this architecture."""
    column = seccomp._COLUMN[platform.machine()]
    numbers = {n: both[column] for n, both in seccomp.REFUSED.items() if both[column] is not None}
    words = {
        "NUMBERS": numbers,
        "CLONE": seccomp._CLONE[column],
        "CLONE3": seccomp._CLONE3[column],
        "UNSHARE": seccomp._UNSHARE[column],
    }
    return "".join(f"{name} = {value!r}\n" for name, value in words.items()) + CALL_ALL


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that the skeleton is made once."""
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(params=["root", "user"])
def kits(request: pytest.FixtureRequest, directory: Path) -> Iterator[dict[bool, Kit]]:
    """Two sandboxes, with the filter and without."""
    made = {}
    for filtered in (True, False):
        place = directory / f"{request.param}-{filtered}"
        place.mkdir(exist_ok=True)
        sandbox = ChrootSandbox(
            the_reactor(), place, "calls", uids(30), request.param, seccomp=filtered
        )
        facts = pytest_twisted.blockon(sandbox.probe())
        assert ("seccomp" in facts.enforced) is filtered
        made[filtered] = Kit(sandbox, place)
    yield made
    for kit in made.values():
        pytest_twisted.blockon(kit.sandbox.close())


async def seen_by(kit: Kit, text: str) -> dict[str, int]:
    """The errors of all calls, in a fresh enclosure."""
    place = kit.directory / "calls.tar.gz"
    sha256 = source(place, {"Makefile": "master:\n", "calls.py": text})
    enclosure = await kit.prepare(source=place, sha256=sha256)
    printed = await kit.shell(enclosure, "/usr/bin/python3 calls.py")
    seen: dict[str, int] = ast.literal_eval(printed)
    return seen


def wanted(name: str) -> int:
    """The error that the filter answers with."""
    if name in ("fork", "unshare files") or name in [f"socket {f}" for f in (1, 2, 10, 16)]:
        return 0
    if name == "clone3":
        return errno.ENOSYS
    return errno.EAFNOSUPPORT if name.startswith("socket") else errno.EPERM


@pytest_twisted.ensureDeferred
async def test_a_job_is_refused_what_it_does_not_need(kits: dict[bool, Kit]) -> None:
    seen = await seen_by(kits[True], program())
    assert seen == {name: wanted(name) for name in seen}
    assert len(seen) > len(seccomp.REFUSED)
    without = await seen_by(kits[False], program())
    through = {name for name in without if without[name] != seen[name]}
    # Many others the kernel itself refuses to who has no capability.
    assert through >= {"ptrace", "keyctl", "add_key", "process_vm_readv", "io_uring_setup"}
    assert through >= {"kcmp", "pidfd_getfd", "perf_event_open", "clone3", "socket 17"}
    if platform.machine() == "x86_64":
        assert through >= {"x32", "modify_ldt"}


def test_without_the_filter_every_call_would_get_through_to_the_kernel() -> None:
    """For root, so that no want of a capability hides what the filter is asked."""
    confine = (
        "from syndicate.sandbox.confine import seccomp, syscalls\n"
        "syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)\n"
        "seccomp.refuse_calls()\n"
    )
    free, filtered = (
        ast.literal_eval(
            subprocess.run(
                [sys.executable, "-c", head + program()],
                cwd=REPOSITORY,
                check=True,
                capture_output=True,
                text=True,
                timeout=30,
            ).stdout
        )
        for head in ("", confine)
    )
    assert filtered == {name: wanted(name) for name in filtered}
    free["socket 40"] = 0  # not every kernel knows how to talk to its hypervisor
    same = {name for name in free if free[name] == filtered[name]}
    assert same == {name for name in free if wanted(name) == 0}


@pytest_twisted.ensureDeferred
async def test_children_and_what_they_execute_are_filtered_too(kits: dict[bool, Kit]) -> None:
    script = "sh -c 'grep -E ^Seccomp: /proc/self/status; grep -E ^Seccomp: /proc/1/status'"
    for filtered, kit in kits.items():
        enclosure = await kit.prepare("1.1.slave-0")
        said = await kit.shell(enclosure, script)
        assert said == f"Seccomp:\t{2 if filtered else 0}\n" * 2
        await enclosure.destroy()


@pytest_twisted.ensureDeferred
async def test_a_socket_of_the_host_without_a_file_cannot_be_reached(kits: dict[bool, Kit]) -> None:
    import socket

    kit = kits[True]
    if "scope" not in (await kit.sandbox.probe()).enforced:
        pytest.skip("this kernel has no scopes of Landlock; see `syndicate volunteers show`")
    name = f"syndicate-test-{os.getpid()}"
    own = (
        "import socket\n"
        "a = socket.socket(socket.AF_UNIX); b = socket.socket(socket.AF_UNIX)\n"
        f"a.bind('\\0own-{name}'); a.listen(); b.connect('\\0own-{name}'); print(0)\n"
        "c = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        f"    c.connect('\\0{name}'); print(0)\n"
        "except OSError as e: print(e.errno)\n"
    )
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as outside:
        theirs.bind(f"\0{name}")
        theirs.listen()
        outside.connect(f"\0{name}")  # so it is there to be reached
        place = kit.directory / "abstract.tar.gz"
        sha256 = source(place, {"Makefile": "master:\n", "reach.py": own})
        enclosure = await kit.prepare(source=place, sha256=sha256)
        said = await kit.shell(enclosure, "/usr/bin/python3 reach.py")
    assert said == f"0\n{errno.EPERM}\n"
