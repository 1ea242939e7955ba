"""The small file systems of a lab go when it does, whatever its directory is called."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from syndicate.lab import fittings
from syndicate.lab.cluster import Lab
from syndicate.lab.disks import SKELETONS, mounted
from syndicate.lab.state import Description
from tests.support.dummy_daemons import Sleepers

pytestmark = [pytest.mark.system, pytest.mark.needs_root]


@attrs.define
class Furnished(Sleepers):
    """Hosts that find what real daemons find, and sleep."""

    def furnish(self, directory: Path, description: Description) -> None:
        fittings.furnish(directory, description)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab("one", tmp_path / "Größe 1 \\ #2 'a\"", daemons=Furnished())
    yield lab
    lab.down()


def test_skeletons_are_in_memory_while_a_lab_is_up(lab: Lab) -> None:
    lab.up(1)
    assert mounted(lab.directory, SKELETONS) == [lab.directory / "skeletons"]
    lab.down(keep_state=True)
    assert mounted(lab.directory, SKELETONS) == []
    lab.up(1)
    assert mounted(lab.directory, SKELETONS) == [lab.directory / "skeletons"]
    lab.down()
    assert not lab.directory.exists()


def test_skeletons_of_a_lab_that_lost_a_daemon_are_not_put_above_each_other(lab: Lab) -> None:
    lab.up(1)
    lab.kill("v1")
    lab.up(1)
    assert mounted(lab.directory, SKELETONS) == [lab.directory / "skeletons"]


def test_skeletons_of_a_lab_whose_files_were_removed_go_with_the_rest(lab: Lab) -> None:
    lab.up(1)
    subprocess.run(["rm", "-rf", lab.directory], stderr=subprocess.DEVNULL, check=False)
    other = Lab("other", lab.directory.parent / "other", daemons=Sleepers())
    try:
        other.up(1)
        assert mounted(lab.directory, SKELETONS) == []
    finally:
        other.down()
