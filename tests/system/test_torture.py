"""A minute in which a cluster is hurt at random loses nothing, changes nothing, leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.labs import COMMAND

pytestmark = [pytest.mark.system, pytest.mark.needs_root]

#: Another one may be given, to run what has failed elsewhere.
SEED = os.environ.get("TORTURE_SEED", "house")


@pytest.mark.deadline(480)
def test_a_minute_of_torture_violates_nothing(tmp_path: Path) -> None:
    words = ["lab", "torture", "--minutes", "1", "--seed", SEED, "-n", "4", "-o", "json"]
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [COMMAND, *words],
        env={**os.environ, "SYNDICATE_LAB_STATE": str(tmp_path / "labs")},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    shown = "\n\n".join(
        f"{each['rule']}: {each['text']}\n{each['evidence']}" for each in told["violations"]
    )
    assert not told["violations"], f"{shown}\n{done.stderr}\n{told['counts']}"
    # It has really been hurt, and has really worked.
    counts = told["counts"]
    assert counts["daemons started again"] >= 4
    assert counts["jobs that passed"] >= 5
    assert counts["witnesses heard"] >= 5
    assert not (tmp_path / "labs").exists()
