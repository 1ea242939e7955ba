"""How often the manager looks at the clocks of its volunteers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from tests.support.cluster import Cluster

#: Seconds for which is counted.
WHILE = 60


@attrs.define(eq=False)
class Distant:
    """A link on which every answer takes its time; only what the fleet asks of it is here."""

    clock: Any
    name: str
    #: Seconds.
    trip: float
    pings: list[float] = attrs.field(factory=list)

    def ping(self) -> Deferred[float]:
        self.pings.append(self.clock.seconds())
        answer: Deferred[float] = Deferred()
        self.clock.callLater(self.trip, lambda: answer.callback(self.clock.seconds()))
        return answer

    def drop(self) -> None:
        """Nothing is there to drop."""


@pytest.mark.parametrize(("trip", "more"), [(0.0, 0), (0.1, 2)])
def test_a_clock_that_cannot_be_known_well_is_not_looked_at_often(
    make_cluster: Callable[..., Cluster], trip: float, more: int
) -> None:
    """A thousand that join at once answer late all of them; see `syndicate.manager.liveness`."""
    cluster = make_cluster(1, lambda run: None)
    hello = cluster.hosts["v1"].service.hello()
    link: Any = Distant(cluster.clock, "v1", trip)
    cluster.manager.fleet.join(hello, link, None, wanted=False)
    cluster.wait(WHILE)
    every = cluster.manager.site.patience.ping + trip
    assert WHILE / every - 1 <= len(link.pings) <= WHILE / every + 1 + more
    if more:
        assert link.pings[1] - link.pings[0] < every / 2, "the first are soon"
