"""One volunteer, as the manager knows it."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IDelayedCall

from syndicate.domain.timeline import Offset
from syndicate.domain.volunteer import Facts, Volunteer, VolunteerState
from syndicate.wire.interface import Holding, IVolunteer


@attrs.define(eq=False)
class Member:
    """One volunteer, known by its name for as long as the manager runs."""

    name: str
    facts: Facts
    boot: str
    registered_at: float
    heard_at: float
    state: VolunteerState = VolunteerState.FREE
    reason: str = ""
    link: IVolunteer | None = None
    session: str = attrs.field(default="", repr=False)
    holding: Holding | None = None
    #: What it could not remove.
    unclean: str = ""
    #: Whether it worked for the manager before this one, and may still come back with that.
    expected: bool = False
    #: What to add to what its timeline shows for our time.
    offset: Offset = Offset()
    #: Seconds until the next look at its clock, as long as that is not known well.
    look_again: float = 0.0
    #: Its reason but for what an operator has said.
    unbarred: str = ""
    #: Ends its rest, or its absence, or begins the next liveness ping.
    resting: IDelayedCall | None = None
    absent: IDelayedCall | None = None
    pulse: IDelayedCall | None = None

    #: What `view` has made last, and of what: of many members, most are as they were.
    _viewed: Volunteer | None = attrs.field(init=False, default=None)
    _viewed_of: tuple[object, ...] = attrs.field(init=False, default=())

    def view(self) -> Volunteer:
        """As the scheduler and the pages see it."""
        now = (self.facts, self.state, self.holding, self.reason, self.heard_at)
        if self._viewed is None or now != self._viewed_of:
            self._viewed, self._viewed_of = self._look(), now
        return self._viewed

    def _look(self) -> Volunteer:
        return Volunteer(
            self.name,
            self.facts,
            self.state,
            None if self.holding is None else self.holding.job,
            None if self.holding is None else self.holding.attempt,
            self.reason,
            self.registered_at,
            self.heard_at,
        )

    def ours(self, theirs: float) -> float:
        """A moment of the volunteer's timeline by our clock."""
        return theirs + self.offset.value

    @property
    def settled(self) -> bool:
        """Whether it is there and its clock is known, or nobody knows when it will come."""
        compared = self.offset.uncertainty != float("inf")
        return not self.expected if self.link is None else compared

    @property
    def rests_until(self) -> float | None:
        """When its rest is over, in epoch seconds; None when it has none."""
        timer = self.resting
        return timer.getTime() if timer is not None and timer.active() else None

    def timers(self) -> tuple[IDelayedCall, ...]:
        """Its timers that are running."""
        timers = (self.resting, self.absent, self.pulse)
        return tuple(timer for timer in timers if timer is not None and timer.active())
