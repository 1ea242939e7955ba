"""The examples of clients before a real door: by plain ``make``, and where there is no network."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.support.doorsteps import NEEDS, PROGRAM, WORDS, Doorstep, copy_of, run
from tests.support.ways import apart

ensure = pytest_twisted.ensureDeferred

NOTES = {"python": "killed and revived", "shell": "killed", "c": "from C", "go": "killed"}
UID = 41300

pytestmark = [pytest.mark.deadline(120)]


@pytest.fixture
def doorstep(tmp_path: Path) -> Iterator[Doorstep]:
    doorstep = pytest_twisted.blockon(Deferred.fromCoroutine(Doorstep.at(tmp_path / "door")))
    yield doorstep
    pytest_twisted.blockon(doorstep.door.close())


def needs(example: str) -> None:
    if shutil.which(NEEDS[example], path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip(f"there is no {NEEDS[example]} on this machine")


@pytest.mark.parametrize("example", list(NEEDS))
@ensure
async def test_an_example_hurts_its_job(doorstep: Doorstep, tmp_path: Path, example: str) -> None:
    needs(example)
    place = copy_of(example, tmp_path / "source")
    ended = await apart(run, ["make", *WORDS], place, doorstep.environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    doorstep.was_hurt(NOTES[example])


@ensure
async def test_the_example_in_go_finishes_where_there_is_no_go(
    doorstep: Doorstep, tmp_path: Path
) -> None:
    place = copy_of("go", tmp_path / "source")
    ended = await apart(run, ["make", "go=", *WORDS], place, doorstep.environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Skipped" in ended.stdout
    assert doorstep.handle.result is not None


@pytest.mark.parametrize("example", ["python", "shell", "c"])
@ensure
async def test_an_example_fails_clearly_without_a_door(tmp_path: Path, example: str) -> None:
    place = copy_of(example, tmp_path / "source")
    nowhere = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "SYNDICATE_SOCKET": f"{tmp_path}/http",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/syndicate-fault").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m syndicate.client.fault "$@"\n'
    )
    (tmp_path / "bin/syndicate-fault").chmod(0o755)
    ended = await apart(run, ["make", *WORDS], place, nowhere)
    assert ended.returncode == 2  # that of make
    assert str(tmp_path / "http") in ended.stdout + ended.stderr


# Where there is no network.

#: Makes a root of its own in new namespaces, and runs a shell script there as another user.
ENCLOSE = """
set -eu
root=$1 door=$2 source=$3 packages=$4 uid=$5 script=$6
mount -t tmpfs none "$root"
chmod 755 "$root"
cd "$root"
mkdir -p usr run/syndicate tmp dev source packages
chmod 777 tmp
for name in bin lib lib64 sbin; do ln -s usr/$name $name; done
mount --rbind /usr usr
mount --bind "$door" run/syndicate
mount -o remount,ro,bind run/syndicate
mount --bind "$source" source
mount --bind "$packages" packages
touch dev/null
mount --bind /dev/null dev/null
exec chroot --userspec="$uid:$uid" "$root" /bin/sh -euc "cd /source; $script"
"""

NO_NETWORK = """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, ("10.0.0.1", 9))):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(address)
        except OSError as error:
            print(error.strerror)
"""


def prepare(root: Path, source: Path) -> None:
    """Make the place of a root, and let others build in the source."""
    root.mkdir()
    for path in (source, *source.rglob("*")):
        path.chmod(0o777)


async def enclosed(tmp_path: Path, doorstep: Doorstep, source: Path, script: str) -> str:
    """What a script prints in an enclosure without network, as the user of the door."""
    root = tmp_path / "root"
    prepare(root, source)
    packages = sysconfig.get_paths()["purelib"]
    around = ["unshare", "--mount", "--net", "sh", "-c", ENCLOSE, "enclose"]
    words = [str(root), str(doorstep.directory), str(source), packages, str(UID), script]
    environment = doorstep.environment("/run/syndicate")
    environment["PATH"] += ":/usr/sbin:/sbin"
    ended = await apart(run, [*around, *words], tmp_path, environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Doorstep]:
    """A door that is another user's."""
    made = Doorstep.at(tmp_path / "door", UID)
    doorstep = pytest_twisted.blockon(Deferred.fromCoroutine(made))
    yield doorstep
    pytest_twisted.blockon(doorstep.door.close())


@pytest.mark.needs_root
@pytest.mark.parametrize("example", list(NEEDS))
@ensure
async def test_an_example_reaches_the_door_without_any_network(
    tmp_path: Path, theirs: Doorstep, example: str
) -> None:
    needs(example)
    source = copy_of(example, tmp_path / "source")
    (source / "probe.py").write_text(NO_NETWORK)
    script = f"/usr/bin/python3 probe.py; make {' '.join(WORDS)}"
    printed = await enclosed(tmp_path, theirs, source, script)
    assert printed.count("Network is unreachable") == 2, printed
    theirs.was_hurt(NOTES[example])


@pytest.mark.needs_root
@ensure
async def test_a_twisted_program_reaches_the_door_without_any_network(
    tmp_path: Path, theirs: Doorstep
) -> None:
    same = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    system = await apart(run, ["/usr/bin/python3", "-c", same], tmp_path, {})
    if system.returncode:
        pytest.skip("the system's Python is of another version than Twisted was installed for")
    source = tmp_path / "source"
    source.mkdir()
    (source / "program.py").write_text(PROGRAM)
    script = "PYTHONPATH=$PYTHONPATH:/packages /usr/bin/python3 -B program.py"
    await enclosed(tmp_path, theirs, source, script)
    theirs.was_hurt("killed by PB")
    assert len(theirs.handle.kept) == 1


@pytest.mark.needs_root
@ensure
async def test_the_door_is_for_its_own_client_alone(tmp_path: Path, doorstep: Doorstep) -> None:
    source = tmp_path / "source"
    source.mkdir()
    script = "syndicate-fault kill slave0 || echo ended with $?; ls /run/syndicate || true"
    printed = await enclosed(tmp_path, doorstep, source, script)
    assert "Nobody answers at /run/syndicate/http: Permission denied." in printed
    assert "ended with 69" in printed
    assert "cannot open directory" in printed
    assert doorstep.handle.calls == []
