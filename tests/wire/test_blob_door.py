"""The manager's side of blobs over HTTPS, as any client finds it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from syndicate.blobs.files import FileBlobStore
from syndicate.blobs.memory import MemoryBlobStore, MemoryLogStore
from syndicate.blobs.serve import let_in
from syndicate.blobs.streaming import PATIENCE, StreamingChannel
from syndicate.credentials.authority import ensure_authority
from syndicate.domain.errors import StorageFull
from tests.support.doors import Door
from tests.support.sandboxes import the_reactor

ensure = pytest_twisted.ensureDeferred

T = TypeVar("T")

LIMIT = 256 << 20
DATA = os.urandom(600_000)
NAME = hashlib.sha256(DATA).hexdigest()
PATH = f"/v1/blobs/{NAME}"


@attrs.define
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)["error"]
        return told


@attrs.define(eq=False)
class Client:
    """Blocking connections to a door; to be used in threads."""

    door: Door
    opened: list[Any] = attrs.field(factory=list)

    def connect(self) -> ssl.SSLSocket:
        """A connection to write and read bytes on."""
        context = ssl.create_default_context(cafile=str(self.door.authority.ca_file))
        raw = socket.create_connection(("127.0.0.1", self.door.port), timeout=10)
        sock = context.wrap_socket(raw, server_hostname="syndicate-manager")
        self.opened.append(sock)
        return sock

    def say(
        self, sock: Any, method: str, body: bytes = b"", path: str = PATH, **headers: Any
    ) -> None:
        """Send a request; headers with underscores, ``None`` leaves one out."""
        told = {"Authorization": "Bearer good", "Content_Length": len(body), **headers}
        lines = [f"{k.replace('_', '-')}: {v}" for k, v in told.items() if v is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: manager", *lines, "", ""])
        sock.sendall(head.encode() + body)

    def hear(self, sock: Any, method: str) -> Answer:
        """Read an answer."""
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read())

    def ask(self, method: str, body: bytes = b"", **headers: Any) -> Answer:
        """One request on a connection of its own."""
        sock = self.connect()
        self.say(sock, method, body, **headers)
        return self.hear(sock, method)

    def close(self) -> None:
        for each in self.opened:
            each.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    reactor = the_reactor()
    authority = ensure_authority(tmp_path / "authority", [])
    door = Door(
        reactor, authority, FileBlobStore(tmp_path / "blobs", LIMIT, reactor), MemoryLogStore()
    )
    yield door
    pytest_twisted.blockon(Deferred.fromCoroutine(door.close()))


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    client = Client(door)
    yield client
    client.close()


async def put(door: Door, data: bytes = DATA) -> None:
    writer = door.blobs.write(hashlib.sha256(data).hexdigest(), len(data))
    writer.write(data)
    await writer.finish()


def leave(door: Door, beginning: bytes) -> None:
    writer = door.blobs.write(NAME, len(DATA))
    writer.write(beginning)
    writer.abandon()


def apart(function: Callable[..., T], *arguments: Any, **values: Any) -> Deferred[T]:
    return deferToThread(function, *arguments, **values)


async def until(condition: Callable[[], bool]) -> None:
    """Wait; the test's deadline is what ends it otherwise."""
    while not condition():
        await deferLater(the_reactor(), 0.01, lambda: None)


# GET and HEAD.


@ensure
async def test_a_blob_is_sent_whole(door: Door, client: Client) -> None:
    await put(door)
    answer = await apart(client.ask, "GET")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("start", [0, 1, 131_072, len(DATA) - 1])
@ensure
async def test_a_blob_is_sent_from_a_place_on(door: Door, client: Client, start: int) -> None:
    await put(door)
    answer = await apart(client.ask, "GET", Range=f"bytes={start}-")
    assert (answer.status, answer.body) == (206, DATA[start:])
    assert answer.headers["Content-Range"] == f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"


@ensure
async def test_nothing_is_sent_from_behind_the_end(door: Door, client: Client) -> None:
    await put(door)
    answer = await apart(client.ask, "GET", Range=f"bytes={len(DATA)}-")
    assert answer.status == 400
    assert answer.error["code"] == "invalid"


@pytest.mark.parametrize("odd", ["bytes=1-2", "bytes=-5", "bytes=1-,7-", "lines=1-", "bytes=x-"])
@ensure
async def test_ranges_of_other_kinds_are_passed_over(door: Door, client: Client, odd: str) -> None:
    await put(door)
    answer = await apart(client.ask, "GET", Range=odd)
    assert (answer.status, answer.body) == (200, DATA)


@ensure
async def test_head_tells_how_much_there_is(door: Door, client: Client) -> None:
    answer = await apart(client.ask, "HEAD")
    assert (answer.status, answer.headers["X-Syndicate-Held"]) == (404, "0")
    leave(door, DATA[:1000])
    answer = await apart(client.ask, "HEAD")
    assert (answer.status, answer.headers["X-Syndicate-Held"]) == (404, "1000")
    await put_rest(door)
    answer = await apart(client.ask, "HEAD")
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(DATA)))
    assert answer.body == b""


async def put_rest(door: Door) -> None:
    writer = door.blobs.write(NAME, len(DATA))
    writer.write(DATA[writer.offset :])
    await writer.finish()


@ensure
async def test_an_empty_blob_is_sent(door: Door, client: Client) -> None:
    await put(door, b"")
    path = f"/v1/blobs/{hashlib.sha256(b'').hexdigest()}"
    answer = await apart(client.ask, "GET", path=path)
    assert (answer.status, answer.body) == (200, b"")


@ensure
async def test_any_store_can_be_served(door: Door, client: Client) -> None:
    door.blobs = MemoryBlobStore()
    assert (await apart(client.ask, "PUT", DATA)).status == 201
    assert (await apart(client.ask, "GET", Range="bytes=7-")).body == DATA[7:]


class _Watched(io.BytesIO):
    """Counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


class _WatchedStore(MemoryBlobStore):
    """Keeps the file that was opened last."""

    def open(self, sha256: str) -> Any:
        self.watched = _Watched(super().open(sha256).read())
        return self.watched


@ensure
async def test_no_more_is_read_than_a_slow_reader_takes(door: Door, client: Client) -> None:
    store = door.blobs = _WatchedStore()
    data = bytes(64 << 20)
    name = store.put(data)

    def ask() -> Any:
        sock = client.connect()
        client.say(sock, "GET", path=f"/v1/blobs/{name}")
        sock.recv(1)
        return sock

    sock = await apart(ask)
    await deferLater(the_reactor(), 0.3, lambda: None)
    paused_at = store.watched.count
    assert paused_at < len(data) / 2
    await deferLater(the_reactor(), 0.3, lambda: None)
    assert store.watched.count == paused_at
    assert not store.watched.closed
    # A reader who goes away is noticed, and the file let go of.
    sock.close()
    await until(lambda: store.watched.closed)


# PUT.


@ensure
async def test_a_blob_is_taken_without_any_headers_of_ours(door: Door, client: Client) -> None:
    answer = await apart(client.ask, "PUT", DATA)
    assert answer.status == 201
    assert door.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_a_body_is_written_as_it_comes(door: Door, client: Client) -> None:
    sock = await apart(client.connect)
    await apart(client.say, sock, "PUT", DATA[:1000], Content_Length=len(DATA))
    await until(lambda: door.blobs.held(NAME) == 1000)
    await apart(sock.sendall, DATA[1000:])
    assert (await apart(client.hear, sock, "PUT")).status == 201


@ensure
async def test_a_broken_upload_leaves_what_came(door: Door, client: Client) -> None:
    sock = await apart(client.connect)
    await apart(client.say, sock, "PUT", DATA[:1000], Content_Length=len(DATA))
    await until(lambda: door.blobs.held(NAME) == 1000)
    assert (await apart(client.ask, "PUT", DATA)).error["code"] == "conflict"
    sock.close()
    rest = {"X_Syndicate_Offset": 1000, "X_Syndicate_Size": len(DATA)}

    async def go_on() -> int:
        return (await apart(client.ask, "PUT", DATA[1000:], **rest)).status

    # The manager may not know yet that the other one is gone.
    while (status := await go_on()) == 409:
        pass
    assert status == 201
    assert door.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_what_is_held_already_of_a_body_is_passed_over(door: Door, client: Client) -> None:
    leave(door, DATA[:100_000])
    assert (await apart(client.ask, "PUT", DATA)).status == 201
    assert door.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_a_body_that_begins_too_late_is_refused(door: Door, client: Client) -> None:
    leave(door, DATA[:1000])
    late = {"X_Syndicate_Offset": 2000, "X_Syndicate_Size": len(DATA)}
    answer = await apart(client.ask, "PUT", DATA[2000:], **late)
    assert answer.status == 409
    assert answer.error["details"] == {"held": 1000}
    assert door.blobs.held(NAME) == 1000


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Syndicate_Size": len(DATA) + 1},
        {"X_Syndicate_Offset": 1},
        {"X_Syndicate_Offset": "x"},
        {"X_Syndicate_Offset": -1},
        {"X_Syndicate_Size": "1e9"},
        {"X_Syndicate_Offset": 10, "X_Syndicate_Size": 5},
    ],
    ids=str,
)
@ensure
async def test_sizes_that_contradict_each_other_are_refused(
    door: Door, client: Client, headers: dict[str, Any]
) -> None:
    answer = await apart(client.ask, "PUT", DATA, **headers)
    assert answer.status == 400
    assert door.blobs.held(NAME) == 0


@ensure
async def test_other_bytes_are_refused(door: Door, client: Client) -> None:
    answer = await apart(client.ask, "PUT", bytes(len(DATA)))
    assert answer.error["code"] == "invalid"
    assert door.blobs.held(NAME) == 0


@ensure
async def test_a_blob_that_is_there_is_not_changed(door: Door, client: Client) -> None:
    await put(door)
    answer = await apart(client.ask, "PUT", bytes(len(DATA)))
    assert answer.status == 201
    assert door.blobs.path(NAME).read_bytes() == DATA


def _in_chunks(data: bytes) -> bytes:
    pieces = [data[start : start + 50_000] for start in range(0, len(data), 50_000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in [*pieces, b""])


@ensure
async def test_a_body_in_chunks_needs_its_size_told(door: Door, client: Client) -> None:
    chunked = {"Content_Length": None, "Transfer_Encoding": "chunked"}
    body = _in_chunks(DATA)
    assert (await apart(client.ask, "PUT", body, **chunked)).status == 400
    sized = await apart(client.ask, "PUT", body, X_Syndicate_Size=len(DATA), **chunked)
    assert sized.status == 201
    assert door.blobs.path(NAME).read_bytes() == DATA


@ensure
async def test_chunks_beyond_the_size_told_are_refused(door: Door, client: Client) -> None:
    chunked = {"Content_Length": None, "Transfer_Encoding": "chunked"}
    answer = await apart(client.ask, "PUT", _in_chunks(DATA), X_Syndicate_Size=70_000, **chunked)
    assert answer.error["code"] == "too_large"
    assert answer.headers["Connection"] == "close"


# Refusals before the body.


@ensure
async def test_a_refused_body_need_not_be_sent(door: Door, client: Client) -> None:
    def ask() -> tuple[Answer, bytes]:
        sock = client.connect()
        client.say(sock, "PUT", Content_Length=1 << 30, Authorization="Bearer bad")
        return client.hear(sock, "PUT"), sock.recv(1)

    answer, after = await apart(ask)
    assert answer.status == 401
    assert after == b""
    assert door.blobs.held(NAME) == 0


@ensure
async def test_who_sends_all_of_a_refused_body_still_hears_why(door: Door, client: Client) -> None:
    body = bytes(32 << 20)
    answer = await apart(client.ask, "PUT", body, Authorization="Bearer bad")
    assert answer.status == 401
    assert answer.error["code"] == "unauthorized"


@ensure
async def test_who_goes_on_and_on_is_cut_off(door: Door, client: Client) -> None:
    def ask() -> None:
        sock = client.connect()
        client.say(sock, "PUT", Content_Length=1 << 40, Authorization="Bearer bad")
        for _ in range(4 * PATIENCE >> 20):
            sock.sendall(bytes(1 << 20))

    with pytest.raises(OSError, match=r"reset|[Bb]roken|EOF"):
        await apart(ask)


@ensure
async def test_nothing_after_a_refused_body_is_taken_for_a_request(
    door: Door, client: Client
) -> None:
    await put(door)

    def ask() -> tuple[Answer, bytes]:
        sock = client.connect()
        client.say(sock, "PUT", b"x" * 100, Authorization="Bearer bad")
        client.say(sock, "GET")
        return client.hear(sock, "PUT"), sock.recv(100)

    answer, after = await apart(ask)
    assert (answer.status, after) == (401, b"")
    assert [method for method, _, _ in door.requests] == ["PUT"]


HALF = f"GET {PATH} HTTP/1.1\r\nHost: manager\r\nAuthorization: Bearer good\r\n".encode()


def drip(sock: Any, pause: float) -> None:
    """Send one more header now and then, until there is an answer or an end."""
    sock.sendall(HALF)
    sock.settimeout(pause)
    while True:
        try:
            sock.sendall(b"X-More: and more\r\n")
        except OSError:
            break
        if select.select([sock], [], [], pause)[0]:
            break
    sock.settimeout(10)


def broken_off(sock: Any) -> bool:
    """Whether the other end closes the connection below TLS, though this one does not."""
    with socket.socket(fileno=os.dup(sock.fileno())) as raw:
        raw.settimeout(10)
        try:
            while raw.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
    return True


@ensure
async def test_half_a_head_does_not_keep_a_connection_open(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamingChannel, "head_time", 0.5)
    monkeypatch.setattr(StreamingChannel, "abortTimeout", 0.2)
    sock = await apart(client.connect)
    await apart(drip, sock, 0.05)
    answer = await apart(client.hear, sock, "GET")
    assert (answer.status, answer.headers["Connection"]) == (408, "close")
    assert await apart(broken_off, sock)


@ensure
async def test_each_head_has_its_own_time(
    door: Door, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(door)
    monkeypatch.setattr(StreamingChannel, "head_time", 1.0)
    sock = await apart(client.connect)
    for _ in range(3):
        await apart(sock.sendall, HALF)
        await deferLater(the_reactor(), 0.5, lambda: None)
        await apart(sock.sendall, b"\r\n")
        assert (await apart(client.hear, sock, "GET")).body == DATA
    # Nor does it end what is answered, or wait for, after its head has come.
    await deferLater(the_reactor(), 1.2, lambda: None)
    await apart(client.say, sock, "GET")
    assert (await apart(client.hear, sock, "GET")).status == 200


@pytest.mark.parametrize(
    "head",
    [
        HALF + b"X-Long: " + b"x" * 70_000,
        HALF + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n",
        HALF + b"X-Many: %s\r\n" % (b"y" * 100) * 300 + b"\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
@ensure
async def test_a_head_that_is_too_long_is_answered_and_the_connection_closed(
    client: Client, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(StreamingChannel, "abortTimeout", 0.2)
    sock = await apart(client.connect)
    await apart(sock.sendall, head)
    answer = await apart(client.hear, sock, "GET")
    assert (answer.status, answer.headers["Connection"]) == (431, "close")
    assert await apart(broken_off, sock)


@ensure
async def test_one_connection_serves_one_request_after_the_other(
    door: Door, client: Client
) -> None:
    def ask() -> list[int]:
        sock = client.connect()
        statuses = []
        for method, body in (
            ("HEAD", b""),
            ("PUT", DATA),
            ("GET", b""),
            ("PUT", DATA),
            ("GET", b""),
        ):
            client.say(sock, method, body)
            statuses.append(client.hear(sock, method).status)
        return statuses

    assert await apart(ask) == [404, 201, 200, 201, 200]
    assert door.connections == 1


# Uploads that have to wait for room.


class _Gate:
    """Lets nobody in before it is told to."""

    def __init__(self, door: Door) -> None:
        self.asked: list[int] = []
        self.cancelled = 0
        self.opened: Deferred[None] = Deferred(self._cancel)
        door.admit = self.admit

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    async def admit(self, size: int) -> None:
        self.asked.append(size)
        await self.opened


@pytest.mark.parametrize("size", [0, 10, len(DATA)])
@ensure
async def test_an_upload_that_has_to_wait_arrives_whole(
    door: Door, client: Client, size: int
) -> None:
    gate, data = _Gate(door), DATA[:size]
    name = hashlib.sha256(data).hexdigest()
    sent = apart(client.ask, "PUT", data, path=f"/v1/blobs/{name}")
    await until(lambda: gate.asked == [size])
    await deferLater(the_reactor(), 0.1, lambda: None)
    assert door.blobs.held(name) == 0
    gate.opened.callback(None)
    assert (await sent).status == 201
    with door.blobs.open(name) as file:
        assert file.read() == data


@ensure
async def test_no_more_is_read_of_an_upload_than_had_come_when_it_began_to_wait(
    door: Door, client: Client
) -> None:
    gate, data = _Gate(door), bytes(64 << 20)
    name = hashlib.sha256(data).hexdigest()

    def send_all() -> int:
        sock = client.connect()
        sock.settimeout(0.5)
        client.say(sock, "PUT", path=f"/v1/blobs/{name}", Content_Length=len(data))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                sent += sock.send(data[sent : sent + 65536])
        return sent

    stopped_at = await apart(send_all)
    assert gate.asked == [len(data)]
    # What fits into the buffers of two sockets.
    assert stopped_at < len(data) / 2
    client.close()
    # Nobody looks at a connection of which nothing is read; but what it waits for ends once.
    gate.opened.callback(None)
    store: Any = door.blobs
    await until(lambda: not store._in_hand)


@pytest.mark.parametrize("size", [10, len(DATA)])
@ensure
async def test_an_upload_that_waited_in_vain_is_told_so(
    door: Door, client: Client, size: int
) -> None:
    gate, data = _Gate(door), DATA[:size]
    name = hashlib.sha256(data).hexdigest()
    sent = apart(client.ask, "PUT", data, path=f"/v1/blobs/{name}")
    await until(lambda: gate.asked == [size])
    gate.opened.errback(StorageFull("There is no room."))
    answer = await sent
    assert (answer.status, answer.error["code"]) == (507, "storage_full")
    assert door.blobs.held(name) == 0
    # And others are served.
    door.admit = let_in
    assert (await apart(client.ask, "PUT", DATA)).status == 201
