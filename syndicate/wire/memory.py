"""Manager and volunteers joined with no network: for tests, and for simulations.

Calls arrive in the next turn of the clock, as they would from a wire. What is given crosses as it
is: values are frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from syndicate.domain.errors import VolunteerLost
from syndicate.wire.interface import (
    Ask,
    EndReport,
    FaultDone,
    FaultOrder,
    IFleet,
    IManager,
    IVolunteer,
    IWorker,
    Part,
    PrepareOrder,
    Released,
)


@attrs.define(eq=False)
class MemoryLink:
    """One connection. `cut` breaks it as a network would; while it is `hung` nothing arrives."""

    _clock: IReactorTime
    _fleet: IFleet
    _worker: IWorker
    name: str = attrs.field(init=False)
    up: bool = True
    hung: bool = False
    _waiting: list[Deferred[Any]] = attrs.field(init=False, factory=list)
    _volunteer: IVolunteer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        hello = self._worker.hello()
        self.name = hello.name
        self._volunteer = _Volunteer(self)
        welcome = self._fleet.welcome(hello, self._volunteer)
        self._worker.welcomed(welcome, _Manager(self))

    def cut(self, reason: str = "The connection was lost.") -> None:
        """Break the connection: both ends hear of it, and calls in flight fail."""
        if not self.up:
            return
        self.up = False
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.called:
                answer.errback(VolunteerLost("The link broke before the answer came."))
        self._fleet.lost(self._volunteer, reason)
        self._worker.parted(reason)

    def call(self, function: Callable[..., Deferred[Any]], *args: Any) -> Deferred[Any]:
        """Call the other end; answers and errors come back while the link is up."""
        if not self.up:
            return fail(VolunteerLost("The link is broken."))
        answer: Deferred[Any] = Deferred()
        self._waiting.append(answer)

        def arrive() -> None:
            if self.up and not self.hung:
                function(*args).addBoth(leave)

        def leave(result: Any) -> None:
            if not answer.called and self.up and not self.hung:
                self._waiting.remove(answer)
                answer.callback(result)

        self._clock.callLater(0, arrive)
        return answer


@implementer(IVolunteer)
@attrs.define(eq=False)
class _Volunteer:
    _link: MemoryLink

    @property
    def name(self) -> str:
        return self._link.name

    def prepare(self, order: PrepareOrder) -> Deferred[None]:
        return self._link.call(self._link._worker.prepare, order)

    def start(self, part: Part) -> Deferred[None]:
        return self._link.call(self._link._worker.start, part)

    def inflict(self, order: FaultOrder) -> Deferred[FaultDone]:
        return self._link.call(self._link._worker.inflict, order)

    def release(self, part: Part) -> Deferred[Released]:
        return self._link.call(self._link._worker.release, part)

    def ping(self) -> Deferred[float]:
        return self._link.call(lambda: succeed(self._link._worker.now()))

    def drop(self) -> None:
        self._link.cut()


@implementer(IManager)
@attrs.define(eq=False)
class _Manager:
    _link: MemoryLink

    def ended(self, report: EndReport) -> Deferred[None]:
        return self._link.call(self._link._fleet.ended, self._link.name, report)

    def clean(self, unclean: str) -> Deferred[None]:
        return self._link.call(self._link._fleet.clean, self._link.name, unclean)

    def ask(self, ask: Ask) -> Deferred[Any]:
        return self._link.call(self._link._fleet.ask, self._link.name, ask)

    def ping(self) -> Deferred[None]:
        return self._link.call(lambda: succeed(None))

    def drop(self) -> None:
        self._link.cut()
