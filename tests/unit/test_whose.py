"""What other runs of the tests make on this machine is not taken for ours, and ours is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from syndicate.lab import neighbours, network
from syndicate.sandbox.host import tag_of
from tests.support import whose
from tests.support.whose import HOSTS, Others


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lab 3 is ours, lab 4 is another's; what is left of 5 and 6 does not tell."""
    directories = {3: tmp_path / "lab0" / "state", 4: Path("/elsewhere/state"), 5: None, 6: None}
    limits = neighbours.current()
    found = [network.Claim(index, where, limits) for index, where in directories.items()]
    monkeypatch.setattr(whose, "_claims", lambda: found)
    monkeypatch.setattr(whose, "_our_labs", set())
    record = tmp_path / "lab1" / "state" / "lab.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"index": 5}))


@pytest.mark.usefixtures("claims")
def test_labs_are_told_apart_by_their_owners(tmp_path: Path) -> None:
    others = Others(tmp_path)
    assert [n for n in range(3, 7) if others.have(f"syn-{n}-v1")] == [4, 6]
    assert [n for n in range(3, 7) if others.have(f"syn-{n}")] == [4, 6]


def test_hosts_are_told_apart_by_the_process_that_made_them(tmp_path: Path) -> None:
    others = Others(tmp_path)
    assert not others.have(f"{HOSTS}-1")
    assert not others.have(f"syndicate-{tag_of(f'{HOSTS}-1', tmp_path)}-network")
    strange = f"syn-n{os.getpid() + 1}"
    assert others.have(f"{strange}-hub")
    assert others.have(f"syndicate-{tag_of(f'{strange}-1', tmp_path)}-network")


@pytest.mark.parametrize("state", [".", "state", "lab0/state/v1/state", "a/b/v1/state"])
def test_control_groups_are_told_apart_by_the_state_directory(tmp_path: Path, state: str) -> None:
    # As it is after a lab was removed, state directories and all.
    (tmp_path / "lab0").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    others = Others(tmp_path)
    for suffix in ("", "-network"):
        assert not others.have(f"syndicate-{tag_of('v1', tmp_path / state)}{suffix}")
        assert others.have(f"syndicate-{tag_of('v1', Path('/elsewhere') / state)}{suffix}")


def test_what_nobody_can_be_told_to_own_is_ours(tmp_path: Path) -> None:
    assert not Others(tmp_path).have("syndicate-unheard-of")
