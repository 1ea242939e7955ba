"""The SSH server of a console: who is let in, how, and to what.

Of Twisted's own server for such things (`twisted.conch.manhole_tap`) only the parts are used: it
has passwords and an RSA host key, keeps keys on its class, and waits ten hours for a login.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.conch.checkers import SSHPublicKeyChecker
from twisted.conch.interfaces import IConchUser
from twisted.conch.manhole_ssh import ConchFactory
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import (
    MSG_CHANNEL_OPEN_FAILURE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    SSHConnection,
)
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from syndicate.audit.interface import DONE, Actor, Entry, IAudit, Kind
from syndicate.console.keys import KeyDirectory, fingerprint, host_key, public_line
from syndicate.console.sessions import Person
from syndicate.console.words import OPERATOR, VIEWER, Visitor, Word, Words
from syndicate.domain.errors import NotFound

log = Logger()

#: Seconds within which one must have logged in, and keys that may be tried.
LOGIN_TIME = 30
ATTEMPTS = 6
#: Seconds between two lines of the log on those who were not let in; the audit log has all.
TELL = 10.0
#: Connections at once, logged in or not.
MOST_CONNECTIONS = 32

_KEY_EXCHANGES = (
    b"mlkem768x25519-sha256",
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
    b"ecdh-sha2-nistp256",
    b"ecdh-sha2-nistp384",
    b"ecdh-sha2-nistp521",
)
#: Which signatures of people's keys are taken. Twisted repeats here what its host key can do
#: (twisted#12107), so that with one of ed25519 nobody could come with a key of RSA.
_SIGNATURES = (
    b"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    b"rsa-sha2-512,rsa-sha2-256"
)

#: Makes the words for a visitor; `say` writes to them, unasked.
MakeWords = Callable[[Visitor, Callable[[str], None]], list[Word]]


@attrs.frozen
class Settings:
    """What the operator has decided."""

    operators: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    #: Holds ``<user>.keys``.
    keys: Path = Path("keys")
    host_key: Path = Path("host_key")

    def role(self, user: str) -> str:
        """What a user may do."""
        return OPERATOR if user in self.operators else VIEWER


class _Login(SSHUserAuthServer):
    transport: Any
    attemptsBeforeDisconnect = ATTEMPTS - 1

    def serviceStarted(self) -> None:
        self.loginTimeout = self.transport.factory.login_time
        self.clock = self.transport.factory.clock
        super().serviceStarted()


class _Transport(SSHServerTransport):
    factory: Any

    def __init__(self) -> None:
        self.supportedCiphers = [b"aes256-ctr", b"aes192-ctr", b"aes128-ctr"]
        self.supportedMACs = [b"hmac-sha2-512", b"hmac-sha2-256"]
        known = SSHServerTransport.supportedKeyExchanges
        self.supportedKeyExchanges = [each for each in _KEY_EXCHANGES if each in known]

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.came(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        # Before the avatar is let go of.
        self.factory.went(self)
        super().connectionLost(reason)

    def sendExtInfo(self, extensions: list[tuple[bytes, bytes]]) -> None:
        super().sendExtInfo(
            [(n, _SIGNATURES if n == b"server-sig-algs" else v) for n, v in extensions]
        )


class _Connection(SSHConnection):
    transport: Any

    def serviceStarted(self) -> None:
        """Somebody has logged in."""
        super().serviceStarted()
        self.transport.avatar.came()

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        """Sessions only; Twisted logs a traceback for all else, such as forwarding of ports."""
        kind, rest = getNS(packet)
        if kind == b"session":
            super().ssh_CHANNEL_OPEN(packet)
            return
        refusal = struct.pack(">LL", int.from_bytes(rest[:4]), OPEN_ADMINISTRATIVELY_PROHIBITED)
        text = NS(b"only sessions are served") + NS(b"")
        self.transport.sendPacket(MSG_CHANNEL_OPEN_FAILURE, refusal + text)


class _Checker(SSHPublicKeyChecker):
    """Tells of a login with which key it was."""

    def requestAvatarId(self, credentials: Any) -> Deferred[tuple[str, str]]:
        def with_key(username: bytes) -> tuple[str, str]:
            return username.decode("ascii"), fingerprint(Key.fromString(credentials.blob))

        checked: Deferred[bytes] = super().requestAvatarId(credentials)
        return checked.addCallback(with_key)


@implementer(IRealm)
@attrs.frozen
class _Realm:
    _console: Console

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: type[Interface]) -> Any:
        return IConchUser, Person(self._console, *avatarId), lambda: None


class Console(ConchFactory):
    """Serves one daemon's console.

    :param daemon: what it calls itself to visitors, such as ``manager of lab``.
    :param make_words: the words of this daemon.
    :raises Invalid: the host key cannot be used.
    """

    protocol: Any = _Transport
    publicKeys: Any
    privateKeys: Any

    def __init__(
        self, clock: Any, daemon: str, settings: Settings, make_words: MakeWords, audit: IAudit
    ) -> None:
        self.key_directory = KeyDirectory(
            settings.keys, frozenset((*settings.operators, *settings.viewers))
        )
        super().__init__(Portal(_Realm(self), [_Checker(self.key_directory)]))
        self.clock, self.daemon, self.settings = clock, daemon, settings
        self.login_time: float = LOGIN_TIME
        self._make_words, self._audit = make_words, audit
        key = host_key(settings.host_key)
        # Those of the class are shared by all consoles of a process.
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}
        self.services = {b"ssh-userauth": _Login, b"ssh-connection": _Connection}
        self.primes = None
        self._connections: list[Any] = []
        #: When somebody who was not let in was last told of.
        self._told = float("-inf")

    @property
    def host_key(self) -> tuple[str, str]:
        """The public host key as a line, and its fingerprint."""
        (key,) = self.privateKeys.values()
        return public_line(key).decode("ascii"), fingerprint(key)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A connection, unless there are too many."""
        if len(self._connections) >= MOST_CONNECTIONS:
            log.warn("{count} connections to the console: no more.", count=MOST_CONNECTIONS)
            return None
        # Not the parent's, which says at each connection that it has no file of primes.
        made: Any = Factory.buildProtocol(self, addr)
        made.supportedPublicKeys = [
            name for key in self.privateKeys.values() for name in key.supportedSignatureAlgorithms()
        ]
        return made

    # Who is there.

    def came(self, connection: Any) -> None:
        """A connection was made. Twisted's own clock for logins starts with the login, so that one
        who never begins it could stay.
        """
        self._connections.append(connection)

        def late() -> None:
            if getattr(connection, "avatar", None) is None:
                connection.transport.abortConnection()

        connection.late = self.clock.callLater(self.login_time, late)

    def went(self, connection: Any) -> None:
        """A connection is over; one that never logged in, though it tried, is recorded."""
        self._connections.remove(connection)
        if connection.late.active():
            connection.late.cancel()
        person = getattr(connection, "avatar", None)
        if person is not None:
            person.left()
            return
        tried = getattr(getattr(connection, "service", None), "user", None)
        if tried is not None:
            self._kept_out(tried.decode("ascii", "backslashreplace")[:100], address_of(connection))

    def _kept_out(self, user: str, address: str) -> None:
        actor = Actor(Kind.STRANGER, address=address)
        self.record(actor, "console login", "unauthorized", {"user": user})
        now = self.clock.seconds()
        if now - self._told < TELL:
            return
        self._told = now
        if user in self.key_directory.users:
            hint = (
                f"If that is this person's own key, put its public half into "
                f"{self.key_directory.file_of(user)}."
            )
        else:
            hint = (
                "Nobody of that name may use it: see operators and viewers in [console] of this "
                "daemon's configuration. The person's name is given by ssh -l NAME."
            )
        log.warn(
            "{user} at {address} was not let into the console. {hint}",
            user=repr(user),
            address=address,
            hint=hint,
        )

    def people(self) -> list[Person]:
        """Who has logged in and is there."""
        found = (getattr(each, "avatar", None) for each in self._connections)
        return [person for person in found if person is not None]

    def kick(self, user: str) -> int:
        """End all connections of a user; gives how many there were. Keys are read at login only:
        whoever is inside stays there when his key is removed.

        :raises NotFound: there is none.
        """
        mine = [
            each
            for each in self._connections
            if (person := getattr(each, "avatar", None)) and person.visitor.name == user
        ]
        if not mine:
            raise NotFound(f"{user!r} is not here.")
        for connection in mine:
            connection.loseConnection()
        return len(mine)

    def end(self) -> None:
        """End all connections."""
        for connection in list(self._connections):
            connection.transport.abortConnection()

    # For those inside.

    def words_for(self, visitor: Visitor, say: Callable[[str], None]) -> Words:
        """All words of a visitor."""
        return {word.name: word for word in self._make_words(visitor, say)}

    def record(
        self, actor: Actor, did: str, outcome: str = DONE, details: dict[str, Any] | None = None
    ) -> None:
        """Write into the audit log."""
        self._audit.record(
            Entry(self.clock.seconds(), actor, did, outcome=outcome, details=details or {})
        )


def address_of(connection: Any) -> str:
    """Where a connection comes from."""
    return str(getattr(connection.transport.getPeer(), "host", ""))
