"""A person at the console, and the sessions: a terminal, lines without one, or one command."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.conch.avatar import ConchUser
from twisted.conch.interfaces import ISession
from twisted.conch.ssh.session import SSHSession
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from syndicate.audit.interface import Actor, Kind
from syndicate.console.prompt import BANNER, Lines, Say, lines_for
from syndicate.console.terminal import Plain, Terminal, Terminals
from syndicate.console.words import OPERATOR, VIEWER, Visitor, run_line, shown
from syndicate.domain.errors import SyndicateError

if TYPE_CHECKING:
    from syndicate.console.server import Console

log = Logger()

#: Seconds that answers have to come when no more lines do, and from one look for them to the next.
LAST_ANSWERS = 60.0
LOOK = 0.05

_PROMPTS = {OPERATOR: (b">>> ", b"... "), VIEWER: (b"> ", b"> ")}


class Person(ConchUser):
    """Somebody who has logged in.

    :param key: the fingerprint of the key used.
    """

    def __init__(self, console: Console, user: str, key: str) -> None:
        super().__init__()
        self.console, self._user, self._key = console, user, key
        self.channelLookup[b"session"] = SSHSession
        self.since = console.clock.seconds()
        #: What is to be ended with the connection.
        self.endings: list[Callable[[], None]] = []

    @property
    def visitor(self) -> Visitor:
        """Who it is."""
        peer = getattr(self.conn.transport.transport.getPeer(), "host", "")
        return Visitor(self._user, self.console.settings.role(self._user), self._key, str(peer))

    @property
    def actor(self) -> Actor:
        """The same for the audit log."""
        visitor = self.visitor
        return Actor(Kind.PERSON, visitor.name, visitor.role, visitor.key, visitor.address)

    def came(self) -> None:
        """The connection is theirs."""
        self.console.record(self.actor, "console login")

    def typed(self, line: str) -> None:
        """Record a line, before anything is done about it."""
        self.console.record(self.actor, "console", details={"line": line})

    def left(self) -> None:
        """The connection is gone."""
        endings, self.endings = self.endings, []
        for end in endings:
            end()


@implementer(ISession)
class Session:
    """What can be asked for within a connection."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._size: tuple[int, int] | None = None
        self._terminal: Any = None
        self._plain: Plain | None = None
        self._close: Callable[[], None] | None = None
        self._closing: IDelayedCall | None = None

    def getPty(self, term: bytes, windowSize: tuple[int, int, int, int], modes: Any) -> None:
        """A terminal is wanted."""
        self._size = windowSize[1], windowSize[0]

    def windowChanged(self, newWindowSize: tuple[int, int, int, int]) -> None:
        """The terminal has another size."""
        self._size = newWindowSize[1], newWindowSize[0]
        if self._terminal is not None and self._terminal.terminalProtocol is not None:
            self._terminal.terminalProtocol.terminalSize(*self._size)

    def openShell(self, proto: Any) -> None:
        """Lines are wanted, on a terminal if there is one."""
        out = _Out(proto)
        self._close = out.loseConnection
        if self._size is None:
            self._plain = Plain(self._lines)
            proto.makeConnection(_Into(self._plain.dataReceived))
            self._plain.makeConnection(out)
            return
        visitor = self._person.visitor
        banner = BANNER[visitor.role].format(daemon=self._person.console.daemon)
        self._terminal = Terminals(Terminal, self._lines, banner, _PROMPTS[visitor.role])
        proto.makeConnection(_Into(self._terminal.dataReceived))
        self._terminal.makeConnection(out)
        self._terminal.terminalProtocol.terminalSize(*self._size)

    def execCommand(self, proto: Any, command: bytes) -> None:
        """``ssh host word``: the same for all roles, and never Python."""
        person = self._person
        line = command.decode("utf-8", "replace").strip()
        person.typed(line)
        proto.makeConnection(_Into(_drop))

        def say(text: str) -> None:
            proto.outReceived(text.encode())

        def answer() -> Any:
            return run_line(person.console.words_for(person.visitor, say), person.visitor, line)

        async def run() -> None:
            try:
                found = answer()
                text = shown(await found if isinstance(found, Deferred) else found, self._width())
            except SyndicateError as error:
                proto.errReceived(f"{error}\n".encode())
                _end(proto, 1)
            except Exception as error:  # noqa: BLE001  (the edge of the console: a defect)
                log.failure("a word of the console failed: {line}", line=line)
                proto.errReceived(f"{error!r}\n".encode())
                _end(proto, 70)
            else:
                if text:
                    proto.outReceived(text.encode() + b"\n")
                _end(proto, 0)

        # Not before the client has heard that its request was taken.
        person.console.clock.callLater(0, lambda: Deferred.fromCoroutine(run()))

    def eofReceived(self) -> None:
        """The client sends no more."""
        if self._plain is not None:
            self._plain.ended()
            self._close_when_answered(LAST_ANSWERS)
        elif self._close is not None:
            self._close()

    def _close_when_answered(self, left: float) -> None:
        """Close a session without a terminal once what was asked for has been answered."""
        if self._close is None or self._plain is None:
            return
        if self._plain.lines.busy and left > 0:
            self._closing = self._person.console.clock.callLater(
                LOOK, self._close_when_answered, left - LOOK
            )
        else:
            self._close()

    def closed(self) -> None:
        """The session is over."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if self._terminal is not None:
            self._terminal.connectionLost(Failure(connectionDone.value))
            self._terminal = None
        self._close = None

    def _width(self) -> int | None:
        """Characters of a line; a terminal may say that it has none, and means that of nobody."""
        return (self._size and self._size[0]) or None

    def _lines(self, say: Say) -> Lines:
        person = self._person

        def unasked(text: str) -> None:
            if self._close is not None:
                say(text if text.endswith("\n") else f"{text}\n", True)

        def while_here(text: str, between: bool) -> None:
            if self._close is not None:
                say(text, between)

        words = person.console.words_for(person.visitor, unasked)
        return lines_for(person.visitor, words, while_here, person.typed, self._width)


registerAdapter(Session, Person, ISession)


class _Out:
    """The transport of what goes to a client; it ends like a program that ended well."""

    def __init__(self, proto: Any) -> None:
        self._proto, self.write = proto, proto.write

    def loseConnection(self) -> None:
        """Say that all went well, and end."""
        _end(self._proto, 0)


class _Into:
    """The transport of what a client sends: it goes into a function."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.write = take

    def loseConnection(self) -> None:
        """The other side does that."""


def _drop(data: bytes) -> None:
    """What is sent to a command is not read."""


def _end(proto: Any, code: int) -> None:
    session = proto.session
    if session.conn is not None and not session.localClosed:
        session.conn.sendRequest(session, b"exit-status", struct.pack(">L", code))
        session.loseConnection()
