"""What a daemon, or a child of its, imports before it can do its work: all of a lab, or of a
cluster after a power cut, start at the same moment.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import syndicate

PACKAGE = Path(syndicate.__file__).parent

#: Each takes ten milliseconds or more, alone or with what it needs.
SLOW = ("click", "jinja2", "klein", "psutil", "rich", "treq", "twisted.conch", "werkzeug")


def imported(*command: str) -> set[str]:
    """The modules that a Python has imported when its work is done."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "os" in found, done.stderr
    return found


def test_a_volunteer_imports_nothing_that_only_others_or_some_jobs_need() -> None:
    found = imported("-c", "import syndicate.plugins.volunteer")
    assert "syndicate.volunteer.service" in found
    rooms = {"syndicate.manager", "syndicate.store", "syndicate.api", "syndicate.cli"}
    parts = {"syndicate.client.door", "syndicate.domain.events", "syndicate.wire.pb.server"}
    assert not found & {*SLOW, *rooms, *parts}


def test_a_manager_imports_nothing_that_only_people_at_a_terminal_need() -> None:
    found = imported("-c", "import syndicate.plugins.manager")
    assert "syndicate.manager.service" in found
    assert not found & ({*SLOW, "syndicate.volunteer"} - {"klein", "werkzeug"})


@pytest.mark.parametrize("daemon", ["manager", "volunteer"])
def test_help_imports_neither_daemon(daemon: str) -> None:
    twistd = str(Path(sys.executable).with_name("twistd"))
    found = imported(twistd, f"syndicate-{daemon}", "--help")
    assert "syndicate.plugins.makers" in found
    assert not found & {"syndicate.plugins.manager", "syndicate.plugins.volunteer"}


@pytest.mark.parametrize(
    "child", ["network/prober.py", "network/delayer.py", "sandbox/launcher.py"]
)
def test_a_child_imports_no_typing(child: str) -> None:
    """With what that needs, it would be a third of the child's start."""
    found = imported("-I", "-S", str(PACKAGE / child), "0")
    assert "ctypes" in found
    assert not found & {"typing", "re", "json"}


def test_a_lab_comes_up_and_goes_down_without_twisted() -> None:
    needed = ("lab.cluster", "credentials.authority", "sandbox.leftovers")
    found = imported("-c", "".join(f"import syndicate.{name}\n" for name in needed))
    assert "syndicate.lab.ground" in found
    assert "twisted" not in found
