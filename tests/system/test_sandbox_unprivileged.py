"""The sandbox of a volunteer whose daemon is not root."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from syndicate.sandbox.interface import WALLS
from tests.support.sandboxes import NAP, uids

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(180)]

REPOSITORY = Path(__file__).parents[2]
UID = uids(40)[0]
#: Interpreters to try: ours may lie where nobody but root can go.
PYTHONS = (sys.executable, "/usr/bin/python3")
USABLE = "import subprocess, sys, pytest, twisted; subprocess.check_call([sys.executable, '-V'])"
BECOME = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the unprivileged user's; pytest's own are shut to all but root."""
    with tempfile.TemporaryDirectory(prefix="syndicate-") as place:
        os.chown(place, UID, UID)
        yield Path(place)


def environment(home: Path) -> dict[str, str]:
    """One in which our code and libraries are found."""
    libraries = sysconfig.get_paths()["purelib"]
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "PYTHONPATH": f"{libraries}:{REPOSITORY}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SYNDICATE_TEST_NAP": NAP,
    }


def run(home: Path, before: list[str], words: list[str]) -> str:
    """What Python says, in the first interpreter that can."""
    env = environment(home)
    for python in PYTHONS:
        check = [*before, python, "-c", USABLE]
        if subprocess.run(check, env=env, cwd=REPOSITORY, capture_output=True).returncode == 0:
            break
    else:
        pytest.skip(f"none of {PYTHONS} can be used by another user with our libraries")
    done = subprocess.run(
        [*before, python, *words],
        env=env,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    return done.stdout


def test_every_promise_holds_for_an_unprivileged_user(home: Path) -> None:
    contracts = [
        "tests/contract/test_contract_sandbox.py",
        "tests/contract/test_contract_inspector.py",
    ]
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={home}/t", "-rf"]
    said = run(home, BECOME, ["-m", "pytest", *options, *contracts])
    last = said.splitlines()[-1]
    assert "failed" not in last, said
    assert int(last.split(" passed")[0].split()[-1]) > 80, said


def enforced(said: str) -> list[str]:
    """The mode and the limits; which walls there are depends on the kernel alone."""
    return [word for word in said.split() if word not in WALLS]


def test_an_unprivileged_volunteer_says_what_it_cannot_enforce(home: Path) -> None:
    said = run(home, BECOME, ["-m", "tests.support.sandbox_probe", str(home)]).splitlines()
    assert enforced(said[0]) == ["user", "files", "output", "pids", "wall"]
    assert said[1:] == [str(uids(50)[0]), "kept", ""]


def test_one_with_a_root_that_is_none_falls_back_to_a_user_namespace(home: Path) -> None:
    before = [*BECOME, "unshare", "--user", "--map-root-user"]
    said = run(home, before, ["-m", "tests.support.sandbox_probe", str(home)]).splitlines()
    assert enforced(said[0]) == ["user", "files", "output", "pids", "wall"]
    assert said[1:] == [str(uids(50)[0]), "kept", ""]


def test_where_user_namespaces_are_forbidden_it_says_what_to_do(home: Path) -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
    before = [*BECOME, "unshare", "--user", "--map-root-user", "sh", "-c", forbid]
    said = run(home, before, ["-m", "tests.support.sandbox_probe", str(home)])
    assert "Run the volunteer as root, or allow unprivileged user namespaces" in said
    assert "Traceback" not in said
