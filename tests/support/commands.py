"""Runs ``syndicate`` in this process, and says what came out."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from syndicate.cli.main import run
from syndicate.lab import state


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands against what the environment says."""

    def __call__(self, *words: str) -> Ended:
        """Run one."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "12")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(words)
        return Ended(code, _text(out), _text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def forget_environment(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Let nothing count of the environment's, the user's, or this machine's configuration."""
    for name in list(os.environ):
        if name.startswith("SYNDICATE_") and name != "SYNDICATE_TEST_RUN":
            patch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        patch.delenv(name, raising=False)
    patch.setenv("HOME", str(home))
    patch.chdir(home)


def record_lab(name: str, stage: str = "up", boot: str | None = None) -> None:
    """Write what a lab of ours would have on record, without one."""
    directory = state.lab_directory(name)
    directory.mkdir(parents=True)
    described = state.Description(
        name=name,
        stage=stage,
        index=0,
        net="10.77.0.0/24",
        gateway="10.77.0.1",
        boot=boot or state.this_boot(),
        url=f"https://{name}",
        authority=f"{directory}/client/ca.pem",
        token_file=f"{directory}/client/token",
    )
    state.write(directory, described)
