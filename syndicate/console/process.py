"""The words that every daemon's console has: about the process, and about the console itself."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import psutil
from twisted.internet.defer import Deferred

from syndicate.console.server import Console
from syndicate.console.sessions import Person
from syndicate.console.showing import Showing
from syndicate.console.tables import Facts, Table, Text
from syndicate.console.words import Visitor, Word, help_for
from syndicate.domain.errors import Invalid
from syndicate.domain.quantities import say_size, say_span

Say = Callable[[str], None]


@attrs.frozen
class Process:
    """Looks at the process.

    :param console: found out late, as it is made with these words.
    """

    _reactor: Any
    _console: Callable[[], Console]
    _started: float

    def words(self, visitor: Visitor, say: Say, mine: Callable[[], list[Word]]) -> list[Word]:
        """The words of one visitor.

        :param mine: all words, for ``help``.
        """
        showings: list[Showing] = []

        def log(level: str = "info", for_: object = "5m") -> Text:
            """Show the daemon's log here as it is written; "off" ends it."""
            while showings:
                showings.pop().end()
            if level == "off":
                return Text("The log is not shown any more.")
            showing = Showing(self._reactor, say)
            showing.begin(level, for_)
            showings.append(showing)
            for person in self._console().people():
                if person.visitor == visitor:
                    person.endings.append(showing.end)
            return Text(f"The log from {level} up is shown here for {for_}.")

        def help() -> Table[Word]:
            """All words."""
            return help_for({word.name: word for word in mine()}, visitor)

        def kick(user: str) -> Text:
            """End all connections of a user to this console."""
            return Text(f"{self._console().kick(user)} connections ended.")

        def write(*values: object) -> None:
            """Write to this session, now or later: say("done")."""
            say(" ".join(map(str, values)))

        return [
            Word("help", help),
            Word("stats", self.stats),
            Word("conns", self.conns),
            Word("delayed", self.delayed),
            Word("threads", self.threads),
            Word("who", self.who),
            Word("log", log, steers=True),
            Word("do", do, steers=True),
            Word("say", write, steers=True),
            Word("kick", kick, steers=True),
        ]

    def stats(self) -> Facts[Any]:
        """How the process is."""
        process = psutil.Process()
        with process.oneshot():
            times = process.cpu_times()
            facts = {
                "pid": process.pid,
                "up": say_span(self._reactor.seconds() - self._started),
                "memory": say_size(process.memory_info().rss),
                "cpu": f"{times.user + times.system:.1f}s",
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
                "timers": len(self._reactor.getDelayedCalls()),
                "readers": len(self._reactor.getReaders()),
                "python": sys.version.split()[0],
            }
        return Facts(process, facts)

    def conns(self) -> Table[Any]:
        """Its sockets."""
        selectables = {*self._reactor.getReaders(), *self._reactor.getWriters()}
        return Table(sorted(selectables, key=_number), _connection)

    def delayed(self) -> Table[Any]:
        """What is to happen later, the soonest first."""
        now = self._reactor.seconds()
        calls = sorted(self._reactor.getDelayedCalls(), key=lambda call: call.getTime())
        return Table(calls, lambda c: {"in": f"{c.getTime() - now:.3f}s", "calls": _called(c)})

    def threads(self) -> Table[threading.Thread]:
        """Its threads, and where each is."""
        frames = sys._current_frames()

        def row(thread: threading.Thread) -> dict[str, object]:
            frame = frames.get(thread.ident or 0)
            at = traceback.extract_stack(frame)[-1] if frame is not None else None
            where = f"{os.path.basename(at.filename)}:{at.lineno} {at.name}" if at else ""
            return {"thread": thread.name, "daemon": thread.daemon, "at": where}

        return Table(threading.enumerate(), row)

    def who(self) -> Table[Person]:
        """Who is at this console."""
        now = self._reactor.seconds()

        def row(person: Person) -> dict[str, object]:
            visitor = person.visitor
            since = say_span(now - person.since)
            return {**attrs.asdict(visitor), "for": since}

        return Table(self._console().people(), row)


def do(work: Awaitable[Any]) -> Deferred[Any]:
    """Run a coroutine; what it gives is shown when it is there."""
    if not inspect.iscoroutine(work):
        raise Invalid(f"{work!r} is no coroutine.")
    return Deferred.fromCoroutine(work)


def _number(selectable: Any) -> int:
    try:
        return int(selectable.fileno())
    except (AttributeError, OSError):
        return -1


def _connection(selectable: Any) -> dict[str, object]:
    def end(name: str) -> str:
        try:
            found = getattr(selectable, name)()
        except (AttributeError, OSError, NotImplementedError):
            return ""
        host, port = getattr(found, "host", None), getattr(found, "port", None)
        return str(getattr(found, "name", None) or found) if host is None else f"{host}:{port}"

    protocol = getattr(selectable, "protocol", None) or getattr(selectable, "factory", None)
    while (inner := getattr(protocol, "wrappedProtocol", None)) is not None:
        protocol = inner
    return {
        "fd": _number(selectable),
        "kind": type(selectable).__name__,
        "local": end("getHost"),
        "peer": end("getPeer"),
        "serves": "" if protocol is None else type(protocol).__name__,
    }


def _called(call: Any) -> str:
    function = call.func
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{getattr(function, '__module__', '')}.{name}"
