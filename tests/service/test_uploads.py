"""What may come into the manager's blobs, and what leaves them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred

from syndicate.domain.errors import InvalidSource, StorageFull, StorageReadOnly, TooMany
from syndicate.domain.job import JobState
from syndicate.manager.history import Keep
from syndicate.manager.site import Site
from syndicate.manager.uploads import GRACE, SWEEP, Room
from syndicate.sandbox.memory import MemoryRun
from tests.support.cluster import ANN, Cluster, instead, put

MakeCluster = Callable[..., Cluster]


def forever(run: MemoryRun) -> None:
    """Does not end."""


def at_once(run: MemoryRun) -> None:
    """Leaves a file and ends."""
    run.disk["result.txt"] = b"of " + run.env["SYNDICATE_MACHINE"].encode()
    run.later(0.1, lambda: run.exit(0))


def beginner(cluster: Cluster) -> Callable[..., Callable[[], None]]:
    """Lets uploads begin, and waits for the room that each needs."""

    def begin(who: str, size: int, *, volunteer: bool) -> Callable[[], None]:
        begun = cluster.manager.uploads.begin(who, size, volunteer=volunteer)
        end: Callable[[], None] = cluster.result_of(begun)
        return end

    return begin


def test_one_user_cannot_take_all_uploads_nor_users_those_of_volunteers(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(1, site=Site(room=Room(uploads=3, uploads_each=2)))
    begin = beginner(cluster)
    anns = [begin("ann", 10, volunteer=False) for _ in range(2)]
    with pytest.raises(TooMany, match="ann sends 2"):
        begin("ann", 10, volunteer=False)
    bobs = begin("bob", 10, volunteer=False)
    with pytest.raises(TooMany, match="takes 3"):
        begin("carl", 10, volunteer=False)
    # One of a user's name, too.
    volunteers = [begin("ann", 10, volunteer=True) for _ in range(2)]
    with pytest.raises(TooMany):
        begin("ann", 10, volunteer=True)
    anns[0]()
    anns[0]()
    with pytest.raises(TooMany):
        [begin("ann", 10, volunteer=False) for _ in range(2)]
    for end in (*anns, bobs, *volunteers):
        end()
    begin("carl", 10, volunteer=False)()


def sources(cluster: Cluster, *names: str, size: int = 1000) -> list[str]:
    digests = []
    for name in names:
        data = name.encode().ljust(size)
        end = beginner(cluster)("somebody", size, volunteer=False)
        cluster.result_of(put(cluster.blobs, data))
        end()
        digests.append(hashlib.sha256(data).hexdigest())
        cluster.clock.advance(1)
    return digests


def test_what_no_job_needs_makes_room_the_least_recently_used_first(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(1, forever, site=Site(room=Room(blobs=4500)))
    needed = cluster.submit(1), cluster.submit(1)
    first, second, third = sources(cluster, "first", "second", "third")
    cluster.blobs.open(first).close()
    cluster.clock.advance(GRACE + 1)
    beginner(cluster)("ann", 2000, volunteer=False)()
    assert cluster.blobs.size(second) is None
    assert cluster.blobs.size(first) == 1000
    for number in needed:
        assert cluster.blobs.size(cluster.job(number).spec.sha256) is not None
    beginner(cluster)("ann", 4300, volunteer=False)()
    assert [cluster.blobs.size(each) for each in (first, third)] == [None, None]
    assert cluster.job(needed[0]).state is JobState.RUNNING
    with pytest.raises(StorageFull, match="jobs need"):
        beginner(cluster)("ann", 4490, volunteer=False)
    for number in needed:
        assert cluster.blobs.size(cluster.job(number).spec.sha256) is not None


def with_outputs(cluster: Cluster, number: int, digest: str) -> None:
    """Let a job's first machine have left these."""
    job = cluster.job(number)
    first, *others = job.machines
    machines = (attrs.evolve(first, outputs=digest), *others)
    cluster.manager.book.jobs[number] = attrs.evolve(job, machines=machines)


def test_what_jobs_have_made_and_their_clients_are_spared(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, forever, site=Site(room=Room(blobs=6000)))
    number = cluster.submit_with_clients(2)
    outputs, other = sources(cluster, "outputs", "of no job")
    with_outputs(cluster, number, outputs)
    cluster.clock.advance(GRACE + 1)
    with pytest.raises(StorageFull, match="jobs need"):
        beginner(cluster)("ann", 5990, volunteer=False)
    assert cluster.blobs.size(other) is None
    spec = cluster.job(number).spec
    assert spec.client_sha256 != spec.sha256
    for digest in (outputs, spec.sha256, spec.client_sha256):
        assert cluster.blobs.size(digest) is not None


def test_what_has_just_come_is_spared_for_the_job_that_follows(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, forever, site=Site(room=Room(blobs=3000)))
    (sent,) = sources(cluster, "just sent")
    with pytest.raises(StorageFull):
        beginner(cluster)("bob", 2900, volunteer=False)
    assert cluster.blobs.size(sent) == 1000
    cluster.clock.advance(GRACE + 1)
    # One that is there already is used once more by being submitted.
    cluster.result_of(cluster.manager._gate.check(sent, 1000))
    with pytest.raises(StorageFull):
        beginner(cluster)("bob", 2900, volunteer=False)
    assert cluster.blobs.size(sent) == 1000


class SlowSweep:
    """Sweeps like the store that it stands before, but only when it is told to."""

    def __init__(self, cluster: Cluster) -> None:
        self._blobs = cluster.blobs
        self.begun: list[Deferred[None]] = []
        cluster.manager.uploads._blobs = instead(cluster.blobs, sweep=self.sweep)

    def sweep(self, *how: Any) -> Deferred[Any]:
        go: Deferred[None] = Deferred()
        self.begun.append(go)
        return go.addCallback(lambda _: self._blobs.sweep(*how))


def begin_several(cluster: Cluster, *sizes: int) -> tuple[list[Deferred[Any]], dict[int, Any]]:
    """Uploads that begin at once, and what becomes of each."""
    told: dict[int, Any] = {}
    begun: list[Deferred[Any]] = []
    for size in sizes:
        uploads = cluster.manager.uploads
        each: Deferred[Any] = Deferred.fromCoroutine(uploads.begin("ann", size, volunteer=False))
        each.addBoth(partial(told.__setitem__, size))
        begun.append(each)
    return begun, told


def under_way(cluster: Cluster) -> tuple[int, int]:
    uploads = cluster.manager.uploads
    return sum(uploads._under_way.values()), uploads._announced


def test_uploads_wait_while_room_is_made_and_who_has_none_then_is_refused(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(1, forever, site=Site(room=Room(blobs=4000)))
    first, second = sources(cluster, "first", "second")
    cluster.clock.advance(GRACE + 1)
    slow = SlowSweep(cluster)
    _, told = begin_several(cluster, 2500, 3900, 1400)
    cluster.settle()
    assert told == {}
    assert under_way(cluster) == (3, 7800)
    slow.begun.pop().callback(None)
    cluster.settle()
    # What the others are about to send has no room, either.
    assert isinstance(told.pop(2500).value, StorageFull)
    slow.begun.pop().callback(None)
    cluster.settle()
    assert isinstance(told.pop(3900).value, StorageFull)
    assert under_way(cluster) == (1, 1400)
    told.pop(1400)()
    assert under_way(cluster) == (0, 0)
    assert [cluster.blobs.size(each) for each in (first, second)] == [None, None]


def test_who_goes_away_while_room_is_made_takes_none(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, forever, site=Site(room=Room(blobs=4000)))
    sources(cluster, "first", "second")
    cluster.clock.advance(GRACE + 1)
    slow = SlowSweep(cluster)
    begun, told = begin_several(cluster, 3000, 3500)
    begun[1].cancel()
    assert told.pop(3500).check(CancelledError)
    slow.begun.pop().callback(None)
    cluster.settle()
    assert under_way(cluster) == (1, 3000)
    told.pop(3000)()


def test_a_sweep_that_fails_ends_the_wait_and_the_next_one_is_tried(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(1, forever, site=Site(room=Room(blobs=4000)))
    sources(cluster, "first", "second")
    cluster.clock.advance(GRACE + 1)
    slow = SlowSweep(cluster)
    _, told = begin_several(cluster, 3000)
    slow.begun.pop().errback(StorageReadOnly("It is read-only."))
    assert isinstance(told.pop(3000).value, StorageFull)
    _, told = begin_several(cluster, 3000)
    slow.begun.pop().callback(None)
    told.pop(3000)()
    # At its end the manager waits for the sweep, and nobody for the manager.
    _, told = begin_several(cluster, 5000)
    closing = Deferred.fromCoroutine(cluster.manager.uploads.close())
    cluster.settle()
    (before,) = {closing.called}
    slow.begun.pop().callback(None)
    assert (before, closing.called) == (False, True)
    assert isinstance(told.pop(5000).value, StorageFull)


def test_a_sweep_from_time_to_time_keeps_room_and_removes_unfinished_uploads(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(1, forever, site=Site(room=Room(blobs=10_000)))
    digests = sources(cluster, *(f"source {n}" for n in range(10)))
    writer = cluster.blobs.write("e" * 64, 100)
    writer.write(b"a part of it")
    writer.abandon()
    cluster.clock.advance(SWEEP + GRACE)
    held = [digest for digest in digests if cluster.blobs.size(digest) is not None]
    assert held == digests[2:]
    assert cluster.blobs.held("e" * 64) > 0
    cluster.clock.advance(25 * 3600)
    assert cluster.blobs.held("e" * 64) == 0


def test_a_source_that_was_swept_is_refused_with_a_reason(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    (digest,) = sources(cluster, "a source")
    cluster.result_of(cluster.manager._gate.check(digest, 1000))
    cluster.blobs.delete(digest)
    with pytest.raises(InvalidSource, match="upload it first"):
        cluster.result_of(cluster.manager._gate.check(digest, 1000))


def test_nothing_new_is_taken_when_only_the_reserve_is_free(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, at_once)
    number = cluster.submit(1)
    free = [0]
    cluster.manager.uploads._blobs = instead(cluster.blobs, free=lambda: free[0])
    with pytest.raises(StorageFull, match="reserve"):
        cluster.submit(1)
    health = cluster.result_of(cluster.manager.health())
    assert "reserve" in health["refuses"]
    # What runs ends as always.
    cluster.wait(2)
    assert cluster.job(number).state is JobState.FINISHED
    free[0] = 1
    assert cluster.result_of(cluster.manager.health())["refuses"] == ""
    assert cluster.submit(1) > number


def log_of(cluster: Cluster, number: int) -> list[Any]:
    return cluster.logs.list(number)


def test_logs_and_outputs_of_old_jobs_are_removed_when_the_site_wants_that(
    make_cluster: MakeCluster,
) -> None:
    day = 24 * 3600.0
    cluster = make_cluster(2, at_once, site=Site(keep=Keep(0, day), files_for=30 * day))
    old = cluster.submit(1)
    cluster.wait(1)
    (outputs,) = sources(cluster, "outputs")
    with_outputs(cluster, old, outputs)
    cluster.wait(60)
    assert old not in cluster.manager.book.jobs
    cluster.logs.append(old, 1, "master", cluster.logs.length(old, 1, "master"), b"x")
    cluster.clock.advance(29 * day)
    young = cluster.submit(1)
    cluster.wait(60)
    cluster.logs.append(young, 1, "master", cluster.logs.length(young, 1, "master"), b"x")
    assert log_of(cluster, old)
    assert cluster.blobs.size(outputs) is not None
    cluster.clock.advance(1.5 * day)
    cluster.settle()
    assert log_of(cluster, old) == []
    assert cluster.blobs.size(outputs) is None
    assert log_of(cluster, young)
    cluster.restart_manager()
    assert cluster.manager._aging.removed == old
    assert cluster.result_of(cluster.manager.history.job(old)).user == ANN.name


def test_outputs_of_an_old_job_that_a_later_one_has_made_as_well_stay(
    make_cluster: MakeCluster,
) -> None:
    day = 24 * 3600.0
    cluster = make_cluster(1, at_once, site=Site(keep=Keep(1, 90 * day), files_for=30 * day))
    old = cluster.submit(1)
    cluster.wait(1)
    (outputs,) = sources(cluster, "outputs")
    with_outputs(cluster, old, outputs)
    young = cluster.submit(1)
    cluster.wait(60)
    with_outputs(cluster, young, outputs)
    cluster.clock.advance(31 * day)
    cluster.settle()
    assert list(cluster.manager.book.jobs) == [young]
    assert cluster.manager._aging.removed == old
    assert cluster.blobs.size(outputs) is not None
