"""The manager dies at each step of its work, under load, and loses nothing.

Twice at each step here; ``make killmatrix`` is thirty times.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.altered import BY_TURNS, STEPS
from tests.support.tortures import kill_matrix

pytestmark = [pytest.mark.system, pytest.mark.needs_root]

TIMES = 2 * (len(STEPS) - 1)


@pytest.mark.deadline(480)
def test_a_manager_that_dies_at_each_step_of_its_work_loses_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    result = kill_matrix(tmp_path, [BY_TURNS], TIMES)[BY_TURNS]
    assert not result.violations, "\n".join(f"{v.text}\n{v.evidence}" for v in result.violations)
    assert result.counts["daemons that ended by themselves"] >= TIMES
    assert result.counts["jobs that passed"] >= 3
