"""What was refused to those whom we know, in the audit log: so much of each as leaves room."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.audit.interface import Actor, Entry, IAudit
from syndicate.manager.attempts import Attempts

log = Logger()

#: Refused requests of one token, or one volunteer, that are recorded one by one if they come at
#: once, and the seconds in which as many more are. To fill a stream of the log of the usual size
#: takes one of them days with the longest entries, and months with usual ones.
MOST, SPAN = 30, 600.0
#: Seconds until it is told how many were left out, at the most.
TELL = 60.0
#: The outcome of an entry that stands for many.
LEFT_OUT = "left_out"


@attrs.define(eq=False)
class _LeftOut:
    actor: Actor
    since: float
    count: int = 0


@attrs.define(eq=False)
class Refusals:
    """Records refused requests, and how many it did not.

    What is refused costs whoever asks nothing, and can be asked for without end: entry by entry it
    would push out of the rotated log what people did.
    """

    _clock: IReactorTime
    _audit: IAudit
    _attempts: Attempts = attrs.field(init=False)
    #: By token, or by a volunteer's name.
    _left_out: dict[tuple[str, str], _LeftOut] = attrs.field(init=False, factory=dict)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._attempts = Attempts(self._clock, most=MOST, span=SPAN)

    def record(self, entry: Entry) -> None:
        """Record a request that was refused, or count it."""
        actor = entry.actor
        key = ("token", actor.token) if actor.token else (actor.role, actor.name)
        if self._attempts.count(" ".join(key)):
            self._audit.record(entry)
            return
        self._left_out.setdefault(key, _LeftOut(actor, self._clock.seconds())).count += 1
        if self._timer is None:
            self._timer = self._clock.callLater(TELL, self._tell)

    def close(self) -> None:
        """Tell what was left out, and count no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell()

    def _tell(self) -> None:
        self._timer = None
        left_out, self._left_out = self._left_out, {}
        now = self._clock.seconds()
        for each in left_out.values():
            details = {"requests": each.count, "seconds": round(now - each.since, 3)}
            self._audit.record(Entry(now, each.actor, "ask", "", LEFT_OUT, details))
            log.warn(
                "{count} requests of {name} ({role}) were refused and are not recorded each.",
                count=each.count,
                name=each.actor.name,
                role=each.actor.role,
            )
