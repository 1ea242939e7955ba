"""A manager daemon that is fuzzed through its ports, with two volunteers that do nothing wrong.

`Attacked.check` tells what must not be after what was thrown at it: that it is not alive, does not
serve others, logs a failure, has more memory or descriptors, or holds what nobody gave it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import attrs

from syndicate.cli.connection import Connection
from syndicate.credentials.authority import certificate_bytes
from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.issuing import VolunteerIssuer
from syndicate.wire.pb.values import pack
from tests.fuzz import lines
from tests.fuzz.lines import Line
from tests.fuzz.watch import Watch
from tests.support.archives import tarball
from tests.support.banana import GREETING, call, encoded
from tests.support.labs import eventually
from tests.support.manager_daemon import ManagerDaemon
from tests.support.peers import NotingWorker

#: Seconds in which the daemon must answer others: the machine has other work, too.
DEADLINE = 15.0
#: The reference in the answer to a join: a list of the word ``remote`` and the number 1.
JOINED = b"\x02\x80\x10\x87\x01\x81"

#: Of the volunteers that are fuzzed as; more joins by one name are refused than are made.
NAMES = tuple(f"f{number}" for number in range(64))
#: Of the volunteers that do nothing wrong, as `bench.simulated` calls them.
GOOD = ("s0", "s1")

#: What the manager keeps: few, so that what grows does so for another reason.
CONFIG = """
[storage]
queued_per_user = 50
[history]
jobs = 100
"""

#: Bytes of a large file.
LARGE = 4 << 20

#: The log of the volunteers that do nothing wrong.
VOLUNTEERS = "volunteers"

#: Whom the canary of `tests.fuzz.framing` would make a token for.
CANARY = "smuggled"


@attrs.define(eq=False)
class Attacked:
    """The daemon, and what is known of it."""

    daemon: ManagerDaemon
    #: Secrets by role; ``session`` is that of a volunteer that is joined now.
    secrets: dict[str, str] = attrs.field(factory=dict)
    #: Digest and size of a source that it has.
    source: tuple[str, int] = ("", 0)
    #: Digest of a file of some megabytes that it has, too.
    large: str = ""
    watches: list[Watch] = attrs.field(init=False)
    _certificates: dict[str, ssl.SSLContext] = attrs.field(factory=dict)
    _session: Line | None = None
    _volunteers: Watch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        directory = self.daemon.directory
        log, apart = directory / "log", self.daemon.state / "logs"
        self.watches = [Watch("the manager", lambda: self._pid, log, apart)]
        self._volunteers = Watch("a volunteer", os.getpid, directory / VOLUNTEERS, directory)

    @property
    def authority(self) -> Path:
        """What its certificates are signed with."""
        return self.daemon.state / "authority/ca.pem"

    def start(self) -> None:
        """Start it and give it what is needed."""
        self.daemon.start()
        for role, name in (("staff", "staff"), ("operator", "operator"), ("volunteer", "join")):
            self.secrets[role] = (self.daemon.state / "tokens" / name).read_text().strip()
        made = self._ask("POST", "/v1/tokens", {"role": "user", "user": "a-user"})
        self.secrets["user"] = made["secret"]
        source = tarball(self.daemon.directory / "source.tar.gz").read_bytes()
        self.source = hashlib.sha256(source).hexdigest(), len(source)
        self._bring(source)
        large = bytes(LARGE)
        self.large = hashlib.sha256(large).hexdigest()
        self._bring(large)
        self._sign()

    def _sign(self) -> None:
        issuer = VolunteerIssuer(self.authority.parent)
        late = VolunteerIssuer(self.authority.parent, timedelta(days=1))
        now = time.time()
        for name in (*NAMES, "late"):
            identity = VolunteerIdentity(self.daemon.directory / name, name)
            key = identity.key().public_key()
            if name == "late":
                made = late.sign((name,), key, now - 3 * 86400)
            else:
                made = issuer.sign((name,), key, now)
            identity.keep(certificate_bytes(made).decode())
            self._certificates[name] = lines.context(self.authority, identity.directory)
        self._certificates[""] = lines.context(self.authority)

    # Connections.

    def wire(self, random: Random, name: str) -> Line:
        """A connection to the volunteers' port, with a certificate; without one if it is empty.

        :raises Refused: it is not let in.
        """
        sock = lines.tcp(self.daemon.wire_port, lines.address(random))
        return Line(sock, self._certificates[name])

    def joined(self, random: Random, name: str) -> Line:
        """One that has joined.

        :raises Refused: it was not let in.
        """
        line = self.wire(random, name)
        line.say(GREETING + call(b"join", pack(NotingWorker(name).hello()), [b"remote", 1]))
        said = line.hear(lambda heard: JOINED in heard, DEADLINE)
        if JOINED not in said:
            line.end()
            raise lines.Refused(repr(said[-300:]))
        return line

    def api(self, random: Random) -> Line:
        """A connection to the API.

        :raises Refused: there is none.
        """
        sock = lines.tcp(self.daemon.api_port, lines.address(random))
        return Line(sock, self._certificates[""])

    # Looking after it.

    def check(self) -> Iterator[str]:
        """What is wrong with it now."""
        process = self.daemon.process
        if process is None or process.poll() is not None:
            yield f"it has ended: {self.daemon.log[-3000:]}"
            return
        for watch in (*self.watches, self._volunteers):
            yield from watch.said()
        try:
            self._serves()
            self.join()
        except Exception as error:  # noqa: BLE001  (whatever keeps it from serving others)
            yield f"it does not serve others: {error!r}"

    def _serves(self) -> None:
        """A client's requests are answered, and the volunteers are there."""
        began = time.monotonic()
        fresh = f"{time.time_ns()}".encode()
        self._bring(fresh)
        members = self._members()
        for name in GOOD:
            state = members[name]["state"]
            assert state not in ("gone", "quarantined"), members[name]
        took = time.monotonic() - began
        assert took < DEADLINE, f"a client waited for {took:.1f} s"

    def join(self) -> None:
        """Have a volunteer join and ping, within the deadline; its session is known after that."""
        if self._session is not None:
            self._session.end()
        self._session = line = self.joined(Random(), "f0")
        found = re.search(rb'"session": ?"([^"]+)"', bytes(line.heard))
        assert found is not None, bytes(line.heard)
        self.secrets["session"] = found[1].decode()
        answer = encoded([b"answer", 7, [b"None"]])
        line.say(call(b"ping", target=1, number=7))
        said = line.hear(lambda heard: answer in heard, DEADLINE)
        assert answer in said, f"a volunteer's ping was not answered: {said[-300:]!r}"

    def rest(self) -> None:
        """Let go of what we hold of it."""
        if self._session is not None:
            self._session.end()
            self._session = None

    def holds(self) -> Iterator[str]:
        """What is in its store that nobody gave it."""
        for token in self._ask("GET", "/v1/tokens"):
            if token["user"] == CANARY:
                yield f"a request was smuggled in: {token}"
        for path in (self.daemon.state / "blobs").rglob("*"):
            name = path.name
            if re.fullmatch("[0-9a-f]{64}", name) and path.is_file():
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != name:
                        yield f"the blob {path} is not what it is called"
        if strangers := self._members().keys() - {*NAMES, *GOOD}:
            yield f"there are volunteers called {strangers}"

    def restart(self) -> Iterator[str]:
        """Whether it ends in order, knows its jobs when it starts again, and is dialled again."""
        before = self._jobs()
        code = self.daemon.stop()
        if code != -signal.SIGTERM:  # as Twisted ends for one
            yield f"it ended with {code}"
        self.daemon.start()
        if lost := before - self._jobs():
            yield f"it lost the jobs {sorted(lost)[:20]}"
        eventually(lambda: set(GOOD) <= self._members().keys())
        yield from self.watches[0].said()

    def held(self) -> str:
        """What is in its store, counted."""
        tokens, jobs = self._ask("GET", "/v1/tokens"), self._ask("GET", "/v1/jobs?all=1")
        blobs = [path for path in (self.daemon.state / "blobs").rglob("*") if path.is_file()]
        over = sum(each["state"] == "finished" for each in jobs)
        return (
            f"{len(jobs)} jobs, {over} of them finished, {len(tokens)} tokens, {len(blobs)} blobs"
        )

    def _members(self) -> dict[str, Any]:
        found = self._ask("GET", "/v1/volunteers")
        return {each["volunteer"]: each for each in found if each["state"] != "gone"}

    def _jobs(self) -> set[int]:
        return {each["job"] for each in self._ask("GET", "/v1/jobs?all=1")}

    @property
    def _pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    # What a good client asks.

    def _connection(self) -> Connection:
        url = f"https://127.0.0.1:{self.daemon.api_port}"
        return Connection(url, lambda: self.secrets["operator"], str(self.authority))

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        with contextlib.closing(self._connection()) as connection:
            if method == "GET":
                (found,) = connection.get(path).values()
                return found
            return connection.post(path, body)

    def _bring(self, data: bytes) -> None:
        """Send a file, and look whether it is there."""
        name = hashlib.sha256(data).hexdigest()
        head = f"PUT /v1/blobs/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        head += f"Authorization: Bearer {self.secrets['staff']}\r\nConnection: close\r\n\r\n"
        line = Line(lines.tcp(self.daemon.api_port, "127.0.0.1"), lines.context(self.authority))
        line.say(head.encode() + data)
        said = line.hear(lambda heard: False, DEADLINE)
        line.end()
        assert said.startswith((b"HTTP/1.1 201", b"HTTP/1.1 200")), said
        assert b'"size": %d}' % len(data) in said, said


@contextlib.contextmanager
def attacked(directory: Path) -> Iterator[Attacked]:
    """A daemon with its volunteers, all of which end with the block."""
    daemon = ManagerDaemon(directory, directory / "state", CONFIG)
    found = Attacked(daemon)
    try:
        found.start()
        with _volunteers(daemon):
            yield found
    finally:
        found.rest()
        daemon.stop()


@contextlib.contextmanager
def _volunteers(daemon: ManagerDaemon) -> Iterator[None]:
    words = [sys.executable, "-m", "bench.simulated", str(len(GOOD)), str(daemon.wire_port)]
    words += [str(daemon.api_port), str(daemon.directory), str(daemon.directory)]
    with (daemon.directory / VOLUNTEERS).open("wb") as log:
        process = subprocess.Popen(
            words, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), (daemon.directory / VOLUNTEERS).read_text()
        yield
    finally:
        process.kill()  # its threads may wait for the manager, and nothing of it is wanted
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
