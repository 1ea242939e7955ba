"""The torture finds what it is there to find: it fails when a safeguard is taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.torture.facts import Rule
from syndicate.torture.run import Result
from syndicate.torture.schedule import Act, Deed
from tests.support.altered import LATE_ALLOCATION
from tests.support.tortures import die, schedule, torture

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(300)]


def kills(host: str, *moments: float) -> list[Act]:
    return [Act(at, Deed.KILL, host) for at in moments]


def broken(result: Result) -> dict[Rule, list[str]]:
    found: dict[Rule, list[str]] = {}
    for violation in result.violations:
        found.setdefault(violation.rule, []).append(violation.text)
    return found


def test_orders_that_go_out_before_the_allocation_is_stored_are_found(tmp_path: Path) -> None:
    found = broken(die(tmp_path, LATE_ALLOCATION, 3, "unwritten-orders"))
    assert Rule.OWN_MACHINE in found, found


def test_volunteers_that_do_not_sweep_when_they_start_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    acts = [act for n in (1, 2, 3) for act in kills(f"v{n}", 1.0 + n)]
    plan = schedule(5.0, 3, acts, lasts=2.0)
    found = broken(torture(tmp_path / "lab", plan, {"volunteer": "no-sweep"}))
    assert any("has of former jobs" in text for text in found.get(Rule.NOTHING_LEFT, [])), found
