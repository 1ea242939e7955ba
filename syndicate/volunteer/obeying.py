"""Obeys the orders of managers: one part at a time, and none of a term that is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from syndicate.domain.errors import Conflict, Fenced, NotClean
from syndicate.volunteer.bench import Bench
from syndicate.volunteer.outbox import Outbox
from syndicate.volunteer.part import PartInHand
from syndicate.volunteer.tidying import Tidying
from syndicate.wire.interface import (
    FaultDone,
    FaultOrder,
    GivenBack,
    Holding,
    Part,
    PrepareOrder,
    Released,
)


@attrs.define(eq=False)
class Obeying:
    """Holds the part that the volunteer was given last, and does to it what is ordered.

    :param name: the volunteer's.
    :param make_bench: what the next part works with.
    :param cache_size: bytes of sources kept for later jobs.
    :param say_clean: brings to the manager that all is well (an empty text), or what is not.
    """

    _name: str
    _make_bench: Callable[[], Bench]
    _cache_size: int
    _outbox: Outbox
    _tidying: Tidying
    _say_clean: Callable[[str], Awaitable[None]]
    #: What is in hand.
    part: PartInHand | None = attrs.field(init=False, default=None)

    async def prepare(self, order: PrepareOrder) -> None:
        """See `IVolunteer.prepare`."""
        self._obey(order.part)
        if self._tidying.unfit:
            raise NotClean(self._tidying.unfit)
        if self.part is None:
            # Whoever gives the next part has stored that the last one was given back.
            self._outbox.forget_given()
            bench = self._make_bench()
            self.part = PartInHand(order, bench)
            needed = frozenset((order.sha256,))
            await bench.cache.sweep(lambda: needed, self._cache_size)
        await self._held(order.part).prepare()

    async def start(self, part: Part) -> None:
        """See `IVolunteer.start`."""
        self._obey(part)
        await self._held(part).start()

    async def inflict(self, order: FaultOrder) -> FaultDone:
        """See `IVolunteer.inflict`."""
        self._obey(order.part)
        return await self._held(order.part).inflict(order)

    async def release(self, part: Part) -> Released:
        """See `IVolunteer.release`."""
        self._obey(part)
        if self.part is None or self.part.holding != _holding(part):
            if self._tidying.problem:
                raise NotClean(self._tidying.problem)
            # The order came twice.
            return attrs.evolve(self._given_before(part), later=self._tidying.busy)
        released = await self._remove(self.part)
        return attrs.evolve(released, later=self._tidying.follow(_holding(part)))

    async def give_back(self) -> None:
        """The manager wants what is in hand no more, if anything: remove it and say so."""
        part, unclean = self.part, ""
        if part is None:
            return
        try:
            await self._remove(part)
        except NotClean as error:
            unclean = str(error)
        if unclean or not self._tidying.follow(part.holding):
            await self._say_clean(unclean)

    def _obey(self, part: Part) -> None:
        term = self._outbox.term
        if part.term < term:
            raise Fenced(f"The order is of term {part.term}, but {term} has begun.")
        self._outbox.obey(part.term)

    def _held(self, part: Part) -> PartInHand:
        if self.part is None or self.part.holding != _holding(part):
            mine = "nothing" if self.part is None else f"job {self.part.holding.job}"
            raise Conflict(f"{self._name} has {mine} in hand, not job {part.job}; release it.")
        return self.part

    def _given_before(self, part: Part) -> Released:
        before = self._outbox.gave_back
        mine = before is not None and _holding(before.part) == _holding(part)
        return before.released if before is not None and mine else Released()

    async def _remove(self, part: PartInHand) -> Released:
        unclean, released = "", Released()
        try:
            released = await part.release()
        except NotClean as error:
            unclean = str(error)
            self._tidying.failed(unclean, part.remove, part.holding)
            raise
        finally:
            if self.part is part:
                await self._outbox.give_back(GivenBack(part.order.part, released, unclean))
                self.part = None
        return released


def _holding(part: Part) -> Holding:
    return Holding(part.job, part.attempt, part.machine)
