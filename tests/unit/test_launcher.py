"""The launcher as a program: what it needs, and when it goes by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "syndicate/sandbox/launcher.py"
#: What the modules of a launcher must do without; each takes milliseconds of every start.
SLOW = {"collections", "dataclasses", "enum", "json", "logging", "re", "signal", "typing"}


def launch(*options: str, daemon: int | None = None) -> subprocess.CompletedProcess[str]:
    number = os.getpid() if daemon is None else daemon
    with_channel = ["sh", "-c", 'exec "$0" "$@" 3>/dev/null']
    argv = [*with_channel, sys.executable, "-I", "-S", *options, str(LAUNCHER), str(number)]
    return subprocess.run(argv, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_it_needs_little_and_nothing_but_the_standard_library() -> None:
    done = launch("-X", "importtime")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.split("|")[-1].strip() for line in lines[1:]}
    assert "syndicate.sandbox.confine.program" in loaded
    known = {*sys.stdlib_module_names, "syndicate"}
    foreign = {name for name in loaded if name.split(".")[0] not in known}
    assert {name for name in foreign if not name.startswith(("_", "encodings"))} == set()
    assert loaded & SLOW == set()


@pytest.mark.parametrize("daemon", [None, 1])
def test_it_goes_when_it_is_not_wanted(daemon: int | None) -> None:
    done = launch(daemon=daemon)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
