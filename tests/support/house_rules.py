"""The rules that every test is held to, as a pytest plugin.

A test has a deadline, leaves nothing behind, and logs no failure that it did not expect.
`tests/unit/test_house_rules.py` shows that breaking any of them is found.
"""

from __future__ import annotations

import gc
import os
import secrets
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from tests.support import traces
from tests.support.deadline import deadline_of, watchdog, with_deadline
from tests.support.traces import MARK, LoggedErrors, left_behind, look, sweep

#: Seconds that connections and processes get to come to the end they are on their way to.
SETTLING = 2.0

#: The capability that mounts and namespaces take, by its number in linux/capability.h.
CAP_SYS_ADMIN = 21

_stderr = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--patience",
        type=float,
        default=60.0,
        help="seconds past its deadline after which a test that cannot be stopped ends the run",
    )
    parser.addoption(
        "--fault-sequences",
        type=int,
        default=25,
        help="how many random sequences of faults are tried on a real job",
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ[MARK] = f"{os.getpid()}-{secrets.token_hex(8)}"
    # The real one: while a test runs, 2 is a file that pytest throws away when it is killed.
    config.stash[_stderr] = os.dup(2)
    # How long one example takes says more of the machine's other work than of our code; and a
    # change is not to fail for an example that it has nothing to do with.
    in_ci = "CI" in os.environ
    hypothesis.settings.register_profile("house", deadline=None, derandomize=in_ci)
    hypothesis.settings.load_profile("house")


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_stderr])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not _is_root():
        skip = pytest.mark.skip(reason="needs root, with the right to mount")
        for item in items:
            if item.get_closest_marker("needs_root"):
                item.add_marker(skip)


def _is_root() -> bool:
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    return os.geteuid() == 0 and bool(effective >> CAP_SYS_ADMIN & 1)


@pytest.fixture(autouse=True, scope="session")
def place_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tell our leftovers from those of other runs on this machine."""
    traces.place = tmp_path_factory.getbasetemp()


def pytest_collection_finish() -> None:
    # What is loaded by now stays; not to look at it again makes the collections below cheap.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    seconds = deadline_of(item) + item.config.getoption("--patience")
    with watchdog(item.nodeid, seconds, item.config.stash[_stderr]):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    test = pyfuncitem.obj
    if hasattr(test, "hypothesis"):
        # It calls the test many times and would take our failure for a falsifying example.
        return (yield)
    pyfuncitem.obj = with_deadline(test, deadline_of(pyfuncitem))
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


@pytest.fixture
def logged_errors() -> Iterator[LoggedErrors]:
    """The failures that this test has logged; it flushes those it expects."""
    errors = LoggedErrors()
    globalLogPublisher.addObserver(errors)
    yield errors
    globalLogPublisher.removeObserver(errors)


@pytest.fixture(autouse=True)
def leave_no_trace(request: pytest.FixtureRequest, logged_errors: LoggedErrors) -> Iterator[None]:
    """Fail a test that leaves something behind, or has logged what it did not expect."""
    deeper = any(map(request.node.get_closest_marker, ("needs_root", "system")))
    before = look(deeper)
    yield
    gc.collect()  # this is when a Deferred tells of an error that nobody handled

    left = left_behind(before)
    patience = time.monotonic() + SETTLING
    while left and time.monotonic() < patience:
        pytest_twisted.blockon(_turns_of_the_reactor())
        left = left_behind(before)
        if left.keys() == {"timers"}:
            break  # these are not on their way to anywhere

    complaints = [
        *(f"left {kind}: {sorted(map(str, things))}" for kind, things in left.items()),
        *(f"logged: {failure.getTraceback()}" for failure in logged_errors.failures),
    ]
    sweep(left)
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def _turns_of_the_reactor() -> Any:
    from twisted.internet import reactor

    return deferLater(reactor, 0.02)
