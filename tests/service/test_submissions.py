"""A submission is one job, however often and whenever it is sent."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from twisted.internet.defer import Deferred

from syndicate.domain.errors import Conflict, InvalidJob
from syndicate.manager.site import Site, with_clients
from syndicate.store.interface import Batch
from tests.support.cluster import ANN, BOB, Cluster, instead
from tests.support.histories import spec as spec_of

Make = Callable[..., Cluster]


def held_back(cluster: Cluster) -> list[Callable[[], object]]:
    """Lets commits wait until they are called for; gives those that wait."""
    waiting: list[Callable[[], object]] = []

    def commit(batch: Batch, term: int) -> Deferred[int]:
        done: Deferred[int] = Deferred()
        waiting.append(lambda: cluster.store.commit(batch, term).chainDeferred(done))
        return done

    cluster.manager._journal._store = instead(cluster.store, commit=commit)
    return waiting


def test_a_submission_sent_again_while_the_first_is_being_stored_is_the_same_job(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(0)
    spec = cluster.job(cluster.submit(1)).spec
    waiting = held_back(cluster)
    asked = [
        Deferred.fromCoroutine(cluster.manager.admission.submit(ANN, "token-again", spec))
        for _ in range(3)
    ]
    other = Deferred.fromCoroutine(cluster.manager.admission.submit(BOB, "token-again", spec))
    cluster.settle()
    assert not any(each.called for each in asked)
    while waiting:
        waiting.pop(0)()
        cluster.settle()
    jobs = [cluster.result_of(each) for each in asked]
    assert len({job.number for job, _ in jobs}) == 1
    assert [new for _, new in jobs] == [True, False, False]
    job, new = cluster.result_of(other)
    assert new
    assert job.number != jobs[0][0].number
    assert len(cluster.manager.book.jobs) == 3


def test_another_submission_by_the_token_of_one_that_is_being_stored_is_refused(
    make_cluster: Make,
) -> None:
    cluster = make_cluster(0)
    spec = cluster.job(cluster.submit(1)).spec
    waiting = held_back(cluster)
    first = Deferred.fromCoroutine(cluster.manager.admission.submit(ANN, "token-again", spec))
    changed = attrs.evolve(spec, name="another")
    second = Deferred.fromCoroutine(cluster.manager.admission.submit(ANN, "token-again", changed))
    cluster.settle()
    while waiting:
        waiting.pop(0)()
        cluster.settle()
    assert cluster.result_of(first)[1]
    with pytest.raises(Conflict, match="another source or name"):
        cluster.result_of(second)


def test_who_asks_for_clients_that_the_site_has_not_is_told_how_to_bring_one() -> None:
    with pytest.raises(InvalidJob, match=r"--client PATH.*client\.source"):
        with_clients(Site(), spec_of(1, clients=2))
