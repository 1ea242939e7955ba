from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from syndicate.domain.job import Limits
from syndicate.sandbox.interface import Exit, IRun, Plot
from syndicate.sandbox.memory import MemoryRun, MemorySandbox

HOUR = 3600.0


def plot(key: str = "1.1.master", **limits: Any) -> Plot:
    return Plot(key, "master", (), Path("/nowhere"), "0" * 64, Limits(**limits))


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addCallback(found.append)
    assert found, "it has not fired"
    return found[0]


def start(sandbox: MemorySandbox, **limits: Any) -> tuple[IRun, list[bytes]]:
    printed: list[bytes] = []
    enclosure = result(sandbox.prepare(plot(**limits)))
    run = result(enclosure.start(["make"], {}, lambda stream, data: printed.append(data)))
    return run, printed


def test_by_default_a_program_ends_well_as_soon_as_anything_happens() -> None:
    clock = Clock()
    run, _ = start(MemorySandbox(clock))
    end = run.wait()
    assert not end.called
    clock.advance(0)
    assert result(end) == Exit(code=0)
    assert clock.getDelayedCalls() == []


def test_time_is_the_clocks() -> None:
    clock = Clock()
    run, _ = start(MemorySandbox(clock, lambda run: run.later(HOUR / 2, lambda: run.exit(3))))
    end = run.wait()
    clock.pump([0, HOUR / 4])
    assert not end.called
    clock.advance(HOUR / 4)
    assert result(end) == Exit(code=3)


def test_the_time_limit_is_kept_by_the_clock() -> None:
    clock = Clock()
    run, _ = start(MemorySandbox(clock, lambda run: None), wall=10)
    clock.advance(9.9)
    end = run.wait()
    assert not end.called
    clock.advance(0.1)
    assert result(end) == Exit(signal=9, limit="wall")


def test_a_program_sees_what_it_was_started_with() -> None:
    clock = Clock()
    seen: list[MemoryRun] = []
    run, printed = start(MemorySandbox(clock, seen.append))
    clock.advance(0)
    assert seen == [run]
    seen[0].print(b"hello")
    assert (printed, list(seen[0].argv), seen[0].plot) == ([b"hello"], ["make"], plot())


def test_what_has_ended_does_nothing_more() -> None:
    clock = Clock()
    run, printed = start(MemorySandbox(clock, lambda run: None))
    assert isinstance(run, MemoryRun)
    clock.advance(0)
    assert result(run.kill()) == Exit(signal=9, killed=True)
    run.print(b"late")
    run.exit(0)
    run.later(1, lambda: pytest.fail("it acts after its end"))
    clock.advance(2)
    assert result(run.wait()) == Exit(signal=9, killed=True)
    assert printed == []


def test_a_crash_loses_everything_without_a_word() -> None:
    clock = Clock()
    sandbox = MemorySandbox(clock, lambda run: None)
    run, _ = start(sandbox)
    end = run.wait()
    sandbox.crash()
    clock.advance(2 * HOUR)
    assert not end.called
    assert clock.getDelayedCalls() == []
    assert sandbox.enclosures == {}


def test_a_thousand_at_once_are_no_burden() -> None:
    clock = Clock()
    sandbox = MemorySandbox(clock)
    ends = []
    for index in range(1000):
        enclosure = result(sandbox.prepare(plot(f"{index}")))
        ends.append(result(enclosure.start(["make"], {}, lambda stream, data: None)).wait())
    clock.advance(0)
    assert {result(end) for end in ends} == {Exit(code=0)}
    result(sandbox.close())
    assert sandbox.enclosures == {}
