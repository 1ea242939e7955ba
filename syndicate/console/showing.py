"""Shows the daemon's log to somebody at the console, for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    InvalidLogLevelError,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer

from syndicate.console.tables import visible
from syndicate.domain.errors import Invalid
from syndicate.domain.quantities import parse_span

#: Events that are shown before it stops by itself, and the longest span in seconds.
MOST_EVENTS = 2000
LONGEST_SPAN = 3600.0


@implementer(ILogObserver)
@attrs.define(eq=False)
class Showing:
    """Says what is logged; each begins with `begin`.

    :param say: is never called from within what has logged something.
    """

    _reactor: Any
    _say: Callable[[str], None]
    _left: int = MOST_EVENTS
    _lines: list[str] = attrs.field(init=False, factory=list)
    _observer: FilteringLogObserver | None = attrs.field(init=False, default=None)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)

    def begin(self, level: str, span: object) -> None:
        """Show what is logged from now on.

        :param level: the name of the lowest level that is shown.
        :param span: for how long, such as ``5m``.
        :raises Invalid: there is no such level, or it is no span.
        """
        try:
            seconds = min(parse_span(span), LONGEST_SPAN)
        except ValueError as error:
            raise Invalid(f"{error}.") from None
        try:
            least = LogLevel.levelWithName(level)
        except (InvalidLogLevelError, TypeError) as error:
            known = ", ".join(each.name for each in LogLevel.iterconstants())
            raise Invalid(f"{level!r} is no level of a log; levels are {known}.") from error
        self._observer = FilteringLogObserver(
            self, [LogLevelFilterPredicate(defaultLogLevel=least)]
        )
        globalLogPublisher.addObserver(self._observer)
        self._timer = self._reactor.callLater(seconds, self.end)

    def end(self) -> None:
        """Show nothing more."""
        if self._observer is not None:
            globalLogPublisher.removeObserver(self._observer)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def __call__(self, event: LogEvent) -> None:
        """Something was logged."""
        if event["log_namespace"].startswith("twisted.conch"):
            return  # What the showing itself is logged as.
        self._left -= 1
        if self._left >= 0:
            level, place = event["log_level"].name, event["log_namespace"]
            self._later(f"[{level} {place}] {visible(formatEvent(event))}")
        elif self._left == -1:
            self._later(f"{MOST_EVENTS} events were shown; the rest is not.")

    def _later(self, text: str) -> None:
        self._lines.append(text)
        if len(self._lines) == 1:
            self._reactor.callLater(0, self._flush)

    def _flush(self) -> None:
        said = "\n".join(self._lines)
        self._lines.clear()
        self._say(said)
