"""The API's port of a real manager, as `tests.fuzz.api` fuzzes it with ``--daemon``."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable, Sequence
from random import Random

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz import framing, grammar, lines
from tests.fuzz.api import STATUSES, judge
from tests.fuzz.attacked import Attacked
from tests.fuzz.framing import Reply, replies
from tests.fuzz.lines import ENDINGS, Line
from tests.fuzz.pb_daemon import plain_text
from tests.fuzz.requests import GOOD, Asked, requests

#: Requests of a batch that hypothesis makes up, and connections of other kinds.
MADE_UP = 150
OTHERS = 80

#: What requests with others hidden in them begin with.
STARTS = ("POST /v1/jobs", "GET /v1/version", "PUT /v1/blobs/" + "ab" * 32, "POST /v1/tokens")

#: The source that requests speak of, in place of which the daemon has another one.
SPOKEN_OF = hashlib.sha256(b"source").hexdigest()


def _on(attacked: Attacked, asked: Asked) -> Asked:
    """A request as it is right for a daemon."""
    digest, size = attacked.source
    body = asked.body.replace(SPOKEN_OF.encode(), digest.encode())
    body = body.replace(b'"size": 6', b'"size": %d' % size)
    return attrs.evolve(asked, path=asked.path.replace(SPOKEN_OF, digest), body=body)


@attrs.frozen
class Alone:
    """One request on a connection, whole; its answer is looked at."""

    attacked: Attacked
    random: Random
    asked: Asked

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return repr(self.asked)

    def __call__(self) -> str:
        """Ask."""
        line = self.attacked.api(self.random)
        data = self.asked.encoded(self.attacked.secrets)
        if self.random.random() < 0.2 and not self.asked.headers:
            data = framing.chunked(self.random, data)
        line.say(data, self.random)
        said = line.hear(lambda heard: bool(replies(heard, [self.asked.method])))
        line.end(self.random.choice(ENDINGS))
        if not replies(said, [self.asked.method]):
            assert b" 500 " not in said[:20], said
            assert b"Traceback" not in said, said
            return "nothing whole"  # it follows, or waits for more
        return judge(self.asked, said, [])


@attrs.frozen
class Stream:
    """Bytes on a connection that are some requests, or nearly; no more may be answered."""

    attacked: Attacked
    random: Random
    data: bytes
    methods: Sequence[str]
    kind: str

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return json.dumps({"kind": self.kind, "data": self.data.decode("latin-1")})

    def __call__(self) -> str:
        """Send them."""
        line = self.attacked.api(self.random)
        line.say(self.data, self.random)
        if self.kind == "spoilt" and self.random.random() < 0.2:
            line.spoil(self.random)
        said = line.hear(lambda heard: len(_read(heard, self.methods)) == len(self.methods))
        line.end(self.random.choice(ENDINGS))
        assert b"Traceback" not in said, said
        found = _read(said, self.methods, line.over)
        for reply in found:
            assert reply.status in STATUSES, said
        return f"{self.kind}: {' '.join(str(reply.status) for reply in found[:1])}"


def _read(said: bytes, methods: Sequence[str], ended: bool = False) -> list[Reply]:
    try:
        return replies(said, methods, ended)
    except (http.client.HTTPException, ValueError):
        if said.startswith(b"HTTP/1."):  # the answer to another method than was meant
            return []
        raise


@attrs.frozen
class Upload:
    """A file that is brought in pieces, over connections that break; then it must be whole."""

    attacked: Attacked
    random: Random
    content: bytes

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return json.dumps({"upload": len(self.content)})

    def __call__(self) -> str:
        """Bring it, wrongly first."""
        random, size = self.random, len(self.content)
        for _ in range(random.randrange(1, 4)):
            offset = random.choice((0, 0, 1, size // 2, size, size + 1, -1))
            body = self.content[max(offset, 0) :]
            told = random.choice((size, size, size, size + 1, 0, -5, 10**17, "x"))
            status, _ = self._put(body[: random.randrange(len(body) + 1)], offset, told, len(body))
            assert status in (0, *STATUSES), status
        for _ in range(20):
            held = self._held()
            if held == size:
                break
            status, _ = self._put(self.content[held:], held, size, size - held)
            # Another connection's broken upload may not have been given up yet.
            assert status in (0, 200, 201, 409), status
        else:
            raise AssertionError(f"{held} bytes of {size} are held, and no more get there")
        status, body = self._exchange(f"GET {self._path} HTTP/1.1\r\n", b"")
        assert status == 200, status
        assert body == self.content, (len(body), size)
        return "brought"

    @property
    def _path(self) -> str:
        return f"/v1/blobs/{hashlib.sha256(self.content).hexdigest()}"

    def _held(self) -> int:
        line = self.attacked.api(self.random)
        line.say(self._head(f"HEAD {self._path} HTTP/1.1\r\n"))
        said = line.hear(lambda heard: bool(replies(heard, ["HEAD"])), 15.0)
        line.end()
        (reply,) = replies(said, ["HEAD"])
        name = "Content-Length" if reply.status == 200 else "X-Syndicate-Held"
        return int(reply.headers[name])

    def _put(self, body: bytes, offset: int, size: object, length: int) -> tuple[int, bytes]:
        head = f"PUT {self._path} HTTP/1.1\r\nContent-Length: {length}\r\n"
        head += f"X-Syndicate-Offset: {offset}\r\nX-Syndicate-Size: {size}\r\n"
        return self._exchange(head, body, whole=len(body) == length)

    def _exchange(self, head: str, body: bytes, whole: bool = True) -> tuple[int, bytes]:
        line = self.attacked.api(self.random)
        line.say(self._head(head) + body, self.random)
        said = line.hear(
            lambda heard: bool(replies(heard, [head.split()[0]])), 15.0 if whole else lines.QUIET
        )
        line.end("close" if whole else self.random.choice(ENDINGS))
        found = replies(said, [head.split()[0]])
        return (found[0].status, found[0].body) if found else (0, b"")

    def _head(self, head: str) -> bytes:
        secret = self.attacked.secrets["staff"]
        return f"{head}Host: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()


@attrs.frozen
class NoTls:
    """What is no TLS."""

    attacked: Attacked
    random: Random
    data: bytes

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return json.dumps({"no TLS": self.data.hex()})

    def __call__(self) -> str:
        """Say it."""
        sock = lines.tcp(self.attacked.daemon.api_port, lines.address(self.random))
        return plain_text(Line(sock), self.random, self.data)


@attrs.frozen
class SlowReader:
    """Asks for much, again and again, and reads nothing, or little."""

    attacked: Attacked
    random: Random

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return json.dumps({"slow": True})

    def __call__(self) -> str:
        """Ask."""
        line = self.attacked.api(self.random)
        asked = Asked("GET", f"/v1/blobs/{self.attacked.large}", "staff", b"")
        line.sock.settimeout(1.0)
        line.say(asked.encoded(self.attacked.secrets) * 20)
        line.hear(lambda heard: len(heard) > 100_000, 0.3)
        line.end(self.random.choice(("close", "reset", "unsaid")))
        return "slow reader"


Attempt = Alone | Stream | Upload | NoTls | SlowReader


def batch(attacked: Attacked, seed: int, number: int) -> list[Attempt]:
    """What is said in a batch."""
    random = Random(f"{seed}/{number}")
    found = [_on(attacked, asked) for asked in _made_up(seed * 1_000_000 + number)]
    made: list[Attempt] = [
        Alone(attacked, Random(f"{seed}/{number}/{which}"), asked)
        for which, asked in enumerate(found)
    ]
    for which in range(OTHERS):
        own = Random(f"{seed}/{number}/other/{which}")
        made.append(_other(attacked, own, found))
    random.shuffle(made)
    return made


def _other(attacked: Attacked, random: Random, found: Sequence[Asked]) -> Attempt:
    staff = attacked.secrets["staff"]
    if random.random() < 0.15:
        return Alone(attacked, random, _submission(attacked, random))
    chance = random.random()
    if chance < 0.2:
        several = [random.choice(found) for _ in range(random.randrange(2, 6))]
        data = b"".join(asked.encoded(attacked.secrets) for asked in several)
        return Stream(attacked, random, data, [asked.method for asked in several], "pipelined")
    if chance < 0.4:
        asked = random.choice(found)
        data = grammar.spoilt(random, asked.encoded(attacked.secrets))
        if random.random() < 0.4:
            data = data[: random.randrange(len(data) + 1)]
        return Stream(attacked, random, data, [asked.method], "spoilt")
    if chance < 0.65:
        hidden, bearer = framing.canary(staff), f"Authorization: Bearer {staff}"
        data = framing.smuggled(random, hidden, STARTS, bearer)
        return Stream(attacked, random, data, ["POST"], "smuggled")
    if chance < 0.8:
        return Stream(attacked, random, framing.huge(random), ["GET"], "huge")
    if chance < 0.9:
        size = random.choice((1, 100, 5000, 300_000))
        return Upload(attacked, random, random.randbytes(16) + b"x" * size)
    if chance < 0.95:
        return NoTls(attacked, random, random.choice(found).encoded(attacked.secrets))
    return SlowReader(attacked, random)


def _submission(attacked: Attacked, random: Random) -> Asked:
    """A job, mostly one that will run: what is asked of jobs shall be so of some that are there."""
    right = {**GOOD["jobs"][0], "submission": f"{random.getrandbits(64):016x}"}
    body = json.dumps(grammar.mutated(random, right, 0.01)).encode()
    who = random.choice(("user", "staff", "operator"))
    return _on(attacked, Asked("POST", "/v1/jobs", who, body))


def _made_up(number: int) -> list[Asked]:
    made: list[Asked] = []

    @seed(number)
    @settings(
        max_examples=MADE_UP,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(requests())
    def keep(asked: Asked) -> None:
        made.append(asked)

    once: Callable[[], None] = keep
    once()
    return made


def connect(attacked: Attacked, random: Random) -> Line:
    """One of many."""
    line = attacked.api(random)
    asked = Asked("GET", "/v1/jobs/1/events?follow=1", "staff", b"").encoded(attacked.secrets)
    line.say(asked[: random.choice((0, 5, 60, len(asked)))])
    return line
