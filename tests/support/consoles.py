"""A console served in this process, and the real OpenSSH client that visits it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from syndicate.audit.interface import Kind, Wanted
from syndicate.audit.memory import MemoryAudit
from syndicate.console.of_manager import manager_words
from syndicate.console.server import Console, Settings
from tests.support.cluster import Cluster

SSH = "/usr/bin/ssh"


def make_key(directory: Path, user: str, kind: str = "ed25519") -> Path:
    """A new key of a person; gives the private half's file."""
    path = directory / f"{user}-{kind}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", user, "-f", str(path)],
        check=True,
        timeout=30,
    )
    return path


@attrs.define
class Ended:
    """A visit that is over."""

    code: int
    out: str
    err: str


class Visit(ProcessProtocol):
    """``ssh`` at work, with pipes or with a terminal of its own."""

    def __init__(self) -> None:
        self.out, self.err = b"", b""
        self.over: Deferred[Ended] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[str]]] = []

    def type(self, text: str) -> None:
        """Send something."""
        transport: Any = self.transport
        transport.write(text.encode())

    def close_input(self) -> None:
        """Send no more."""
        transport: Any = self.transport
        transport.closeStdin()

    def until(self, text: str) -> Deferred[str]:
        """Fires when that has been said; gives all that was said up to it, and forgets it."""
        said: Deferred[str] = Deferred()
        self._waiting.append((text.encode(), said))
        self._look()
        return said

    def told(self, text: str, until: str) -> Deferred[str]:
        """Send something, and wait for what is said of it."""
        self.type(text)
        return self.until(until)

    def leave(self) -> Deferred[Ended]:
        """Press Ctrl-D, as one does at an empty line."""
        self.type("\x04")
        return self.over

    def outReceived(self, data: bytes) -> None:
        """Something was said."""
        self.out += data
        self._look()

    def errReceived(self, data: bytes) -> None:
        """Something was said by ssh itself."""
        self.err += data

    def _look(self) -> None:
        while self._waiting and self._waiting[0][0] in self.out:
            text, said = self._waiting.pop(0)
            before, _, self.out = self.out.partition(text)
            said.callback((before + text).decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        error: Any = reason.value
        code = 0 if isinstance(error, ProcessDone) else error.exitCode
        for text, said in self._waiting:
            said.errback(AssertionError(f"ended without {text!r}: {self.out!r} {self.err!r}"))
        out, err = self.out.decode("utf-8", "replace"), self.err.decode("utf-8", "replace")
        self.over.callback(Ended(code if code is not None else -1, out, err))


class Served:
    """A console of a manager's, listening on a port of its own."""

    def __init__(self, reactor: Any, directory: Path, cluster: Cluster) -> None:
        self.reactor, self.directory, self.cluster = reactor, directory, cluster
        self.keys = directory / "keys"
        self.keys.mkdir(mode=0o700)
        self.audit = MemoryAudit()
        settings = Settings(("ann",), ("vera",), self.keys, directory / "host_key")
        words = manager_words(reactor, cluster.manager, lambda: self.console)
        self.console = Console(reactor, "manager of test", settings, words, self.audit)
        self.port = reactor.listenTCP(0, self.console, interface="127.0.0.1")
        self.own: dict[str, Path] = {}
        for user in ("ann", "vera"):
            self.admit(user, make_key(directory, user))

    def admit(self, user: str, key: Path) -> None:
        """Let a person in with a key."""
        self.own[user] = key
        path = self.keys / f"{user}.keys"
        path.write_bytes(key.with_name(key.name + ".pub").read_bytes())
        path.chmod(0o600)

    def command(self, user: str, *words: str, key: Path | None = None) -> list[str]:
        """The words that run ssh."""
        known = self.directory / "known_hosts"
        known.write_text(f"console {self.console.host_key[0]}\n")
        return [
            *(SSH, "-F", "none", "-p", str(self.port.getHost().port), "-l", user),
            *("-i", str(key or self.own[user]), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={known}", "-o", "HostKeyAlias=console"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"),
            *words,
        ]

    def visit(self, user: str, *words: str, key: Path | None = None, tty: bool = False) -> Visit:
        """Begin a visit; options of ssh come first, then the host is added, then a command."""
        options = [word for word in words if word.startswith("-")]
        rest = [word for word in words if not word.startswith("-")]
        argv = [*self.command(user, *options, key=key), "127.0.0.1", *rest]
        visit = Visit()
        environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "HOME": str(self.directory)}
        self.reactor.spawnProcess(visit, SSH, argv, env=environment, usePTY=tty)
        return visit

    async def ask(self, user: str, *words: str, key: Path | None = None) -> Ended:
        """Run one command, or one visit without input."""
        visit = self.visit(user, *words, key=key)
        visit.close_input()
        return await visit.over

    async def typed(self, kind: Kind = Kind.PERSON) -> list[tuple[str, str, Any]]:
        """What was recorded: who, what, and the line."""
        entries = await self.audit.tail(1000, Wanted(kind=kind))
        return [(e.actor.name, e.did, e.details.get("line")) for e in entries]

    async def close(self) -> None:
        """End it."""
        self.console.end()
        await self.port.stopListening()
