"""Clusters in one process, and a manager for the command line that only answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.commands import Commands, forget_environment
from tests.support.fake_manager import FakeManager, serving


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeManager]:
    """Answers over HTTPS as the JSON API says, for a module of tests."""
    with serving(tmp_path_factory.mktemp("manager")) as manager:
        yield manager


@pytest.fixture
def fake_manager(
    server: FakeManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeManager]:
    """The same with nothing in it, and named by the environment."""
    forget_environment(monkeypatch, tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SYNDICATE_URL", server.url)
    monkeypatch.setenv("SYNDICATE_TOKEN", server.secret)
    monkeypatch.setenv("SYNDICATE_AUTHORITY", str(server.authority))
    server.forget()
    yield server
    server.forget()


@pytest.fixture
def syndicate(fake_manager: FakeManager) -> Commands:
    """The command line, against that manager."""
    return Commands()
