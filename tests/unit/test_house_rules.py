"""The house rules can fail: each of these tests breaks one, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

BAD_AND_GOOD = """
import asyncio
import os
import subprocess
import time

import hypothesis
import pytest
import pytest_twisted
from hypothesis import strategies
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger


def test_leaks_a_timer():
    reactor.callLater(30, print)


def test_leaks_a_port():
    reactor.listenTCP(0, Factory(), interface="127.0.0.1")


def test_leaks_a_process():
    subprocess.Popen(["sleep", "60"])


def test_leaks_a_zombie():
    os.spawnlp(os.P_NOWAIT, "true", "true")


@pytest.mark.system
def test_leaks_a_daemon():
    os.system("setsid sh -c 'sleep 61 & exit' >/dev/null 2>&1")


def test_logs_a_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("oops")


def test_drops_a_failed_deferred():
    d = Deferred()
    d.errback(KeyError("dropped"))
    d.circle = d


@pytest_twisted.ensureDeferred
@pytest.mark.deadline(0.3)
async def test_awaits_for_ever():
    await Deferred()


@pytest.mark.deadline(0.3)
def test_returns_what_never_fires():
    return Deferred()


@pytest_twisted.ensureDeferred
@pytest.mark.deadline(0.3)
async def test_survives_being_cancelled():
    while True:
        try:
            await Deferred()
        except CancelledError:
            pass


@pytest.mark.deadline(0.3)
def test_blocks():
    time.sleep(60)


@pytest_twisted.ensureDeferred
@pytest.mark.deadline(0.3)
async def test_blocks_after_an_await():
    await deferLater(reactor, 0.01)
    time.sleep(60)


@hypothesis.given(strategies.integers())
def test_is_refuted(number):
    assert number < 100


def test_warns():
    import warnings
    warnings.warn("old", DeprecationWarning)


def test_good():
    pass


def test_good_with_expected_error(logged_errors):
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("meant")
    assert [str(error) for error in logged_errors.flush(ZeroDivisionError)] == ["division by zero"]


@pytest_twisted.ensureDeferred
async def test_good_with_a_closing_port():
    port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
    await deferLater(reactor, 0.01)
    port.stopListening()


@hypothesis.given(strategies.integers())
@pytest_twisted.ensureDeferred
async def test_good_property(number):
    await deferLater(reactor, 0)
    assert number == number


@pytest.mark.needs_root
def test_good_as_root():
    pass
"""


def run_pytest(
    folder: Path, tests: str, *options: str, through: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run these tests in that folder, under the rules and settings of this repository."""
    (folder / "test_rules.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.house_rules", "-rA", "-q"]
    settings = ["-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(folder)]
    return subprocess.run(
        [*through, *command, *settings, "-p", "no:cacheprovider", *options, str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What pytest said of each test, by its name."""
    ran = run_pytest(tmp_path_factory.mktemp("rules"), BAD_AND_GOOD)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    lines = re.findall(r"^(\w+) .*::(test_\w+)(.*)$", ran.stdout, re.MULTILINE)
    said: dict[str, str] = {}
    for verdict, name, why in lines:
        # A test that passed and then left something behind has two lines.
        if said.get(name, "PASSED").startswith("PASSED"):
            said[name] = verdict + why
    return said


@pytest.mark.deadline(90)
@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("leaks_a_timer", "ERROR .*left timers.*DelayedCall"),
        ("leaks_a_port", "ERROR .*left sockets.*Factory"),
        ("leaks_a_process", "ERROR .*left processes.*sleep 60"),
        ("leaks_a_zombie", "ERROR .*left processes.*nobody waited"),
        ("leaks_a_daemon", "ERROR .*left processes elsewhere.*sleep 61"),
        ("logs_a_failure", "ERROR .*logged"),
        ("drops_a_failed_deferred", "ERROR .*logged"),
        ("awaits_for_ever", "FAILED .*still waiting"),
        ("returns_what_never_fires", "FAILED .*still waiting"),
        ("survives_being_cancelled", "FAILED .*still waiting"),
        ("blocks", "FAILED .*blocks the reactor"),
        ("blocks_after_an_await", "FAILED .*blocks the reactor"),
        ("is_refuted", "FAILED"),
        ("warns", "FAILED .*DeprecationWarning"),
        ("good", "PASSED"),
        ("good_with_expected_error", "PASSED"),
        ("good_with_a_closing_port", "PASSED"),
        ("good_property", "PASSED"),
    ],
)
def test_each_rule_is_kept(verdicts: Mapping[str, str], name: str, verdict: str) -> None:
    assert re.match(verdict, verdicts[f"test_{name}"])


def test_a_run_that_cannot_be_stopped_ends_and_says_where(tmp_path: Path) -> None:
    ran = run_pytest(
        tmp_path,
        """
import time

import pytest


@pytest.mark.deadline(0.1)
def test_stubborn():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
""",
        "--patience=1",
    )
    assert ran.returncode == pytest.ExitCode.INTERNAL_ERROR
    assert "test_stubborn cannot be stopped" in ran.stderr
    assert re.search(r'File ".*test_rules.py", line 11 in test_stubborn', ran.stderr)


@pytest.mark.needs_root
def test_tests_that_need_root_are_skipped_for_others(tmp_path: Path) -> None:
    ran = run_pytest(
        tmp_path,
        "import pytest\n@pytest.mark.needs_root\ndef test_mounts(): pass\n",
        through=["setpriv", "--bounding-set=-sys_admin"],
    )
    assert re.search("SKIPPED.*needs root", ran.stdout), ran.stdout + ran.stderr
