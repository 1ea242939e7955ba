"""Clusters in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Builds a `Cluster` with so many volunteers; all are closed, and must be quiet, at the end."""
    made: list[Cluster] = []

    def make(volunteers: int = 3, behaviour: Any = None, **values: Any) -> Cluster:
        cluster = Cluster(tmp_path / str(len(made)), behaviour, **values)
        made.append(cluster)
        cluster.add(*(f"v{n}" for n in range(1, volunteers + 1)))
        return cluster

    yield make
    for cluster in made:
        cluster.close()
