"""Brings clients' requests to the manager, and asks again when the answer was lost.

A client should not have to know that its manager was started again. A request that meets no manager
waits for the next one; one whose answer was lost with the link is asked again where that does no
harm: all can be told from new ones by their keys. Neither waits for ever.
"""

from __future__ import annotations

from typing import Any, Never

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from syndicate.domain.errors import Timeout, Unavailable, Unknown, VolunteerLost
from syndicate.volunteer.post import Post
from syndicate.wire.interface import Ask

#: What changes nothing.
READS = frozenset({"job", "faults", "show", "events"})
#: Seconds that one request waits for managers, all its tries together.
ABSENCE = 60.0

#: Seconds between the loss of an answer and the next try.
PAUSE = 0.1


@attrs.define(eq=False)
class Asking:
    """Asks whoever is the manager."""

    _clock: IReactorTime
    _post: Post

    async def ask(self, ask: Ask) -> Any:
        """The manager's answer.

        :raises Unavailable: no manager has heard of it.
        :raises Unknown: one has, perhaps, and the answer never came.
        """
        left = ABSENCE
        while left > 0:
            began = self._clock.seconds()
            try:
                manager = await self._post.arrival().addTimeout(left, self._clock, _too_late)
            except Timeout:
                break
            left -= self._clock.seconds() - began
            try:
                return await manager.ask(ask)
            except VolunteerLost:
                # The call hears of the end of the link before anybody else does.
                ask = attrs.evolve(ask, again=True)
                await deferLater(self._clock, PAUSE)
                left -= PAUSE
        raise _given_up(ask)


def _given_up(ask: Ask) -> Unavailable | Unknown:
    if not ask.again or ask.verb in READS:
        return Unavailable("The manager is away; nothing was done. Try again.")
    named = {"fault": ask.token} if ask.token else {}
    return Unknown(
        "The manager went away before it answered, and has not come back: whether it was done is "
        "not known yet. Ask again later.",
        **named,
    )


def _too_late(result: object, timeout: float) -> Never:
    raise Timeout(f"No manager came within {timeout:g} seconds.")
