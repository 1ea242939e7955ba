"""The torture finds what it is there to find: it fails when a safeguard is taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.torture.facts import Rule
from syndicate.torture.run import Result
from syndicate.torture.schedule import MANAGER, Act, Deed
from tests.support.tortures import schedule, torture

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(300)]


def kills(host: str, *moments: float) -> list[Act]:
    return [Act(at, Deed.KILL, host) for at in moments]


def broken(result: Result) -> dict[Rule, list[str]]:
    found: dict[Rule, list[str]] = {}
    for violation in result.violations:
        found.setdefault(violation.rule, []).append(violation.text)
    return found


def test_orders_that_go_out_before_the_allocation_is_stored_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    plan = schedule(13.0, 4, kills(MANAGER, 3.0, 6.0, 9.0, 12.0), lasts=1.5)
    words = {"manager": "late-allocations,unwritten-orders"}
    found = broken(torture(tmp_path / "lab", plan, words))
    assert Rule.OWN_MACHINE in found, found


def test_volunteers_that_do_not_sweep_when_they_start_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    acts = [act for n in (1, 2, 3) for act in kills(f"v{n}", 1.0 + n)]
    plan = schedule(5.0, 3, acts, lasts=2.0)
    found = broken(torture(tmp_path / "lab", plan, {"volunteer": "no-sweep"}))
    assert any("has of former jobs" in text for text in found.get(Rule.NOTHING_LEFT, [])), found
