"""Bringing a lab up and taking it down, by its commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.calibration import PYTHON
from bench.cluster import VOLUNTEERS
from bench.figures import Figure
from bench.session import Session
from syndicate.lab import Lab, state

BOUND = 240.0

COMMAND = Path(sys.executable).with_name("syndicate")

#: Each takes seconds, so there are fewer of them.
MOST_RUNS = 10


def measure(session: Session) -> list[Figure]:
    """Time ``syndicate lab up`` until it returns, which is when all have registered."""
    labs = session.directory / "labs"
    ups, downs = [], []
    for run in range(min(session.runs, MOST_RUNS)):
        name = f"up{run}"
        try:
            ups.append(_command(labs, "up", "-n", str(VOLUNTEERS), "--name", name))
            downs.append(_command(labs, "down", "--yes", "--name", name))
        except BaseException:
            Lab(name, labs / name).down()
            raise
    daemons = VOLUNTEERS + 1
    return [
        Figure(
            f"lab up -n {VOLUNTEERS}: all registered",
            ups,
            "s",
            target=3.0,
            peer=session.peer(PYTHON, daemons / 1000),
        ),
        Figure("lab down", downs, "s", peer=session.peer(PYTHON, daemons / 1000)),
    ]


def _command(labs: Path, *words: str) -> float:
    environment = {**os.environ, state.STATE_VARIABLE: str(labs)}
    began = time.monotonic()
    done = subprocess.run(
        [COMMAND, "lab", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        raise RuntimeError(f"lab {' '.join(words)}: {done.stderr.strip()}")
    return time.monotonic() - began
