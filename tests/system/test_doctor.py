"""``syndicate doctor`` in a real lab, and what it leaves on the host: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from syndicate.cli.doctor import enclosing
from syndicate.lab.leftovers import group_names
from syndicate.mounts import mounts
from tests.support.labs import Running, eventually, up

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]


def by_check(out: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(out)}


def surroundings() -> list[Any]:
    """What a trial of a sandbox could leave; others use this machine too."""
    ours = "syndicate-doctor-"
    images = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [
        [mount for mount in mounts() if any(ours in str(field) for field in mount)],
        [(path, path.read_text()) for path in enclosing._controls()],
        [image for image in images if ours in image],
        list(Path("/var/tmp").glob(f"{ours}*")),
        [name for name in group_names() if name.startswith(ours)],
    ]


@pytest.fixture(scope="module")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with up(tmp_path_factory.mktemp("lab"), 2) as running:
        yield running


def test_a_lab_is_well_until_its_manager_is_killed(small_lab: Running) -> None:
    before = surroundings()
    done = small_lab.run("doctor", "-o", "json")
    assert done.code == 0, done
    found = by_check(done.out)
    assert not [row for row in found.values() if row["result"] == "fail"]
    for check in ("url", "tls", "manager", "clock", "token", "store", "root", "packet filter"):
        assert found[check]["result"] == "ok", found[check]
    assert found["volunteers"]["seen"] == "2 in all: 2 free"
    assert "role" in found["token"]["seen"]
    assert found["sandbox"]["seen"].startswith("jobs run in chroots")
    assert surroundings() == before

    small_lab.lab.kill("manager", signal.SIGKILL)
    try:
        done = small_lab.run("doctor", "cluster", "-o", "json")
    finally:
        small_lab.lab.restart("manager")
    assert done.code == 69
    found = by_check(done.out)
    assert [row["check"] for row in found.values() if row["result"] == "fail"] == ["tcp"]


def test_a_trial_that_hangs_is_ended_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = surroundings()
    monkeypatch.setattr(enclosing, "TRIAL", 0.7)  # by then it has begun to make things
    (found,) = enclosing.try_sandbox()[:1]
    assert found.check == "sandbox"
    assert surroundings() == before


def test_a_doctor_that_is_ended_leaves_nothing() -> None:
    before = surroundings()
    command = [sys.executable, "-m", "syndicate.cli", "doctor", "host"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        eventually(lambda: list(Path("/var/tmp").glob("syndicate-doctor-*/state")))
        process.terminate()
    assert process.returncode == -signal.SIGTERM
    eventually(lambda: surroundings() == before)


#: Root of a user namespace in which no further one may be made.
WALLED_IN = (
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"',
)


@pytest.mark.parametrize(
    ("before", "code", "results"),
    [
        ((), 0, {"packet filter": "skipped", "job disks": "warn", "user namespaces": "ok"}),
        (WALLED_IN, 1, {"root": "warn", "sandbox": "fail", "user namespaces": "warn"}),
    ],
    ids=["ordinary", "walled in"],
)
def test_who_is_not_root_gets_an_answer(
    before: tuple[str, ...], code: int, results: dict[str, str]
) -> None:
    env = {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "PYTHONPATH": f"{sysconfig.get_paths()['purelib']}:{Path(__file__).parents[2]}",
    }
    left_before = surroundings()
    user = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    # Ours may lie where only root can go; what root has started there cannot start it again.
    again = "import subprocess, sys, click, twisted; subprocess.check_call([sys.executable, '-V'])"
    usable = ["-c", again]
    for python in (sys.executable, "/usr/bin/python3"):
        tried = ["/usr/bin/setpriv", *user, python, *usable]
        if subprocess.run(tried, env=env, cwd="/", capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("no Python can be used by another user with our libraries")
    words = ["doctor", "host", "-o", "json"]
    done = subprocess.run(
        ["/usr/bin/setpriv", *user, *before, python, "-m", "syndicate.cli", *words],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    found = by_check(done.stdout)
    assert (done.returncode, done.stderr) == (code, ""), done
    assert {check: found[check]["result"] for check in results} == results
    assert surroundings() == left_before
