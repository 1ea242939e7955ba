"""Who is connected to a door: counted, kept within a cap, and sent away at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from syndicate.domain.job import Limits

#: Most connections to one door of a job that does not say.
MOST_CONNECTIONS = Limits().connections
#: Connections over the cap that are kept for long enough to be told so.
TOLD = 8


@attrs.define(eq=False)
class Gate:
    """The connections to one door.

    :param most: served at once, both its sockets together.
    """

    _most: int = MOST_CONNECTIONS
    _inside: set[Any] = attrs.field(init=False, factory=set)
    _empty: list[Deferred[None]] = attrs.field(init=False, factory=list)
    _shut: bool = attrs.field(init=False, default=False)

    @property
    def full(self) -> bool:
        """Whether no more connections are served."""
        return len(self._inside) >= self._most

    @property
    def crowded(self) -> bool:
        """Whether there are too many to tell even that."""
        return len(self._inside) >= self._most + TOLD

    def enter(self, protocol: Any) -> bool:
        """A connection is made; False, and it is cut, when the gate is shut already."""
        if self._shut:
            protocol.transport.abortConnection()
            return False
        self._inside.add(protocol)
        return True

    def leave(self, protocol: Any) -> None:
        """A connection is lost."""
        self._inside.discard(protocol)
        if not self._inside:
            empty, self._empty = self._empty, []
            for done in empty:
                done.callback(None)

    def empty(self) -> Deferred[None]:
        """Fires when nobody is connected."""
        if not self._inside:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        return done

    def shut(self, part: Callable[[Any], None]) -> None:
        """Let nobody in any more, and part from everybody in the given way."""
        self._shut = True
        for protocol in list(self._inside):
            part(protocol)
