"""The terms of a leadership that is held within one process."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from syndicate.store.interface import ITerm


@implementer(ITerm)
@attrs.define(eq=False)
class Term:
    """A term; it ends when it is resigned, its store closed, or another one begun."""

    holder: str
    number: int
    _give_up: Callable[[int], Deferred[None]]
    lost: Deferred[str] = attrs.field(factory=Deferred)
    _valid: bool = True

    def valid(self) -> bool:
        return self._valid

    def resign(self) -> Deferred[None]:
        self._valid = False
        return self._give_up(self.number)

    def end(self, reason: str = "") -> None:
        """It is over; with a reason when nobody on this side wanted that."""
        if self._valid and reason:
            self.lost.callback(reason)
        self._valid = False
