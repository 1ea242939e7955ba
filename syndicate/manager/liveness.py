"""Whether volunteers still answer, and what their clocks show: each is pinged again and again."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from syndicate.domain.errors import SyndicateError
from syndicate.domain.timeline import Offset
from syndicate.manager.member import Member
from syndicate.wire.interface import IVolunteer

#: How well a volunteer's clock should be known, in seconds; as long as it is not, it is looked at
#: so soon again, and after four times as long each further time, until a ping is due anyway. When
#: many join at once, none of their clocks is known well at first, since answers come late; to look
#: often would keep the manager busy with that alone.
SHARP, SOON = 0.002, 0.25


@attrs.frozen
class Patience:
    """How long to wait for volunteers, in seconds."""

    #: Between two liveness pings, and until an answer must have come.
    ping: float = 5.0
    deadline: float = 15.0
    #: How long a volunteer whose link broke may stay away before its machine counts as lost.
    grace: float = 30.0
    #: The same, from the manager's own start on, for those that worked before it.
    start_grace: float = 30.0


@attrs.define(eq=False)
class Liveness:
    """Pings the volunteers that are there.

    :param lost: called when one did not answer in time, with its link and the reason.
    :param compared: called when a clock was compared with ours.
    """

    _clock: IReactorTime
    _patience: Patience
    _lost: Callable[[IVolunteer, str], None]
    _compared: Callable[[], None]

    def begin(self, member: Member, link: IVolunteer) -> None:
        """Ping a volunteer by a new link, at once and for as long as it has no other."""
        member.offset, member.look_again = Offset(), SOON
        self._beat(member, link, 0.0)

    def _beat(self, member: Member, link: IVolunteer, pause: float) -> None:
        member.pulse = self._clock.callLater(
            pause, lambda: Deferred.fromCoroutine(self._ping(member, link))
        )

    async def _ping(self, member: Member, link: IVolunteer) -> None:
        sent = self._clock.seconds()
        try:
            theirs = await link.ping().addTimeout(self._patience.deadline, self._clock)
        except (SyndicateError, TimeoutError):
            if member.link is link:
                self._lost(link, f"{member.name} did not answer in time.")
            return
        if member.link is link:
            member.heard_at = now = self._clock.seconds()
            member.offset = member.offset.seen(sent, theirs, now)
            self._compared()
            pause = self._patience.ping
            if member.offset.uncertainty > SHARP and member.look_again < pause:
                pause, member.look_again = member.look_again, 4 * member.look_again
            self._beat(member, link, pause)
