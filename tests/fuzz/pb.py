"""Fuzzes everything that speaks Perspective Broker, in process, without sockets.

``python -m tests.fuzz.pb --minutes 15 --seed 1``: connections to the manager's door before and
after joining, to a client's door, and from a manager to a volunteer. Each is a peer that talks
nonsense of some kind (`tests.fuzz.grammar`). A finding is: an exception that escapes, a failure or
an incident in the log, a traceback in an answer, a timer left behind, or a manager that does not
answer others any more.

With ``--daemon`` the volunteers' port of a manager that runs by itself is fuzzed instead, see
`tests.fuzz.campaign`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from syndicate.client.calls import Calls
from syndicate.client.gate import Gate
from syndicate.client.pb_door import BrokerFactory
from syndicate.credentials.interface import Identity
from syndicate.wire.pb.client import ManagerFactory, Orders
from syndicate.wire.pb.server import DoorFactory
from syndicate.wire.pb.values import pack
from tests.fuzz import calls, campaign, grammar, pb_daemon
from tests.fuzz.options import begin
from tests.support.banana import GREETING, call, encoded
from tests.support.cluster import Cluster
from tests.support.handles import ScriptedHandle
from tests.support.peers import NotingWorker

CORPUS = Path(__file__).parent / "corpus" / "pb.jsonl"

#: Connections after which the parts behind the doors are made anew.
FRESH = 500

#: Most bytes that an unfinished message may hold, with what has come behind it.
HELD = 2 << 20


#: The reference in the answer to a join: a list of the word ``remote`` and the number 1.
JOINED = b"\x02\x80\x10\x87\x01\x81"


class Wire(StringTransport):
    """A connection whose other end is us."""

    def __init__(self, protocol: Any, address: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", address, 1))
        self.protocol, self.lost = protocol, False
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionLost()))

    def say(self, data: bytes, random: Random | None = None) -> None:
        while data and not self.lost:
            size = len(data) if random is None else random.choice((1, 7, 100, 5000, 1 << 20))
            piece, data = data[:size], data[size:]
            self.protocol.dataReceived(piece)


class Target:
    """Something that listens; `open` connects to it and does what comes before the nonsense."""

    name = ""
    targets: tuple[Any, ...] = (b"root",)
    likes: dict[bytes, list[Any]]

    def open(self) -> Wire:
        raise NotImplementedError

    def turn(self) -> None:
        """Let happen what is due."""

    def check(self) -> None:
        """Whether others are still served."""

    def close(self) -> None:
        """End it."""


def _job(run: Any) -> None:
    """Runs for as long as the fuzzer."""


class ManagerDoor(Target):
    """The manager's door, with real volunteers beside us and a job that runs on them."""

    name = "door"

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.cluster = Cluster(Path(self._directory.name), _job)
        self.cluster.add("v1", "v2")
        self.job = self.cluster.submit(machines=2)
        self._timers = 0
        self.cluster.settle()

        def admit(transport: Any, name: str) -> None:
            self.cluster.manager.trust.admit(Identity(frozenset(("v9",)), "1"), name)

        self._factory = DoorFactory(
            self.cluster.clock, admit, self.cluster.manager, self.cluster.manager.trust.refused
        )
        self._factory.doStart()
        self.likes = calls.stranger("v9")

    def open(self) -> Wire:
        self.cluster.clock.advance(1)  # joins and failures are limited by time
        return Wire(self._factory.buildProtocol(None), "10.0.0.9")

    def turn(self) -> None:
        self.cluster.settle(10)

    def check(self) -> None:
        assert self.cluster.job(self.job).state.value == "running"
        states = self.cluster.states()
        assert states["v1"] == states["v2"] == "busy", states

    def close(self) -> None:
        self._factory.doStop()
        self.cluster.close()
        self._directory.cleanup()


class JoinedDoor(ManagerDoor):
    """The same, once we have joined as v9."""

    name = "joined"
    targets = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.likes = calls.volunteer(self.job)

    def open(self) -> Wire:
        self.cluster.clock.advance(2)
        wire = super().open()
        hello = pack(NotingWorker("v9").hello())
        wire.say(GREETING + call(b"join", hello, [b"remote", 1]))
        self.turn()
        assert JOINED in wire.value(), wire.value()
        return wire


class ClientDoor(Target):
    """A client's door."""

    name = "client"
    likes = calls.CLIENT

    def __init__(self) -> None:
        self._clock = Clock()
        self._calls = Calls(self._clock, ScriptedHandle())
        self._factory = BrokerFactory(Gate(), self._calls)
        self._factory.doStart()

    def open(self) -> Wire:
        return Wire(self._factory.buildProtocol(None), "")

    def turn(self) -> None:
        self._clock.advance(1)

    def check(self) -> None:
        wire = self.open()
        wire.say(GREETING + call(b"job", [b"None"]))
        self.turn()
        assert b'"job": 17' in wire.value(), wire.value()
        wire.loseConnection()

    def close(self) -> None:
        self._calls.end()


class VolunteersEnd(Target):
    """A volunteer, whose manager has gone mad."""

    name = "volunteer"
    targets = (1,)

    def __init__(self) -> None:
        self._worker = NotingWorker()
        self.likes = calls.MANAGER

    def open(self) -> Wire:
        broker: Any = ManagerFactory().buildProtocol(None)
        wire = Wire(broker, "10.0.0.1")
        wire.say(encoded([b"pb", b"none"]))
        broker.registerReference(Orders(self._worker))
        root = broker.remoteForName("root")
        asked = root.callRemote("join", b"{}", b"x")
        asked.addErrback(lambda failure: None)
        return wire


TARGETS: tuple[Callable[[], Target], ...] = (ManagerDoor, JoinedDoor, ClientDoor, VolunteersEnd)


class Finding(Exception):
    """Something that must not be."""


@contextmanager
def watched() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile."""
    heard: list[dict[str, Any]] = []

    @implementer(ILogObserver)
    def hear(event: dict[str, Any]) -> None:
        heard.append(event)

    def unraisable(what: Any) -> None:
        heard.append({"log_format": "an exception went nowhere", "log_failure": what.exc_value})

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    globalLogPublisher.addObserver(hear)
    try:
        yield heard
    finally:
        sys.unraisablehook = before
        globalLogPublisher.removeObserver(hear)


def play(target: Target, data: bytes, random: Random | None = None) -> frozenset[str]:
    """Say something to a target; gives what kinds of things came of it.

    :raises Finding: something that must not.
    """
    with watched() as heard:
        wire = target.open()
        before = len(wire.value())
        try:
            wire.say(data, random)
            target.turn()
        except Exception as error:
            raise Finding(f"it raised {error!r}\n{traceback.format_exc()}") from error
        broker = wire.protocol
        held = len(broker._decoder._buffer) + len(broker._unread)
        if held > HELD:
            raise Finding(f"{held} bytes are held of a message")
        said = wire.value()[before:]
        if b"Traceback" in said or b'File "' in said:
            raise Finding(f"a traceback crossed: {said[:300]!r}")
        parted = wire.lost
        wire.loseConnection()
        target.turn()
    signs = {f"{type(target).__name__} parted: {parted}"}
    for event in heard:
        text = str(event.get("log_format") or event.get("format") or "")
        if event.get("log_failure") or event.get("isError") or "incident" in text:
            raise Finding(f"it was logged: {event}")
        why = str(event.get("why", ""))
        signs.add(f"{text} {''.join(letter for letter in why if not letter.isdigit())[:60]}")
    for code in (b"invalid", b"not_found", b"unavailable", b"forbidden", b"conflict", b"internal"):
        if code in said:
            signs.add(f"answered {code.decode()}")
    if "answered internal" in signs:
        raise Finding(f"it answered with a defect: {said[:500]!r}")
    return frozenset(signs)


def load() -> list[tuple[str, bytes]]:
    """The corpus: target and bytes."""
    lines = CORPUS.read_text("ascii").splitlines() if CORPUS.exists() else []
    return [(entry["target"], bytes.fromhex(entry["data"])) for entry in map(json.loads, lines)]


def main() -> int:
    """Fuzz until the time is over; the exit code tells whether anything was found."""
    options = begin(__doc__)
    if options.daemon:
        return campaign.on_manager(options, pb_daemon.batch, pb_daemon.connect, "wire_port")
    until = time.monotonic() + 60 * options.minutes
    counts: Counter[str] = Counter()
    seen: set[frozenset[str]] = set()
    known: set[str] = set()
    kept: list[tuple[str, bytes]] = []
    findings: list[str] = []
    batch = 0
    while time.monotonic() < until and len(findings) < 20:
        batch += 1
        target = TARGETS[batch % len(TARGETS)]()
        for number in range(FRESH):
            random = Random(f"{options.seed}/{batch}/{number}")
            data = grammar.conversation(random, target.targets, target.likes)
            if isinstance(target, JoinedDoor | VolunteersEnd) and data.startswith(GREETING):
                data = data[len(GREETING) :]
            counts[target.name] += 1
            try:
                signs = play(target, data, random)
                if number % 50 == 0:
                    target.check()
            except (Finding, AssertionError) as found:
                findings.append(f"{target.name} {options.seed}/{batch}/{number}: {found}")
                print(findings[-1], data.hex()[:4000], file=sys.stderr, flush=True)
                break
            if len(data) < 2000 and not signs <= known:
                known |= signs
                kept.append((target.name, data))
            seen.add(signs)
        try:
            target.close()
        except Exception as error:  # noqa: BLE001  (whatever was left: a finding)
            findings.append(f"{target.name}: {error!r}")
            print(findings[-1], file=sys.stderr, flush=True)
    if options.keep:
        CORPUS.parent.mkdir(exist_ok=True)
        lines = [json.dumps({"target": name, "data": data.hex()}) for name, data in kept]
        CORPUS.write_text("\n".join(sorted(lines)) + "\n", "ascii")
    outcomes = Counter(sign for signs in seen for sign in signs if "answered" in sign)
    print(dict(outcomes))
    total = sum(counts.values())
    print(
        f"{total} connections ({dict(counts)}), {len(seen)} kinds of outcome, "
        f"{len(findings)} findings"
    )
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
