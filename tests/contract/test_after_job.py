"""The operator's command after each job, with real processes."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from syndicate.domain.errors import NotClean
from syndicate.volunteer.after_job import Command
from syndicate.wire.interface import Holding


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def command(*argv: str, deadline: float = 20.0, reboots: bool = False) -> Command:
    return Command(_reactor(), argv, deadline, reboots)


@pytest_twisted.ensureDeferred
async def test_a_command_runs_and_is_told_of_the_job(tmp_path: Path) -> None:
    text = 'echo "$SYNDICATE_JOB $SYNDICATE_ATTEMPT $SYNDICATE_MACHINE $PWD" > "$0"; read line'
    argv = ("/bin/sh", "-c", text + " || true", str(tmp_path / "told"))
    await command(*argv)(Holding(17, 2, "slave[1]"))
    assert (tmp_path / "told").read_text() == "17 2 slave[1] /\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("/bin/sh", "-c", "echo no such disk >&2; exit 3"), "exit code 3.* no such disk"),
        (("/bin/sh", "-c", "kill -9 $$"), "signal 9"),
        (("/no/such/command",), "exit code 127.*No such file"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_one_that_fails_says_how(argv: tuple[str, ...], why: str) -> None:
    with pytest.raises(NotClean, match=why):
        await command(*argv)(None)


@pytest_twisted.ensureDeferred
async def test_one_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    text = 'sleep 1000 & echo $! > "$0"; echo busy; wait'
    argv = ("/bin/sh", "-c", text, str(tmp_path / "pid"))
    with pytest.raises(NotClean, match=r"did not end within 1 s.*busy"):
        await command(*argv, deadline=1.0)(None)
    pid = int((tmp_path / "pid").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await deferLater(_reactor(), 0.02)


@pytest_twisted.ensureDeferred
async def test_one_that_is_broken_off_is_gone(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import time; time.sleep(1000)")
    doing: Deferred[Any] = Deferred.fromCoroutine(command(*argv)(None))
    doing.cancel()
    with pytest.raises(CancelledError):
        await doing


@pytest_twisted.ensureDeferred
async def test_a_host_that_runs_on_after_its_reboot_is_unclean() -> None:
    with pytest.raises(NotClean, match=r"this host runs on after 0\.5 s"):
        await command("/bin/true", deadline=0.5, reboots=True)(None)
