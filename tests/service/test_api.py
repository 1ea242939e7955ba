"""The JSON API over real HTTP, before a cluster that is real but for its sandboxes and disks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import pytest_twisted
import treq
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.exchange import BODY_CAP
from syndicate.api.site import make_site
from syndicate.domain.job import JobState
from syndicate.domain.log import Frame, encode
from syndicate.manager.history import Keep
from syndicate.manager.site import Site
from syndicate.manager.uploads import Room
from syndicate.plain import to_plain
from syndicate.sandbox.memory import MemoryRun
from syndicate.store.interface import Batch
from tests.support.cluster import Cluster, instead


@attrs.define(eq=False)
class Door:
    """Asks the API as somebody."""

    cluster: Cluster
    url: str
    agent: Agent
    secrets: dict[str, str]

    async def ask(
        self, method: str, path: str, who: str | None = "ann", **options: Any
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        answer = await self.open(method, path, who, **options)
        body = await answer.content()
        return answer.code, json.loads(body) if body else None

    async def open(self, method: str, path: str, who: str | None = "ann", **options: Any) -> Any:
        headers = options.pop("headers", {})
        if who is not None:
            headers = {**headers, "Authorization": f"Bearer {self.secrets.get(who, who)}"}
        return await treq.request(
            method, self.url + path, headers=headers, agent=self.agent, **options
        )

    async def upload(self, data: bytes, who: str = "ann") -> str:
        """Bring a blob there; gives its digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        code, _ = await self.ask("PUT", f"/v1/blobs/{sha256}", who, data=data)
        assert code == 201
        return sha256

    async def submit(self, who: str = "ann", **spec: Any) -> dict[str, Any]:
        """Queue a job."""
        data = b"source of %d" % len(self.cluster.manager.book.jobs)
        sha256 = await self.upload(data, who)
        body = {
            "submission": f"submission-{len(self.cluster.manager.book.jobs)}",
            "spec": {"name": "a job", "sha256": sha256, "size": len(data), **spec},
        }
        code, told = await self.ask("POST", "/v1/jobs", who, json=body)
        assert code == 201, told
        job: dict[str, Any] = told["job"]
        return job


def talking(run: MemoryRun) -> None:
    """Prints on both streams, leaves a file, and ends."""
    name = run.env["SYNDICATE_MACHINE"]
    run.print(f"I am {name}\nhalf ".encode())
    run.print(b"\xff odd\n", 2)
    run.print(b"a line")
    run.disk["result.txt"] = name.encode()
    run.later(0.5, lambda: run.exit(0))


def forever(run: MemoryRun) -> None:
    """Runs until it is killed."""
    run.print(b"I run\n")


@pytest_twisted.async_yield_fixture
async def make_door(make_cluster: Callable[..., Cluster]) -> AsyncIterator[Callable[..., Door]]:
    """Opens a door to a new cluster, whose clock goes on by itself."""
    reactor = _reactor()
    closing: list[Callable[[], Any]] = []

    def make(volunteers: int = 3, behaviour: Any = talking, **values: Any) -> Door:
        cluster = make_cluster(volunteers, behaviour, **values)
        manager = cluster.manager
        access = Access(manager)
        api = Api(reactor, manager, access)
        port = reactor.listenTCP(
            0, make_site(reactor, api, access, cluster.blobs), interface="127.0.0.1"
        )
        clock = LoopingCall(cluster.clock.advance, 0.05)
        clock.start(0.001, now=False)
        pool = HTTPConnectionPool(reactor, persistent=False)
        closing.extend((clock.stop, port.stopListening))
        secrets = {}
        for name, role in (("ann", "user"), ("bob", "user"), ("boss", "staff"), ("v", "volunteer")):
            secret, token = manager.tokens.make(role, name, None)
            manager.tokens.add([token])
            secrets[name] = secret
        url = f"http://127.0.0.1:{port.getHost().port}"
        return Door(cluster, url, Agent(reactor, pool=pool), secrets)

    yield make
    for close in closing:
        await _maybe(close())
    # Connections that were just closed are noticed in the next turn.
    await _pause(reactor)


async def _maybe(closing: Any) -> None:
    if isinstance(closing, Deferred):
        await closing


def _pause(reactor: Any) -> Deferred[None]:
    pause: Deferred[None] = Deferred()
    reactor.callLater(0.05, pause.callback, None)
    return pause


Make = Callable[..., Door]


@pytest_twisted.ensureDeferred
async def test_a_job_is_followed_from_submission_to_its_files(make_door: Make) -> None:
    door = make_door()
    job = await door.submit(machines=2, outputs=["*.txt"])
    assert (job["job"], job["user"], job["state"]) == (1, "ann", "queued")
    code, told = await door.ask("GET", "/v1/jobs/1/wait?until=finished&timeout=20")
    assert (code, told["reached"], told["job"]["outcome"]) == (200, True, "passed")
    machines = told["job"]["machines"]
    assert [machine["exit_code"] for machine in machines] == [0, 0]
    code, told = await door.ask("GET", "/v1/jobs/1/files")
    paths = [file["path"] for file in told["files"]]
    assert "attempt-1/slave[0].out" in paths
    assert "attempt-1/slave[0]/outputs.tar" in paths
    answer = await door.open("GET", "/v1/jobs/1/files/attempt-1/slave[0].err")
    assert await answer.content() == b"\xff odd\n"
    code, told = await door.ask("GET", "/v1/jobs/1/files/attempt-1/nobody.out")
    assert (code, told["error"]["code"]) == (404, "not_found")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("clients", [0, 1])
async def test_what_was_not_kept_is_told_of_each_machine(make_door: Make, clients: int) -> None:
    door = make_door(5)
    spec: dict[str, Any] = {"machines": 2, "outputs": ["*.txt", "result.json"], "clients": clients}
    if clients:
        spec["client_sha256"] = await door.upload(b"a client", "ann")
        spec["client_size"] = len(b"a client")
    await door.submit(**spec)
    _, told = await door.ask("GET", "/v1/jobs/1/wait?until=finished&timeout=20")
    for machine in told["job"]["machines"]:
        assert machine["outputs"] is not None
        assert machine["left_out"] == ["no file matches result.json"]
    _, told = await door.ask("GET", "/v1/jobs/1/events")
    kinds = {e["kind"] for e in told["events"] if e.get("left_out")}
    assert kinds == {"machine-released" if clients else "machine-exited"}


@pytest_twisted.ensureDeferred
async def test_jobs_in_the_archive_answer_like_others(make_door: Make) -> None:
    door = make_door(site=Site(keep=Keep(0, 60.0)))
    for _ in range(3):
        await door.submit(machines=1, outputs=["*.txt"])
        number = len(door.cluster.manager.book.jobs)
        await door.ask("GET", f"/v1/jobs/{number}/wait?timeout=20")
    _, before = await door.ask("GET", "/v1/jobs?all=1")
    door.cluster.clock.advance(120)
    _, status = await door.ask("GET", "/v1/status")
    assert status["jobs"] == {"finished": 3}
    assert not door.cluster.manager.book.jobs
    assert (await door.ask("GET", "/v1/jobs?all=1")) == (200, before)
    assert before["jobs"][1] == (await door.ask("GET", "/v1/jobs/2"))[1]["job"]
    assert before["jobs"][2] == (await door.ask("GET", "/v1/jobs/latest"))[1]["job"]

    async def numbers(query: str) -> list[int]:
        return [job["job"] for job in (await door.ask("GET", f"/v1/jobs?{query}"))[1]["jobs"]]

    assert await numbers("") == []
    assert await numbers("all=1&limit=2") == [2, 3]
    assert await numbers("all=1&limit=2&below=2") == [1]
    assert await numbers("state=finished&user=ann") == [1, 2, 3]
    assert await numbers("state=finished&user=bob") == []
    assert await numbers("state=running") == []
    assert (await door.ask("GET", "/v1/jobs/1/wait?timeout=20"))[1]["reached"] is True
    for path in ("events", "faults", "files"):
        code, told = await door.ask("GET", f"/v1/jobs/1/{path}")
        assert code == 200, told
    answer = await door.open("GET", "/v1/jobs/1/logs?follow=1&machine=master")
    assert b"I am master" in await answer.content()
    answer = await door.open("GET", "/v1/jobs/1/files/attempt-1/master.out")
    assert b"I am master" in await answer.content()
    headers = {"Accept": "text/event-stream"}
    answer = await door.open("GET", "/v1/jobs/1/events", headers=headers)
    assert b"event: finished" in await answer.content()
    code, told = await door.ask("POST", "/v1/jobs/1/cancel")
    assert (code, told["error"]["code"]) == (409, "conflict")
    for path in ("", "/events", "/faults", "/logs", "/wait"):
        code, told = await door.ask("GET", f"/v1/jobs/77{path}")
        assert (code, told["error"]["code"]) == (404, "not_found")


@pytest_twisted.ensureDeferred
async def test_uploads_at_once_are_limited_for_each_user_and_neighbours_do_not_notice(
    make_door: Make,
) -> None:
    door = make_door(site=Site(room=Room(uploads=3, uploads_each=2)))
    reactor = _reactor()
    host = door.url.removeprefix("http://")

    async def begin(who: str, digit: str) -> Protocol:
        head = (
            f"PUT /v1/blobs/{digit * 64} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {door.secrets[who]}\r\nContent-Length: 1000\r\n\r\nbegun"
        )
        point = TCP4ClientEndpoint(reactor, "127.0.0.1", int(host.split(":")[1]))
        protocol: Protocol = await connectProtocol(point, Protocol())
        assert protocol.transport is not None
        protocol.transport.write(head.encode())
        while not door.cluster.blobs.held(digit * 64):
            await _pause(reactor)
        return protocol

    begun = [await begin("ann", digit) for digit in "ab"]
    code, told = await door.ask("PUT", f"/v1/blobs/{'c' * 64}", "ann", data=b"more")
    assert (code, told["error"]["code"]) == (429, "too_many")
    assert "ann" in told["error"]["message"]
    # Others send and submit as if nothing were.
    assert (await door.submit("bob", machines=1))["user"] == "bob"
    for protocol in begun:
        assert protocol.transport is not None
        protocol.transport.abortConnection()  # type: ignore[attr-defined]
    while door.cluster.manager.uploads._under_way:
        await _pause(reactor)
    await door.upload(b"now it may be sent", "ann")


@pytest_twisted.ensureDeferred
async def test_events_stream_until_the_job_is_finished(make_door: Make) -> None:
    door = make_door()
    await door.submit(machines=2)
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    answer = await door.open("GET", "/v1/jobs/1/events", headers=headers)
    records = (await answer.content()).decode().strip().split("\n\n")
    events = [json.loads(r.split("data: ")[1]) for r in records if "data: " in r]
    assert [event["n"] for event in events] == list(range(2, len(events) + 2))
    assert events[-1]["kind"] == "finished"
    _, told = await door.ask("GET", "/v1/jobs/1/events")
    assert told["events"][1:] == events


@pytest_twisted.ensureDeferred
async def test_logs_are_followed_as_lines_of_all_machines(make_door: Make) -> None:
    door = make_door()
    await door.submit(machines=2)
    answer = await door.open("GET", "/v1/jobs/1/logs?follow=1")
    lines = [json.loads(line) for line in (await answer.content()).splitlines() if line.strip()]
    told = {(line["machine"], line["stream"], line["line"]) for line in lines}
    assert told == {
        (machine, stream, text)
        for machine in ("master", "slave[0]")
        for stream, text in (
            ("out", f"I am {machine}"),
            ("out", "half a line"),
            ("err", "\ufffd odd"),
        )
    }
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


@pytest_twisted.ensureDeferred
async def test_logs_can_be_narrowed(make_door: Make) -> None:
    door = make_door()
    await door.submit(machines=2)
    await door.ask("GET", "/v1/jobs/1/wait?timeout=20")

    async def lines(query: str) -> list[str]:
        answer = await door.open("GET", f"/v1/jobs/1/logs?{query}")
        assert answer.code == 200
        return [json.loads(line)["line"] for line in (await answer.content()).splitlines()]

    assert await lines("machine=slave0&stream=out") == ["I am slave[0]", "half a line"]
    assert await lines("machine=master&tail=1") == ["half a line"]
    assert await lines("since=0") == []
    assert await lines("attempt=7") == []
    code, told = await door.ask("GET", "/v1/jobs/1/logs?machine=slave[7]")
    assert (code, told["error"]["code"]) == (404, "not_found")


@pytest_twisted.ensureDeferred
async def test_a_wait_that_is_over_says_that_it_was_not_reached(make_door: Make) -> None:
    door = make_door(0)
    await door.submit()
    code, told = await door.ask("GET", "/v1/jobs/latest/wait?timeout=0.05")
    assert (code, told["reached"]) == (200, False)
    assert "the cluster has 0 now" in told["job"]["reason"]
    assert told["job"]["position"] == 1


@pytest_twisted.ensureDeferred
async def test_lists_show_what_is_asked_for(make_door: Make) -> None:
    door = make_door(1, forever)
    await door.submit()
    await door.submit("bob")
    await door.ask("GET", "/v1/jobs/1/wait?until=running&timeout=20")

    async def numbers(query: str) -> list[int]:
        _, told = await door.ask("GET", f"/v1/jobs{query}")
        return [job["job"] for job in told["jobs"]]

    assert await numbers("") == [1, 2]
    assert await numbers("?state=queued") == [2]
    assert await numbers("?user=ann&all=1") == [1]
    assert await numbers("?limit=1") == [2]
    code, told = await door.ask("GET", "/v1/jobs?state=quued")
    assert (code, "quued" in told["error"]["message"]) == (400, True)
    _, told = await door.ask("GET", "/v1/volunteers")
    assert [(v["volunteer"], v["state"], v["job"]) for v in told["volunteers"]] == [
        ("v1", "busy", 1)
    ]
    _, told = await door.ask("GET", "/v1/status")
    assert told["jobs"] == {"running": 1, "queued": 1}
    assert told["you"] == {"user": "ann", "role": "user"}
    for number, who in ((1, "ann"), (2, "bob")):
        await door.ask("POST", f"/v1/jobs/{number}/cancel", who)


@pytest_twisted.ensureDeferred
async def test_jobs_are_asked_for_by_how_they_ended(make_door: Make) -> None:
    door = make_door()
    for _ in range(2):
        await door.submit()
        await door.ask("GET", "/v1/jobs/latest/wait?timeout=20")
    await door.submit(machines=9)
    await door.ask("POST", "/v1/jobs/3/cancel")

    async def numbers(state: str) -> list[int]:
        code, told = await door.ask("GET", f"/v1/jobs?state={state}")
        assert code == 200
        return [job["job"] for job in told["jobs"]]

    assert await numbers("passed") == [1, 2]
    assert await numbers("cancelled") == [3]
    assert await numbers("passed,cancelled") == [1, 2, 3]
    assert await numbers("timed-out") == []
    assert await numbers("running,cancelled") == [3]
    code, told = await door.ask("GET", "/v1/jobs/a%20job")
    assert code == 404
    assert "3 jobs are called 'a job'; give a number" in told["error"]["message"]
    await door.submit(name="only", machines=9)
    _, told = await door.ask("GET", "/v1/jobs/only")
    assert told["job"]["job"] == 4
    await door.ask("POST", "/v1/jobs/only/cancel")
    assert (await door.ask("GET", "/v1/jobs/onl"))[0] == 404
    code, told = await door.ask("GET", "/v1/jobs?state=cancled")
    assert code == 400
    assert "cancled" in told["error"]["message"]
    assert "cancelled" in told["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_the_size_of_a_log_is_told_while_it_grows(make_door: Make) -> None:
    door = make_door(behaviour=forever)
    await door.submit()
    await door.ask("GET", "/v1/jobs/1/wait?until=running&timeout=20")
    for _ in range(200):
        _, told = await door.ask("GET", "/v1/jobs/1")
        if told["job"]["machines"][0]["log_bytes"]:
            break
    assert told["job"]["state"] == "running"
    assert told["job"]["machines"][0]["log_bytes"] >= len("I run\n")
    await door.ask("POST", "/v1/jobs/1/cancel")
    await door.ask("GET", "/v1/jobs/1/wait?timeout=20")


@pytest_twisted.ensureDeferred
async def test_only_its_owner_cancels_a_job_and_only_once(make_door: Make) -> None:
    door = make_door(1, forever)
    await door.submit()
    code, told = await door.ask("POST", "/v1/jobs/1/cancel", "bob")
    assert (code, told["error"]["code"]) == (403, "forbidden")
    assert (await door.ask("POST", "/v1/jobs/1/cancel"))[0] == 200
    await door.ask("GET", "/v1/jobs/1/wait?timeout=20")
    code, told = await door.ask("POST", "/v1/jobs/1/cancel")
    assert (code, told["error"]["code"]) == (409, "conflict")


@pytest_twisted.ensureDeferred
async def test_who_has_no_good_token_is_told_so(make_door: Make) -> None:
    door = make_door(0)
    assert (await door.ask("GET", "/v1/version", None))[0] == 200
    for who, words in ((None, "needs a token"), ("wrong", "not known here")):
        code, told = await door.ask("GET", "/v1/jobs", who)
        assert (code, told["error"]["code"]) == (401, "unauthorized")
        assert words in told["error"]["message"]
    code, told = await door.ask("GET", "/v1/jobs", "v")
    assert (code, told["error"]["code"]) == (403, "forbidden")
    code, told = await door.ask("PUT", f"/v1/blobs/{'0' * 64}", None, data=b"x")
    assert (code, told["error"]["code"]) == (401, "unauthorized")


@pytest_twisted.ensureDeferred
async def test_a_token_is_good_until_it_expires(make_door: Make) -> None:
    door = make_door(0)
    asked = {"role": "user", "user": "eve", "expires_in": 60}
    assert (await door.ask("POST", "/v1/tokens", "ann", json=asked))[0] == 403
    code, made = await door.ask("POST", "/v1/tokens", "boss", json=asked)
    assert (code, made["user"]) == (201, "eve")
    # Its time is that of the cluster, which lives long before now and goes on fast.
    made_by, token = door.cluster.manager.tokens.make("user", "eve", 1.0)
    door.cluster.manager.tokens.add([token])
    code, told = await door.ask("GET", "/v1/jobs", made_by)
    assert (code, "has expired" in told["error"]["message"]) == (401, True)
    for wrong in (
        {**asked, "role": "king"},
        {**asked, "user": ""},
        {**asked, "user": "a/b"},
        {**asked, "expires_in": -1},
    ):
        assert (await door.ask("POST", "/v1/tokens", "boss", json=wrong))[0] == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1]", "no JSON object"),
        (b"[" * 5000, "no JSON"),
        (b'{"submission": "x"}', "token of its own"),
        (b'{"submission": "token-abc", "spec": {}}', "name: is missing"),
        (b'{"submission": "token-abc", "specs": {}}', "no key 'specs'"),
        (b'{"submission": "token-abc", "spec": {"machines": 0}}', "less than 1"),
        (b'{"submission": "token-abc", "no_wait": 1, "spec": {}}', "true or false"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_bad_submission_is_refused_with_what_is_wrong(
    make_door: Make, body: bytes, words: str
) -> None:
    door = make_door(0)
    code, told = await door.ask("POST", "/v1/jobs", data=body)
    assert code == 400
    assert words in told["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_a_body_over_the_cap_is_refused_while_it_comes(make_door: Make) -> None:
    door = make_door(0)
    code, told = await door.ask("POST", "/v1/jobs", data=b" " * (BODY_CAP + 1))
    assert (code, told["error"]["code"]) == (413, "too_large")


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_not_there_is_answered_in_json(make_door: Make) -> None:
    door = make_door(0)
    for method, path in (("GET", "/v2/jobs"), ("DELETE", "/v1/jobs"), ("GET", "/v1/jobs/abc")):
        code, told = await door.ask(method, path)
        assert code in (404, 405)
        assert told["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_a_dry_run_queues_nothing(make_door: Make) -> None:
    door = make_door(2)
    spec = {"name": "x", "sha256": "0" * 64, "size": 1, "machines": 3}
    body = {"submission": "token-dry", "spec": spec}
    code, told = await door.ask("POST", "/v1/jobs?dry_run=1", json=body)
    assert (code, told["matching"], told["enough"]) == (200, ["v1", "v2"], False)
    assert (await door.ask("GET", "/v1/jobs?all=1"))[1] == {"jobs": []}


@pytest_twisted.ensureDeferred
async def test_a_dry_run_counts_the_volunteers_of_clients(make_door: Make) -> None:
    door = make_door(3)
    spec = {"name": "x", "sha256": "0" * 64, "size": 1, "machines": 2}
    clients = {"clients": 2, "client_sha256": "1" * 64, "client_size": 1}
    for each, enough in ((spec, True), (spec | clients, False)):
        body = {"submission": "token-dry", "spec": each}
        code, told = await door.ask("POST", "/v1/jobs?dry_run=1", json=body)
        assert (code, told["enough"], told["reason"] == "") == (200, enough, enough), told


@pytest_twisted.ensureDeferred
async def test_a_volunteer_writes_only_the_logs_of_its_own_machine(make_door: Make) -> None:
    door = make_door(2, forever)
    await door.submit(machines=2)
    await door.ask("GET", "/v1/jobs/1/wait?until=running&timeout=20")
    session = door.cluster.hosts["v1"].session.token
    job = door.cluster.job(1)
    mine = next(m.name for m in job.machines if m.volunteer == "v1")
    other = next(m.name for m in job.machines if m.volunteer != "v1")
    data = encode(Frame(1.0, 1, b"forged\n"))
    code, told = await door.ask("PUT", f"/v1/logs/1/1/{other}?offset=0", session, data=data)
    assert (code, told["error"]["code"]) == (403, "forbidden")
    code, told = await door.ask("PUT", f"/v1/logs/1/2/{mine}?offset=0", session, data=data)
    assert code == 403
    code, told = await door.ask("PUT", f"/v1/logs/1/1/{mine}?offset=99999", session, data=data)
    assert (code, told["error"]["code"]) == (409, "conflict")
    assert isinstance(told["error"]["details"]["length"], int)
    for who in ("ann", "v", "wrong"):
        code, _ = await door.ask("PUT", f"/v1/logs/1/1/{mine}?offset=0", who, data=data)
        assert code == 401
    await door.ask("POST", "/v1/jobs/1/cancel")
    await door.ask("GET", "/v1/jobs/1/wait?timeout=20")


@pytest_twisted.ensureDeferred
async def test_a_reader_that_goes_away_leaves_nothing(make_door: Make) -> None:
    door = make_door(1, forever)
    await door.submit()
    await door.ask("GET", "/v1/jobs/1/wait?until=running&timeout=20")
    answer = await door.open("GET", "/v1/jobs/1/logs?follow=1")
    feed = door.cluster.manager.feed
    assert feed._subscribers
    answer.original.deliverBody(_Leaving())
    await _pause(_reactor())
    assert not feed._subscribers
    await door.ask("POST", "/v1/jobs/1/cancel")
    await door.ask("GET", "/v1/jobs/1/wait?timeout=20")


class _Leaving(Protocol):
    """Breaks the connection with the first bytes of the body."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@pytest.mark.parametrize("asked", ["submit", "cancel"])
@pytest_twisted.ensureDeferred
async def test_what_was_asked_for_is_done_once_though_the_client_went_away(
    make_door: Make, asked: str
) -> None:
    door = make_door(1, forever)
    manager = door.cluster.manager
    await door.submit()
    await door.ask("GET", "/v1/jobs/1/wait?until=running&timeout=20")
    spec = to_plain(door.cluster.job(1).spec)
    body = {key: spec[key] for key in ("name", "sha256", "size")}
    path, sent = {
        "submit": ("/v1/jobs", {"submission": "sent-twice", "spec": body}),
        "cancel": ("/v1/jobs/1/cancel", {}),
    }[asked]
    store, held = manager._journal._store, Deferred[None]()
    commits: list[Batch] = []

    async def late(batch: Batch, term: int) -> int:
        commits.append(batch)
        if not held.called:
            await held
        position: int = await store.commit(batch, term)
        return position

    manager._journal._store = instead(
        store, commit=lambda batch, term: Deferred.fromCoroutine(late(batch, term))
    )
    asking = Deferred.fromCoroutine(door.ask("POST", path, json=sent))
    while not commits:
        await _pause(_reactor())
    asking.addErrback(lambda failure: failure.trap(CancelledError, ResponseNeverReceived))
    asking.cancel()
    await _pause(_reactor())
    held.callback(None)
    await _pause(_reactor())
    if asked == "submit":
        code, told = await door.ask("POST", path, json=sent)
        assert (code, told["job"]["job"]) == (200, 2)
        assert len(manager.book.jobs) == 2
    else:
        _, told = await door.ask("GET", "/v1/jobs/1/wait?until=finished&timeout=20")
        assert told["job"]["outcome"] == "cancelled"


@pytest_twisted.ensureDeferred
async def test_nobody_is_told_of_what_is_not_stored_yet(make_door: Make) -> None:
    door = make_door(1, forever)
    manager = door.cluster.manager
    await door.submit()
    await door.ask("GET", "/v1/jobs/1/wait?until=running&timeout=20")
    store, held = manager._journal._store, Deferred[int]()
    batches: list[Batch] = []

    def hold(batch: Batch, term: int) -> Deferred[int]:
        batches.append(batch)
        return held

    manager._journal._store = instead(store, commit=hold)
    asking = Deferred.fromCoroutine(door.ask("POST", "/v1/jobs/1/cancel", json={}))
    while not batches:
        await _pause(_reactor())
    assert door.cluster.job(1).state is JobState.FINISHING
    _, told = await door.ask("GET", "/v1/jobs/1")
    _, listed = await door.ask("GET", "/v1/jobs")
    assert told["job"] == listed["jobs"][0]
    _, status = await door.ask("GET", "/v1/status")
    assert status["jobs"] == {"running": 1}
    _, events = await door.ask("GET", "/v1/jobs/1/events")
    assert (told["job"]["state"], told["job"]["events"]) == ("running", len(events["events"]))
    manager._journal._store = store
    store.commit(batches[0], manager._journal._term.number).chainDeferred(held)
    await asking
    _, told = await door.ask("GET", "/v1/jobs/1/wait?until=finished&timeout=20")
    assert told["job"]["outcome"] == "cancelled"
    assert not manager.book._stored
