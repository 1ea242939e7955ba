"""What making ``.venv`` says: nothing of an install that went well, and all of one that failed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/make-venv"

#: Makes of itself what it is asked for, and has a pip that warns, and fails if it is told to.
PYTHON = """#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip "*)
        echo "WARNING: Location 'file:///wheels' is ignored" >&2
        echo "Looking in links: /wheels"
        if [ -n "${PIP_FAILS:-}" ]; then echo "ERROR: No matching distribution" >&2; exit 7; fi ;;
    *) echo "Python 3.11" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts/make-venv")
    for name, text in (
        ("python", PYTHON),
        ("scripts/find-python", f"#!/bin/sh\necho {tmp_path}/python\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name in ("requirements.lock", "setup.py", "pyproject.toml"):
        (tmp_path / name).touch()
    return tmp_path


def make(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts/make-venv"],
        env={"PATH": os.environ["PATH"], "VENV_LOCKED": "yes", **environment},
        capture_output=True,
        text=True,
        timeout=9,
        check=False,
    )


def test_an_install_that_goes_well_is_quiet(checkout: Path) -> None:
    made = make(checkout)
    assert made.returncode == 0, made.stderr
    assert (checkout / ".venv/made-from-setup").exists()
    assert "pip" not in made.stdout + made.stderr
    assert "ignored" not in made.stdout + made.stderr


def test_an_install_that_fails_shows_all_that_pip_said(checkout: Path) -> None:
    made = make(checkout, PIP_FAILS="yes")
    assert made.returncode == 7
    assert "WARNING: Location 'file:///wheels' is ignored\nLooking in links" in made.stderr
    assert "ERROR: No matching distribution\n" in made.stderr
    assert not (checkout / ".venv/made-from-lock").exists()
