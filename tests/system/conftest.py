"""Labs that system tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.labs import Running, up


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A lab of one manager and six volunteers, for the tests of one module."""
    with up(tmp_path_factory.mktemp("lab"), 6) as running:
        yield running
