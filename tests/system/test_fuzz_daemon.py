"""The fuzzers against a manager that runs by itself, for some seconds; `tests.fuzz` has them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from tests.fuzz import api_daemon, lines, pb_daemon
from tests.fuzz.attacked import Attacked, attacked
from tests.fuzz.campaign import Attempt, Campaign
from tests.fuzz.framing import replies
from tests.fuzz.lines import Line
from tests.support.banana import encoded

pytestmark = [pytest.mark.system, pytest.mark.deadline(120)]

SEED = 1
SOME = Random(SEED)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("attacked")) as found:
        yield found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Attacked]:
    """One that may be started again."""
    with attacked(tmp_path) as found:
        yield found


@pytest.fixture
def target(shared: Attacked) -> Iterator[Attacked]:
    yield shared
    shared.rest()


def campaign(target: Attacked, batch: Any, connect: Any, port: int, place: Path) -> Campaign:
    return Campaign(
        target,
        SEED,
        functools.partial(batch, target),
        functools.partial(connect, target),
        lambda random: Line(lines.tcp(port, lines.address(random))),
        place,
        crowd_size=60,
    )


@pytest.mark.parametrize("kind", ["wire", "api"])
def test_a_manager_that_is_fuzzed_serves_others_and_is_as_it_was(
    own: Attacked, tmp_path: Path, kind: str
) -> None:
    module: Any = {"wire": pb_daemon, "api": api_daemon}[kind]
    port = {"wire": own.daemon.wire_port, "api": own.daemon.api_port}[kind]
    found = campaign(own, module.batch, module.connect, port, tmp_path)
    found.run(float("inf"), most=2)
    assert not found.findings, found.findings[0]
    assert found.connections > 300
    assert len(found.outcomes) > 5, found.outcomes


@attrs.frozen
class Nothing:
    """Does nothing."""

    record: str = "nothing"

    def __call__(self) -> str:
        return "nothing"


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "Unhandled Error"])
def test_a_traceback_in_its_log_would_be_found(target: Attacked, tmp_path: Path, line: str) -> None:
    def batch(attacked: Attacked, seed: int, number: int) -> Sequence[Attempt]:
        with (target.daemon.directory / "log").open("a") as log:
            log.write(f"{line}\n")
        return [Nothing()]

    found = campaign(target, batch, pb_daemon.connect, target.daemon.wire_port, tmp_path)
    found.one()
    assert len(found.findings) == 1
    assert line in found.findings[0]


# What was found so, and shows with TLS alone.


def test_one_who_speaks_no_dialect_is_hung_up_on_and_logged_once(target: Attacked) -> None:
    before = len(target.daemon.log)
    line = target.wire(SOME, "f1")
    line.say(encoded(b"x") * 50_000)
    line.hear(lambda heard: False, 5.0)
    line.end()
    assert line.over
    assert len(target.daemon.log) - before < 1000


def test_a_bad_request_is_the_last_of_its_connection(target: Attacked) -> None:
    for bad in (b"GET /v1/version\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n"):
        line = target.api(SOME)
        for record in (bad, b"A: b\r\n", b"\r\n", b"GET /v1/version HTTP/1.1\r\n\r\n"):
            line.say(record)
        said = line.hear(lambda heard: False, 5.0)
        line.end()
        assert [each.status for each in replies(said, ["GET", "GET"], ended=True)] == [400]
    assert not list(target.check())


def test_a_manager_that_ends_would_be_found(target: Attacked) -> None:
    """The last test, as there is no manager after it."""
    assert not list(target.check())
    assert target.daemon.process is not None
    target.daemon.process.kill()
    target.daemon.process.wait()
    assert "it has ended" in next(iter(target.check()))
