"""Brings to the manager what it must hear, over any number of connections."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from syndicate.domain.errors import SyndicateError
from syndicate.once import Once
from syndicate.volunteer.outbox import Outbox
from syndicate.wire.interface import EndReport, IManager

log = Logger()

#: Seconds between two tries to bring a report to a manager that did not take it.
RETRY = 1.0


@attrs.define(eq=False)
class Post:
    """Tells the manager of the moment; what it does not take is told again."""

    _clock: IReactorTime
    _outbox: Outbox
    _manager: IManager | None = attrs.field(init=False, default=None)
    _arrivals: list[Deferred[IManager]] = attrs.field(init=False, factory=list)
    #: Reports that are being told, until they are acknowledged.
    _under_way: dict[EndReport, Once[None]] = attrs.field(init=False, factory=dict)

    def connected(self, manager: IManager) -> None:
        """There is a manager; reports that a former run of the daemon left are told too."""
        self._manager = manager
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            arrival.callback(manager)
        for report in self._outbox.reports:
            self._deliver(report)

    def parted(self) -> None:
        """There is none."""
        self._manager = None

    def close(self) -> None:
        """Tell no more; what is not acknowledged stays on disk."""
        for telling in list(self._under_way.values()):
            telling.cancel()
        self._under_way.clear()

    async def report(self, report: EndReport) -> None:
        """Keep a report on disk, and tell it; over once it is acknowledged. It goes on being told
        if nobody waits for that any more.
        """
        await self._outbox.add(report)
        await self._deliver(report).follow()

    def _deliver(self, report: EndReport) -> Once[None]:
        telling = self._under_way.get(report)
        if telling is None:
            telling = Once(self._tell_report(report))
            if not telling.over:
                self._under_way[report] = telling
        return telling

    async def _tell_report(self, report: EndReport) -> None:
        try:
            await self.tell(lambda manager: manager.ended(report))
            await self._outbox.acknowledged(report)
        finally:
            self._under_way.pop(report, None)

    async def say_clean(self, unclean: str) -> None:
        """Say that all is well (an empty text), or what is not clean, until it has been taken."""
        await self.tell(lambda manager: manager.clean(unclean))

    async def tell(self, say: Callable[[IManager], Deferred[None]]) -> None:
        """Say something until a manager has taken it."""
        while True:
            manager = await self.arrival()
            try:
                await say(manager)
            except SyndicateError as error:
                log.warn("A report was not taken, and is repeated: {why}", why=str(error))
                await deferLater(self._clock, RETRY)
            else:
                return

    def arrival(self) -> Deferred[IManager]:
        """Fires with the manager, once there is one."""
        if self._manager is not None:
            return succeed(self._manager)
        arrival: Deferred[IManager] = Deferred(lambda d: self._arrivals.remove(d))
        self._arrivals.append(arrival)
        return arrival
