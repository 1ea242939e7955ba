"""Fuzzes the JSON API with requests that hypothesis makes up, in process, as bytes of HTTP.

``python -m tests.fuzz.api --minutes 15 --seed 1``: the real site with the real manager behind it,
on disks in memory. A finding, which is made as small as it can be, is: an exception that escapes,
a failure in the log, a status of 500, a traceback in an answer, an error that is not the JSON it
should be, somebody who is let in without a good token, or a manager that does not answer
afterwards.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.site import make_site
from syndicate.sandbox.memory import MemoryRun
from tests.fuzz.options import begin
from tests.fuzz.pb import watched
from tests.support.cluster import Cluster, put

CORPUS = Path(__file__).parent / "corpus" / "api.jsonl"
APP = Path(__file__).parents[2] / "syndicate/api/app.py"

#: Requests after which the manager is made anew.
FRESH = 400

ROLES = ("user", "staff", "operator", "volunteer")


def routes() -> list[tuple[str, str]]:
    """Methods and paths that are served."""
    found = re.findall(r'"(GET|POST|PUT)", "(/v1/[^"]+)"', APP.read_text())
    logs = "/v1/logs/<number>/<attempt>/<machine>"
    return [
        *found,
        *((method, "/v1/blobs/<sha256>") for method in ("GET", "HEAD", "PUT")),
        ("POST", "/v1/certificates"),
        ("PUT", logs),
        ("GET", "/v1/version"),
    ]


NAMES = frozenset(part for _, path in routes() for part in path.split("/") if "<" not in part)


@attrs.frozen
class Asked:
    """One request."""

    method: str
    path: str
    #: A role, ``session``, or a secret that is none; empty for no header at all.
    who: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def encoded(self, secrets: dict[str, str]) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: x"]
        if self.who:
            lines.append(f"Authorization: Bearer {secrets.get(self.who, self.who)}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not any(
            name.lower() in ("content-length", "transfer-encoding") for name, _ in self.headers
        ):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=30),
        st.sampled_from(["1", "10m", "1G", "ann", "v1", "master", "kill", "user", "x" * 5000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=10,
)

#: Bodies that are right, or nearly, by the end of the path.
GOOD: dict[str, list[dict[str, Any]]] = {
    "jobs": [
        {
            "submission": "fuzzer-0001",
            "no_wait": False,
            "spec": {
                "name": "a job",
                "sha256": hashlib.sha256(b"source").hexdigest(),
                "size": 6,
                "machines": 1,
                "limits": {"wall": "10m", "memory": "1G"},
                "outputs": ["*.txt"],
                "env": {"A": "b"},
                "resources": {"cores": 1},
                "clients": {"count": 1},
            },
        }
    ],
    "tokens": [{"role": "user", "user": "x", "expires_in": 60, "host": None}],
    "certificates": [{"name": "v7", "request": "-----BEGIN CERTIFICATE REQUEST-----"}],
    "faults": [{"machine": "master", "for": "5s", "with_disk": True, "groups": [["master"]]}],
    "volunteers": [{"reason": "because"}],
}


@st.composite
def near(draw: st.DrawFn, value: Any) -> Any:
    """A value like another one, here and there something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(PLAIN)
    if isinstance(value, dict):
        made = {key: draw(near(each)) for key, each in value.items()}
        if made and draw(st.integers(0, 5)) == 0:
            del made[draw(st.sampled_from(sorted(made)))]
        if draw(st.integers(0, 5)) == 0:
            made[draw(st.text(max_size=10))] = draw(PLAIN)
        return made
    if isinstance(value, list):
        return [draw(near(each)) for each in value]
    return value


SEGMENTS = st.one_of(
    st.sampled_from(
        [
            *(
                "1",
                "2",
                "latest",
                "0",
                "-1",
                "17",
                "99999999999999999999",
                "1e3",
                "%00",
                "..",
                "%2e",
            ),
            *("v1", "master", "slave%5B0%5D", "kill", "heal", "partition", "%ff", "a%2Fb", ""),
            *(
                "attempt-1/master.out",
                "attempt-1/master/outputs.tar",
                "attempt-9/x",
                "../../ca.key",
            ),
            *(hashlib.sha256(b"source").hexdigest(), "0" * 64, "f" * 63, "A" * 64, "x" * 3000),
        ]
    ),
    st.text("abc/.%0123[]?&=;:@~'\"", max_size=20),
)
QUERIES = st.sampled_from(
    [
        *(
            "",
            "",
            "",
            "?all=1",
            "?state=queued,running",
            "?state=nonsense",
            "?limit=0",
            "?limit=-1",
        ),
        *(
            "?limit=1e400",
            "?limit=nan",
            "?dry_run=1",
            "?after=0",
            "?after=-5",
            "?after=x",
            "?offset=0",
        ),
        *("?follow=1", "?tail=5", "?tail=1e11", "?until=finished&timeout=0", "?timeout=inf"),
        *("?machine=master&stream=out", "?machine=%00", "?since=1e300", "?attempt=1", "?attempt=9"),
        *(
            "?offset=999999999999",
            "?kind=person&who=ann",
            "?kind=none",
            "?a=%ff%fe",
            "?&&=&=;",
            "?x",
        ),
    ]
)
HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(("Accept", "text/event-stream"), ("Last-Event-ID", "3"), ("Last-Event-ID", "x")),
                *(("Range", "bytes=0-"), ("Range", "bytes=99-"), ("Range", "bytes=-")),
                *(("X-Syndicate-Offset", "0"), ("X-Syndicate-Offset", "-1")),
                *(("X-Syndicate-Size", "6"), ("X-Syndicate-Size", "999999999999999999")),
                *(("Idempotency-Key", "k"), ("Idempotency-Key", "k" * 5000)),
                *(("Content-Length", "0"), ("Content-Length", "5"), ("Content-Length", "x")),
                *(("Content-Length", "99999999999999999999"), ("Transfer-Encoding", "chunked")),
                *(
                    ("Expect", "100-continue"),
                    ("Content-Encoding", "gzip"),
                    ("Connection", "close"),
                ),
                *(("Authorization", "Basic eDp5"), ("Authorization", "Bearer"), ("Upgrade", "h2c")),
            ]
        ),
        st.tuples(
            st.text("abcXY-", min_size=1, max_size=10),
            st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40),
        ),
    ),
    max_size=3,
).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    """A request that may mean something, or not."""
    method, path = draw(st.sampled_from(routes()))
    parts = path.strip("/").split("/")
    for at, part in enumerate(parts):
        if part.startswith("<") or draw(st.integers(0, 30)) == 0:
            parts[at] = draw(SEGMENTS)
    if draw(st.integers(0, 15)) == 0:
        method = draw(
            st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "X"])
        )
    who = draw(
        st.sampled_from([*ROLES, "session", "wrong", "", "\udcff", "syn_" + "x" * 43, "staff"])
    )
    kind = next((word for word in reversed(parts) if word in GOOD), "")
    if draw(st.integers(0, 6)) == 0:
        body = draw(st.binary(max_size=60))
    elif kind and draw(st.integers(0, 6)):
        body = json.dumps(draw(near(draw(st.sampled_from(GOOD[kind]))))).encode()
    else:
        body = json.dumps(draw(PLAIN)).encode()
    if draw(st.integers(0, 40)) == 0:
        body = draw(st.sampled_from([b"[" * 5000, b"{" * 5000, b'{"a":' * 2000]))
    path = "/" + "/".join(parts) + draw(QUERIES)
    return Asked(method, re.sub(r"[\s\x00-\x20]", "+", path), who, body, draw(HEADERS))


def _forever(run: MemoryRun) -> None:
    run.print(b"I run\n")


class World:
    """A manager with its site, a job, and a secret for each role."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.cluster = Cluster(Path(self._directory.name), _forever)
        self.cluster.add("v1", "v2", "v3")
        self.cluster.result_of(put(self.cluster.blobs, b"source"))
        manager = self.cluster.manager
        self.secrets = {}
        for role in ROLES:
            secret, token = manager.tokens.make(role, f"a-{role}", None)
            manager.tokens.add([token])
            self.secrets[role] = secret
        self.cluster.submit(machines=1)
        self.cluster.submit_with_clients(machines=1, clients=1)
        self.secrets["session"] = manager.fleet.members["v1"].session
        access = Access(manager)
        clock: Any = self.cluster.clock
        self._site = make_site(clock, Api(clock, manager, access), access, self.cluster.blobs)
        self._site.doStart()
        self.count = 0

    def ask(self, data: bytes) -> tuple[bytes, list[dict[str, Any]]]:
        """What is answered to these bytes, and what is logged."""
        self.count += 1
        self.cluster.clock.advance(7)  # failed logins are limited by time
        address = IPv4Address("TCP", "10.0.0.9", 1)
        with watched() as heard:
            channel = self._site.buildProtocol(address)
            transport = StringTransport(peerAddress=address)
            channel.makeConnection(transport)
            channel.dataReceived(data)
            self.cluster.settle(10)
            producer = transport.producer
            for _ in range(20):
                if producer is None or not transport.streaming:
                    break
                self.cluster.settle(1)
            answer = transport.value()
            channel.connectionLost(Failure(ConnectionDone()))
            self.cluster.settle(5)
        return answer, heard

    def close(self) -> None:
        """End it."""
        self._site.doStop()
        for call in self.cluster.clock.getDelayedCalls():
            if "timeout" in repr(call).lower() or "http" in repr(call).lower():
                call.cancel()
        self.cluster.close()
        self._directory.cleanup()


#: What may be answered.
STATUSES = {
    *(100, 200, 201, 206, 301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414),
    *(416, 417, 422, 429, 431, 501, 503, 505, 507),
}


def judge(asked: Asked, answer: bytes, heard: list[dict[str, Any]]) -> str:
    """What came of a request, in short.

    :raises AssertionError: something that must not.
    """
    for event in heard:
        text = str(event.get("log_format") or event.get("format") or "")
        bad = event.get("log_failure") or event.get("isError") or "incident" in text
        assert not bad, f"it was logged: {event}"
    assert b"Traceback" not in answer, answer[:2000]
    if not answer:
        return "nothing"
    if answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
        answer = answer.partition(b"\r\n\r\n")[2]
        if not answer:
            return "100"
    response = http.client.HTTPResponse(_Said(answer), method=asked.method)  # type: ignore[arg-type]
    response.begin()
    status = response.status
    assert status in STATUSES, (status, answer[:1000])
    good = asked.who in (*ROLES, "session")
    if status in (200, 201, 206) and not good:
        assert asked.path.startswith("/v1/version"), f"{asked.who!r} was let in: {answer[:500]!r}"
    is_json = response.headers.get("Content-Type") == "application/json"
    if status >= 400 and is_json and asked.method != "HEAD":
        told = json.loads(response.read())["error"]
        assert set(told) == {"code", "message", "details"}
        assert isinstance(told["message"], str)
        return f"{status} {told['code']}"
    return str(status)


class _Said:
    """Bytes as the socket that they came from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)


def main() -> int:
    """Fuzz until the time is over; the exit code tells whether anything was found."""
    options = begin(__doc__)
    until = time.monotonic() + 60 * options.minutes
    outcomes: Counter[str] = Counter()
    seen: dict[str, Asked] = {}
    findings: list[str] = []
    total = batch = 0
    while time.monotonic() < until and len(findings) < 20:
        batch += 1
        world = World()

        def once(asked: Asked, world: World = world) -> None:
            answer, heard = world.ask(asked.encoded(world.secrets))
            outcome = judge(asked, answer, heard)
            outcomes[outcome] += 1
            parts = asked.path.partition("?")[0].split("/")
            route = "/".join(part for part in parts if part in NAMES)
            if len(asked.body) + len(asked.path) < 2000:
                seen.setdefault(f"{asked.method} {route} {outcome}", asked)

        try:
            _drive(once, options.seed * 1_000_000 + batch)
            answer, _ = world.ask(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in answer, "it does not answer any more"
        except (Exception, FlakyFailure) as error:  # noqa: BLE001  (each of them is a finding)
            findings.append(
                f"{options.seed}/{batch}: " + "".join(traceback.format_exception(error))
            )
            print(findings[-1][:6000], file=sys.stderr, flush=True)
        total += world.count
        try:
            world.close()
        except Exception as error:  # noqa: BLE001  (whatever was left: a finding)
            findings.append(f"{options.seed}/{batch}: left behind: {error!r}")
            print(findings[-1][:3000], file=sys.stderr, flush=True)
    if options.keep:
        CORPUS.parent.mkdir(exist_ok=True)
        lines = [
            json.dumps({"outcome": outcome, **_stored(asked)}) for outcome, asked in seen.items()
        ]
        CORPUS.write_text("\n".join(sorted(lines)) + "\n", "ascii")
    print(f"{total} requests, {len(seen)} kinds of outcome, {len(findings)} findings")
    print(dict(outcomes.most_common()))
    return bool(findings)


def _drive(once: Callable[[Asked], None], number: int) -> None:
    """Have hypothesis make up requests."""

    @seed(number)
    @settings(
        max_examples=FRESH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(requests())
    def driven(asked: Asked) -> None:
        once(asked)

    driven()


def _stored(asked: Asked) -> dict[str, Any]:
    return {**attrs.asdict(asked), "body": asked.body.hex()}


def load() -> list[Asked]:
    """The corpus."""
    found = []
    lines = CORPUS.read_text("ascii").splitlines() if CORPUS.exists() else []
    for line in lines:
        told = json.loads(line)
        headers = tuple((name, value) for name, value in told["headers"])
        body = bytes.fromhex(told["body"])
        found.append(Asked(told["method"], told["path"], told["who"], body, headers))
    return found


if __name__ == "__main__":
    sys.exit(main())
