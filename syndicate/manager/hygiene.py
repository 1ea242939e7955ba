"""Which volunteers get no job though they are there: drained, unclean, quarantined.

What an operator has said, and how often a volunteer could not clean itself, is kept in the store by
the volunteer's name: it outlives the manager, the volunteer's daemon and its host.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from syndicate.audit.interface import Actor, Entry, IAudit, Kind
from syndicate.domain.errors import Conflict, Forbidden, Invalid, NotFound
from syndicate.domain.volunteer import VolunteerState
from syndicate.manager.journal import Journal
from syndicate.plain import from_plain, to_plain
from syndicate.store.interface import Delete, Operation, Put, Snapshot

log = Logger()

#: Failures to clean itself after which a volunteer is quarantined. One that cleans up after a job
#: at the first try begins anew.
MOST_FAILURES = 3
#: Longest reason of an operator, in characters.
REASON_LENGTH = 200

_KIND = "volunteer"


@attrs.frozen
class Standing:
    """What is held against a volunteer; nothing, by default."""

    #: What an operator wants: ``drained``, ``quarantined`` or nothing; the latter may be the
    #: manager's own decision.
    barred: str = ""
    reason: str = ""
    #: Who said so, and when, in epoch seconds.
    by: str = ""
    since: float = 0.0
    #: How often it could not clean itself.
    failures: int = 0
    #: The start of its daemon in which it failed last, so that the same is not counted twice.
    boot: str = ""


_NOTHING = Standing()


@attrs.define(eq=False)
class Hygiene:
    """The standings of all volunteers by name.

    :param known: whether a volunteer of that name has ever joined this manager.
    :param settle: called when a volunteer's standing has changed.
    """

    _clock: IReactorTime
    _journal: Journal
    _known: Callable[[str], bool]
    _settle: Callable[[str], None]
    _audit: IAudit
    _standings: dict[str, Standing] = attrs.field(init=False, factory=dict)
    _turn: DeferredLock = attrs.field(init=False, factory=DeferredLock)

    def load(self, snapshot: Snapshot) -> None:
        """Take over what the store holds."""
        for (kind, name), value in snapshot.records.items():
            if kind == _KIND:
                self._standings[name] = from_plain(value, Standing)

    def of(self, name: str) -> Standing:
        """The standing of a volunteer."""
        return self._standings.get(name, _NOTHING)

    def names(self) -> frozenset[str]:
        """The volunteers that something is held against."""
        return frozenset(self._standings)

    def barred(self, name: str) -> bool:
        """Whether it gets no job until an operator resumes it."""
        return bool(self.of(name).barred)

    def barred_names(self) -> frozenset[str]:
        """All of which `barred` is true, there or not."""
        return frozenset(name for name, each in self._standings.items() if each.barred)

    def place(self, name: str, unclean: str) -> tuple[VolunteerState, str]:
        """The state of a volunteer that does nothing, and why it is not free if it is not.

        :param unclean: what it could not remove.
        """
        standing = self.of(name)
        if standing.barred:
            return VolunteerState(standing.barred), self.why(name)
        if unclean:
            count = f"failure {standing.failures} of {MOST_FAILURES}"
            return VolunteerState.UNCLEAN, f"Tries again to clean itself, {count}: {unclean}"
        return VolunteerState.FREE, ""

    def why(self, name: str) -> str:
        """Why a volunteer is barred; empty if it is not."""
        standing = self.of(name)
        if not standing.barred:
            return ""
        by = f"{standing.barred.capitalize()} by {standing.by}"
        return f"{by}: {standing.reason}" if standing.reason else f"{by}."

    # What volunteers do.

    def failed(self, name: str, boot: str, why: str, *, told_before: bool = False) -> None:
        """A volunteer could not clean itself.

        :param told_before: whether it may be what was counted already in this start of its daemon.
        """
        standing = self.of(name)
        if told_before and standing.boot == boot:
            return
        failures = standing.failures + 1
        log.error("{name} is unclean, failure {n}: {why}", name=name, n=failures, why=why)
        standing = attrs.evolve(standing, failures=failures, boot=boot)
        if failures >= MOST_FAILURES and standing.barred != VolunteerState.QUARANTINED.value:
            log.error(
                "{name} is quarantined until an operator resumes it, which is to be done when its "
                "host has been looked at: syndicate volunteers resume {name}.",
                name=name,
            )
            now, by = self._clock.seconds(), "the manager"
            reason = f"It could not clean itself {failures} times; the last time: {why}"
            state = VolunteerState.QUARANTINED.value
            standing = attrs.evolve(standing, barred=state, reason=reason, by=by, since=now)
            actor = Actor(Kind.PERSON, by, "manager")
            details = {"reason": reason}
            on = f"volunteer {name}"
            self._audit.record(Entry(now, actor, "quarantine", on, details=details))
        self._standings[name] = standing
        self._journal.write(self._operation(name, standing))

    def cleaned_at_once(self, name: str) -> None:
        """A volunteer was clean at the first try after a job."""
        standing = self.of(name)
        if standing.failures and not standing.barred:
            self._change(name, _NOTHING)
            self._journal.write(self._operation(name, _NOTHING))

    # What operators want.

    async def drain(self, by: str, role: str, name: str, reason: str = "") -> None:
        """Give a volunteer no further job; the present one goes on to its end.

        :raises Forbidden: only operators may.
        :raises NotFound: no such volunteer has joined.
        :raises Conflict: it is quarantined.
        """
        await self._bar(by, role, name, VolunteerState.DRAINED, reason)

    async def quarantine(self, by: str, role: str, name: str, reason: str = "") -> None:
        """The same for one that is not to be trusted; the present job goes on to its end."""
        await self._bar(by, role, name, VolunteerState.QUARANTINED, reason)

    async def resume(self, by: str, role: str, name: str) -> None:
        """Let a volunteer have jobs again, and forget its failures. One that is unclean still gets
        none before it is clean.

        :raises Conflict: nothing is held against it, or it was quarantined in this moment.
        """
        self._check(role, name)
        quarantined = VolunteerState.QUARANTINED.value
        seen = self.of(name).barred

        def resumed(now: Standing) -> Standing:
            if now == _NOTHING:
                raise Conflict(f"{name} is neither drained nor quarantined; nothing was changed.")
            if now.barred == quarantined and seen != quarantined:
                raise Conflict(f"{name} was quarantined meanwhile; look at it, then resume it.")
            return _NOTHING

        await self._write(name, resumed)
        log.info("{name} was resumed by {by}.", name=name, by=by)

    async def _bar(self, by: str, role: str, name: str, state: VolunteerState, reason: str) -> None:
        self._check(role, name)
        if not isinstance(reason, str) or len(reason) > REASON_LENGTH or not reason.isprintable():
            raise Invalid(f"A reason is a line of at most {REASON_LENGTH} characters.")
        at = self._clock.seconds()

        def barred(now: Standing) -> Standing:
            quarantined = now.barred == VolunteerState.QUARANTINED.value
            if quarantined and state is VolunteerState.DRAINED:
                raise Conflict(
                    f"{name} is quarantined, which is more than drained; resume it first."
                )
            return attrs.evolve(now, barred=state.value, reason=reason, by=by, since=at)

        await self._write(name, barred)
        log.info("{name} was {state} by {by}.", name=name, state=state.value, by=by)

    def _check(self, role: str, name: str) -> None:
        if role != "operator":
            raise Forbidden("Only operators may drain, quarantine and resume volunteers.")
        if not self._known(name) and name not in self._standings:
            raise NotFound(f"There is no volunteer {name!r}.")

    async def _write(self, name: str, change: Callable[[Standing], Standing]) -> None:
        """Written first; one after the other, so that the last word is the same in memory.

        :param change: what is to become of a standing. What volunteers do meanwhile is counted at
            once, and written behind this: then it is asked again.
        """
        await self._turn.acquire()
        try:
            while True:
                before = self.of(name)
                standing = change(before)
                await self._journal.write(self._operation(name, standing), optional=True)
                if self.of(name) is before:
                    break
            self._change(name, standing)
        finally:
            self._turn.release()

    def _change(self, name: str, standing: Standing) -> None:
        if standing == _NOTHING:
            self._standings.pop(name, None)
        else:
            self._standings[name] = standing
        self._settle(name)

    @staticmethod
    def _operation(name: str, standing: Standing) -> Operation:
        if standing == _NOTHING:
            return Delete(_KIND, name)
        return Put(_KIND, name, to_plain(standing))
