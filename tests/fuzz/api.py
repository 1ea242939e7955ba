"""Fuzzes the JSON API with requests that hypothesis makes up, in process, as bytes of HTTP.

``python -m tests.fuzz.api --minutes 15 --seed 1``: the real site with the real manager behind it,
on disks in memory. A finding, which is made as small as it can be, is: an exception that escapes,
a failure in the log, a status of 500, a traceback in an answer, an error that is not the JSON it
should be, somebody who is let in without a good token, or a manager that does not answer
afterwards.
"""

from __future__ import annotations

import http.client
import json
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
from hypothesis.errors import FlakyFailure
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.site import make_site
from syndicate.sandbox.memory import MemoryRun
from tests.fuzz import campaign
from tests.fuzz.options import begin
from tests.fuzz.pb import watched
from tests.fuzz.requests import NAMES, ROLES, Asked, requests
from tests.support.cluster import Cluster, put

CORPUS = Path(__file__).parent / "corpus" / "api.jsonl"

#: Requests after which the manager is made anew.
FRESH = 400


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

    def ask(self, *data: bytes) -> tuple[bytes, list[dict[str, Any]]]:
        """What is answered to these bytes, which come one after the other, and what is logged."""
        self.count += 1
        self.cluster.clock.advance(7)  # failed logins are limited by time
        address = IPv4Address("TCP", "10.0.0.9", 1)
        with watched() as heard:
            channel = self._site.buildProtocol(address)
            transport = StringTransport(peerAddress=address)
            channel.makeConnection(transport)
            for each in data:
                channel.dataReceived(each)
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
    if options.daemon:
        from tests.fuzz import api_daemon

        return campaign.on_manager(options, api_daemon.batch, api_daemon.connect, "api_port")
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
