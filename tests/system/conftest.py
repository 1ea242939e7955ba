"""Labs that system tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syndicate.lab import Lab
from tests.support.labs import Running
from tests.support.traces import KEEPERS


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A lab of one manager and six volunteers, for the tests of one module."""
    directory = tmp_path_factory.mktemp("lab")
    directory.chmod(0o755)
    yield from _up(directory, 6)


def _up(directory: Path, volunteers: int) -> Iterator[Running]:
    lab = Lab(f"test{directory.name[-1]}", directory / "state")
    lab.up(volunteers)

    def daemons() -> list[int]:
        return [host.pid for host in lab.hosts.values() if host.pid]

    KEEPERS.append(daemons)
    try:
        yield Running(lab, directory)
    finally:
        KEEPERS.remove(daemons)
        lab.down()
