"""The manager dies, at any moment, and another one takes over what it had under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from syndicate.domain.job import JobState, Outcome
from syndicate.sandbox.memory import MemoryRun
from syndicate.store.interface import Batch, IStore
from tests.support.cluster import Cluster, instead

Make = Callable[..., Cluster]


@attrs.define
class Death:
    """The manager dies as it writes one of its batches, just before that is stored, or just after:
    it hears of nothing that it writes from then on, and so gives no order and no answer.
    """

    at: int
    stored: bool
    count: int = 0

    @property
    def came(self) -> bool:
        return 0 < self.at <= self.count

    def before(self, store: IStore) -> Any:
        def commit(batch: Batch, term: int) -> Deferred[int]:
            self.count += 1
            if not self.came:
                return store.commit(batch, term)
            if self.count == self.at and self.stored:
                store.commit(batch, term)
            return Deferred()

        return instead(store, commit=commit)


class Programs:
    """Counts how often each target was started; lets them end in their turn."""

    def __init__(self) -> None:
        self.started: Counter[tuple[str, str]] = Counter()

    def __call__(self, run: MemoryRun) -> None:
        name = run.env["SYNDICATE_MACHINE"]
        self.started[run.env["SYNDICATE_ATTEMPT"], name] += 1
        run.print(b"I began\n")
        run.later({"master": 4, "slave[0]": 2, "slave[1]": 3}[name], lambda: run.exit(0))


def runs_through_a_death(make_cluster: Make, at: int, *, stored: bool, pause: float) -> Death:
    """A job whose manager dies with a write and comes back after a pause; all else goes well."""
    programs = Programs()
    death = Death(at, stored)
    cluster = make_cluster(3, programs, writing=death.before)
    number = cluster.submit(3)
    for _ in range(10):
        if death.came:
            break
        cluster.wait(1)
    if death.came:
        cluster.wait(pause)
        cluster.writing = lambda store: store
        cluster.restart_manager()
        cluster.wait(20)
    job = cluster.job(number)
    assert (job.state, job.outcome, job.attempt) == (JobState.FINISHED, Outcome.PASSED, 1)
    assert programs.started == {("1", m.name): 1 for m in job.machines}
    assert cluster.kinds(number)[-1] == "finished"
    assert set(cluster.states().values()) == {"free"}
    return death


@pytest.mark.parametrize("stored", [False, True], ids=["unwritten", "written"])
@pytest.mark.parametrize("pause", [0.0, 1.0, 6.0])
def test_a_job_survives_the_managers_death_at_every_write(
    make_cluster: Make, stored: bool, pause: float
) -> None:
    last = runs_through_a_death(make_cluster, 0, stored=stored, pause=pause).count
    # The first write is the submission: a job that was never acknowledged need not be there.
    for at in range(2, last + 1):
        death = runs_through_a_death(make_cluster, at, stored=stored, pause=pause)
        assert death.came
