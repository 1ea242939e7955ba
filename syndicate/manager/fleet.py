"""The volunteers: who is there, and what each is doing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import NotFound, VolunteerLost
from syndicate.domain.volunteer import Facts, Volunteer, VolunteerState
from syndicate.manager.hygiene import Hygiene
from syndicate.manager.liveness import Liveness, Patience
from syndicate.manager.member import Member
from syndicate.wire.interface import Hello, Holding, IVolunteer

log = Logger()

#: Seconds that a volunteer gets no job after it failed to prepare one.
REST = 60.0

#: States in which a volunteer that is there does nothing; which of them is for hygiene to say.
IDLE = frozenset(
    {
        VolunteerState.FREE,
        VolunteerState.UNCLEAN,
        VolunteerState.DRAINED,
        VolunteerState.QUARANTINED,
    }
)
#: Why a volunteer without a job is not free yet.
TIDYING = "Does what its operator wants after each job."


@attrs.define(eq=False)
class Fleet:
    """All volunteers by name.

    :param lost: called with what a volunteer held when it will not come back with it.
    :param changed: called when a volunteer may have become free.
    """

    _clock: IReactorTime
    _patience: Patience
    _lost: Callable[[Holding, str], None]
    _changed: Callable[[], None]
    _hygiene: Hygiene
    members: dict[str, Member] = attrs.field(init=False, factory=dict)
    #: The free ones by name, as they were when they became so; the one free longest first.
    _free: dict[str, Volunteer] = attrs.field(init=False, factory=dict)
    _sessions: dict[str, Member] = attrs.field(init=False, factory=dict)
    #: Who waits for whom.
    _unsettled: list[tuple[frozenset[str], Deferred[None]]] = attrs.field(init=False, factory=list)
    _liveness: Liveness = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._liveness = Liveness(self._clock, self._patience, self.lost, self._look_who_is_settled)

    def expect(self, name: str, facts: Facts, boot: str, holding: Holding) -> None:
        """A volunteer was given a part of a job by the manager before this one: it has a while to
        come back with it.
        """
        now, grace = self._clock.seconds(), self._patience.start_grace
        member = self.members[name] = Member(name, facts, boot, now, now)
        member.holding, member.expected = holding, True
        self._set(member, VolunteerState.GONE, "Has not come back since the manager was started.")
        member.absent = self._clock.callLater(grace, self._give_up, member, grace)

    def join(self, hello: Hello, link: IVolunteer, holding: Holding | None, wanted: bool) -> Member:
        """A volunteer has dialled, for the first time or again.

        :param holding: what it is to be taken to hold.
        :param wanted: whether the job still wants that.
        """
        now = self._clock.seconds()
        member = self.members.get(hello.name)
        if member is None:
            member = Member(hello.name, hello.facts, hello.boot, now, now)
            self.members[hello.name] = member
        self._unlink(member)
        before = member.holding
        member.expected = False
        if before is not None and before != holding:
            # Its daemon was started anew, or has given up its part: the machine is gone.
            member.holding = None
            self._lost(before, f"{member.name} came back without it.")
        member.facts, member.boot, member.heard_at = hello.facts, hello.boot, now
        member.link, member.session = link, secrets.token_urlsafe(24)
        self._sessions[member.session] = member
        member.holding = holding
        member.unclean = hello.unclean
        if hello.unclean:
            self._hygiene.failed(hello.name, hello.boot, hello.unclean, told_before=True)
        if holding is not None:
            self._set(member, VolunteerState.BUSY if wanted else VolunteerState.CLEANING)
        elif hello.tidying:
            self._set(member, VolunteerState.CLEANING, TIDYING)
        else:
            self._set(member, VolunteerState.FREE)
        self._liveness.begin(member, link)
        log.info("{name} joined from {address}.", name=member.name, address=hello.facts.address)
        return member

    def get(self, name: str) -> Member:
        """The volunteer of that name.

        :raises NotFound: none such has ever joined.
        """
        try:
            return self.members[name]
        except KeyError:
            raise NotFound(f"There is no volunteer {name!r}.") from None

    def link(self, name: str) -> IVolunteer:
        """The live connection of a volunteer.

        :raises VolunteerLost: it has none at the moment.
        """
        member = self.members.get(name)
        if member is None or member.link is None:
            raise VolunteerLost(f"{name} is not connected.")
        return member.link

    def session_name(self, secret: str) -> str:
        """The name of the volunteer whose connection has this session; empty if none has."""
        member = self._sessions.get(secret)
        return "" if member is None else member.name

    def expel(self, name: str) -> None:
        """Break the connection of a volunteer, if it has one."""
        member = self.members.get(name)
        if member is not None and member.link is not None:
            link = member.link
            self.lost(link, "Its certificate was revoked.")
            link.drop()

    def free(self) -> tuple[Volunteer, ...]:
        """The volunteers that could take a job now, the one free longest first."""
        return tuple(self._free.values())

    @property
    def any_free(self) -> bool:
        """Whether a volunteer could take a job now."""
        return bool(self._free)

    def reserve(self, name: str, holding: Holding) -> None:
        """Give a free volunteer to a job."""
        member = self.members[name]
        member.holding = holding
        self._set(member, VolunteerState.BUSY)

    def cleaning(self, name: str) -> None:
        """A volunteer was told to give back its job."""
        self._set(self.members[name], VolunteerState.CLEANING)

    def cleaned(self, name: str, unclean: str = "") -> None:
        """A volunteer holds nothing any more; or could not remove it all, and why."""
        member = self.members[name]
        member.holding, before, member.unclean = None, member.unclean, unclean
        if unclean:
            self._hygiene.failed(name, member.boot, unclean)
        elif not before:
            self._hygiene.cleaned_at_once(name)
        if member.link is not None:
            self._set(member, VolunteerState.FREE)

    def tidies(self, name: str) -> None:
        """A volunteer holds nothing any more, but does what its operator wants after each job; it
        will say when it is clean.
        """
        member = self.members[name]
        member.holding = None
        if member.link is not None:
            self._set(member, VolunteerState.CLEANING, TIDYING)

    def settle(self, name: str) -> None:
        """What is held against a volunteer has changed."""
        member = self.members.get(name)
        if member is not None:
            idle = member.state in IDLE
            self._set(member, VolunteerState.FREE if idle else member.state, member.unbarred)

    def rest(self, name: str, reason: str) -> None:
        """Give a volunteer no job for a while, as it has just failed to prepare one."""
        member = self.members[name]
        if member.resting is not None and member.resting.active():
            member.resting.reset(REST)
        else:
            member.resting = self._clock.callLater(REST, self._rested, member)
        member.reason = f"Rests for a minute: {reason}"
        self._free.pop(name, None)

    def _rested(self, member: Member) -> None:
        self.settle(member.name)

    def settled(self, names: Iterable[str]) -> Deferred[None]:
        """Fires when none of these is expected any more, and the clocks of those that are there
        have been compared: soon, but for the first moments after the manager's start.
        """
        done: Deferred[None] = Deferred()
        self._unsettled.append((frozenset(names), done))
        self._look_who_is_settled()
        return done

    def _look_who_is_settled(self) -> None:
        for entry in list(self._unsettled):
            names, done = entry
            if all(self.members[name].settled for name in names if name in self.members):
                self._unsettled.remove(entry)
                if not done.called:
                    done.callback(None)

    def lost(self, link: IVolunteer, reason: str) -> None:
        """A connection is gone; ignored when a newer one has taken its place."""
        member = self.members.get(link.name)
        if member is None or member.link is not link:
            return
        self._unlink(member)
        log.warn("{name} is gone: {reason}", name=member.name, reason=reason)
        self._set(member, VolunteerState.GONE, reason)
        self._look_who_is_settled()
        grace = self._patience.grace
        member.absent = self._clock.callLater(grace, self._give_up, member, grace)

    def close(self) -> None:
        """Drop all connections and stop all timers."""
        for member in self.members.values():
            link = member.link
            self._unlink(member)
            for timer in member.timers():
                timer.cancel()
            if link is not None:
                link.drop()

    def _give_up(self, member: Member, away: float) -> None:
        holding, member.holding = member.holding, None
        member.expected = False
        self._look_who_is_settled()
        if holding is not None:
            self._lost(holding, f"{member.name} has been away for {away:g} seconds.")

    def _unlink(self, member: Member) -> None:
        """Forget the present connection, if any; a dead one is dropped, not left behind."""
        for timer in (member.pulse, member.absent):
            if timer is not None and timer.active():
                timer.cancel()
        self._sessions.pop(member.session, None)
        link, member.link = member.link, None
        if link is not None:
            link.drop()

    def _set(self, member: Member, state: VolunteerState, reason: str = "") -> None:
        member.unbarred = reason
        if state is VolunteerState.FREE:
            state, why = self._hygiene.place(member.name, member.unclean)
            reason = why or reason
        elif why := self._hygiene.why(member.name):
            reason = f"{reason} {why}".strip()
        member.state = state
        rests = member.resting is not None and member.resting.active()
        if not rests:
            member.reason = reason
        if state is VolunteerState.FREE and not rests:
            self._free[member.name] = member.view()
            self._changed()
        else:
            self._free.pop(member.name, None)
