"""A client's door as whoever stands before it finds it: its sockets, its HTTP, and its limits."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport

from syndicate.client.calls import FINISHES, MOST_CALLS, Calls
from syndicate.client.door import Door
from syndicate.client.gate import MOST_CONNECTIONS, TOLD, Gate
from syndicate.client.stream import HEARTBEAT, RETRY
from syndicate.client.web import BODY_CAP, PATIENCE, DoorSite
from syndicate.domain.errors import Revoked, SandboxFailed, TooMany, Unavailable, VolunteerLost
from syndicate.domain.job import BURST, Limits
from tests.support.handles import ScriptedHandle
from tests.support.sandboxes import the_reactor
from tests.support.ways import UnixConnection, apart

ensure = pytest_twisted.ensureDeferred

KILL = b'{"machine": "slave[0]"}'

#: For tests that are about something else than how often a client may ask.
FAST = Limits(calls=1e6, fault_calls=1e6)


@attrs.define(eq=False)
class Place:
    """A door and what stands behind it."""

    directory: Path
    handle: ScriptedHandle
    door: Door
    opened: list[Any] = attrs.field(factory=list)

    def connection(self) -> UnixConnection:
        """HTTP, to be used in threads."""
        made = UnixConnection(self.directory / "http")
        self.opened.append(made)
        return made

    def raw(self, name: str = "http") -> socket.socket:
        """A connection to write and read bytes on."""
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        made.connect(str(self.directory / name))
        self.opened.append(made)
        return made

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """One request on a connection of its own."""
        connection = self.connection()
        connection.request(method, path, body, headers or {})
        return answer_on(connection)


def answer_on(connection: UnixConnection) -> tuple[int, Any]:
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def read_all(sock: socket.socket) -> bytes:
    found = b""
    while piece := sock.recv(65536):
        found += piece
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait; the test's deadline is what ends it otherwise."""
    while not condition():
        await deferLater(the_reactor(), 0.01)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    directory = tmp_path / "door"
    directory.mkdir()
    handle = ScriptedHandle()
    door = Door(the_reactor(), directory, os.geteuid(), handle, FAST)
    place = Place(directory, handle, door)
    pytest_twisted.blockon(place.door.open())
    yield place
    pytest_twisted.blockon(place.door.close())
    for each in place.opened:
        each.close()


# Its sockets.


def modes(directory: Path) -> dict[str, tuple[bool, int, int]]:
    found = {path.name: path.lstat() for path in directory.iterdir()}
    return {
        name: (stat.S_ISSOCK(s.st_mode), stat.S_IMODE(s.st_mode), s.st_uid)
        for name, s in found.items()
    }


@ensure
async def test_the_sockets_are_for_their_owner_alone(place: Place) -> None:
    mine = (True, 0o600, os.geteuid())
    assert modes(place.directory) == {"http": mine, "pb": mine}


@pytest.mark.needs_root
@ensure
async def test_the_sockets_belong_to_the_clients_user(tmp_path: Path) -> None:
    door = Door(the_reactor(), tmp_path, 41234, ScriptedHandle())
    await door.open()
    assert modes(tmp_path) == {name: (True, 0o600, 41234) for name in ("http", "pb")}
    await door.close()


@ensure
async def test_no_umask_opens_them_to_others_nor_is_it_changed(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        door = Door(the_reactor(), tmp_path, os.geteuid(), ScriptedHandle())
        await door.open()
        assert {mode for _, mode, _ in modes(tmp_path).values()} == {0o600}
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    await door.close()


@ensure
async def test_what_a_crash_has_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "http"))
    (tmp_path / "pb").write_text("")
    door = Door(the_reactor(), tmp_path, os.geteuid(), ScriptedHandle())
    await door.open()
    assert modes(tmp_path)["pb"][0]
    await door.close()


@ensure
async def test_the_directory_may_have_a_longer_name_than_an_address_has_room_for(
    tmp_path: Path,
) -> None:
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    door = Door(the_reactor(), directory, os.geteuid(), ScriptedHandle())
    await door.open()
    short = tmp_path / "d"
    short.symlink_to(directory)
    connection = UnixConnection(short / "http")
    await apart(connection.request, "GET", "/v1/job")
    assert (await apart(answer_on, connection))[0] == 200
    connection.close()
    await door.close()


@ensure
async def test_a_door_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "pb").mkdir()
    door = Door(the_reactor(), tmp_path, os.geteuid(), ScriptedHandle())
    with pytest.raises(SandboxFailed):
        await door.open()
    assert not (tmp_path / "http").exists()


# Its HTTP.


@pytest.mark.deadline(60)
@ensure
async def test_a_connection_is_kept_for_ten_thousand_calls(place: Place) -> None:
    sock = place.raw()
    told = sock.makefile("rb")
    one = b"POST /v1/marks HTTP/1.1\r\nContent-Length: 13\r\n\r\n" + b'{"name": "x"}'

    def call_often() -> int:
        sock.sendall(one * 100)
        return sum(told.readline().count(b" 200 OK") for _ in range(100 * 5))

    for _ in range(100):
        assert await apart(call_often) == 100
    assert len(place.handle.marks) == 10_000
    told.close()


@ensure
async def test_requests_may_be_sent_before_the_answers_have_come(place: Place) -> None:
    sock = place.raw()
    one = b"POST /v1/faults/kill HTTP/1.1\r\nHost: d\r\nContent-Length: 23\r\n\r\n" + KILL
    last = one.replace(b"Host: d", b"Connection: close")
    await apart(sock.sendall, one * 20 + last)
    answered = await apart(read_all, sock)
    assert answered.count(b"HTTP/1.1 200 OK") == 21
    assert [fault["id"] for fault in place.handle.done] == [f"f{n}" for n in range(1, 22)]


@ensure
async def test_a_key_is_passed_on_and_makes_a_fault_the_same(place: Place) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = await apart(place.ask, "POST", "/v1/faults/kill", KILL, key)
    assert place.handle.calls[-1] == ("fault", "kill", {"machine": "slave[0]"}, "k-1")
    assert await apart(place.ask, "POST", "/v1/faults/kill", KILL, key) == first
    assert len(place.handle.done) == 1


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        ("/v1/marks", b'{"name": "x"}', "marks"),
        ("/v1/samples", b'{"t": 1, "op": "put", "ms": 2, "ok": true}\n', "kept"),
    ],
)
@ensure
async def test_what_comes_again_with_its_key_is_noted_once(
    place: Place, path: str, body: bytes, kept: str
) -> None:
    for _ in range(3):
        status, _ = await apart(place.ask, "POST", path, body, {"Idempotency-Key": "k"})
        assert status == 200
    assert len(getattr(place.handle, kept)) == 1
    await apart(place.ask, "POST", path, body, {"Idempotency-Key": "another"})
    await apart(place.ask, "POST", path, body)
    assert len(getattr(place.handle, kept)) == 3


@ensure
async def test_what_has_failed_is_tried_again_with_its_key(place: Place) -> None:
    place.handle.refusals["mark"] = [VolunteerLost("The link broke.")]
    key = {"Idempotency-Key": "k"}
    statuses = [
        (await apart(place.ask, "POST", "/v1/marks", b'{"name": "x"}', key))[0] for _ in range(2)
    ]
    assert statuses == [500, 200]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/", None, 404, "not_found"),
        ("GET", "/v1/jobs", None, 404, "not_found"),
        ("POST", "/v1/faults/melt", KILL, 404, "not_found"),
        ("POST", "/v1/faults/f1/melt", KILL, 404, "not_found"),
        ("POST", "/v1/job", b"", 405, "invalid"),
        ("GET", "/v1/finish", None, 405, "invalid"),
        ("DELETE", "/v1/faults", None, 405, "invalid"),
        ("POST", "/v1/faults/kill", b"{", 400, "invalid"),
        ("POST", "/v1/faults/kill", b"[1]", 400, "invalid"),
        ("POST", "/v1/faults/kill", b"\xff\xfe", 400, "invalid"),
        ("POST", "/v1/faults/kill", b"[" * 100_000, 400, "invalid"),
        ("POST", "/v1/faults/loss", b'{"percent": NaN}', 400, "invalid"),
        ("POST", "/v1/marks", b"{}", 400, "invalid"),
        ("POST", "/v1/marks", b'{"name": 3}', 400, "invalid"),
        ("POST", "/v1/samples", b'{"t": 1}', 400, "invalid"),
        ("GET", "/v1/events?after=-1", None, 400, "invalid"),
        ("GET", "/v1/events?after=" + "9" * 20, None, 400, "invalid"),
    ],
)
@ensure
async def test_what_cannot_be_answered_is_refused_and_the_connection_goes_on(
    place: Place, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    connection = place.connection()
    await apart(connection.request, method, path, body)
    got, value = await apart(answer_on, connection)
    assert (got, value["error"]["code"]) == (status, code)
    assert value["error"]["message"]
    kept = connection.sock
    await apart(connection.request, "GET", "/v1/job")
    assert (await apart(answer_on, connection))[0] == 200
    assert connection.sock is kept


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/job HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/heal HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/heal HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/heal HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/job HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        os.urandom(5000),
    ],
)
@ensure
async def test_what_is_no_http_ends_the_connection_and_nothing_else(
    place: Place, nonsense: bytes
) -> None:
    sock = place.raw()
    await apart(sock.sendall, nonsense)
    sock.shutdown(socket.SHUT_WR)
    await apart(read_all, sock)
    assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200
    assert [call[0] for call in place.handle.calls] == ["job"]


@ensure
async def test_a_body_may_come_in_chunks(place: Place) -> None:
    pieces = iter([b'{"machine"', b': "sla', b've[1]"}'])
    status, fault = await apart(place.ask, "POST", "/v1/faults/kill", pieces)
    assert (status, fault["machines"]) == (200, ["slave[1]"])


@pytest.mark.parametrize("in_chunks", [False, True])
@ensure
async def test_a_body_that_is_too_long_is_refused_and_not_kept(
    place: Place, in_chunks: bool
) -> None:
    connection = place.connection()
    piece = b" " * 65536
    body = iter([piece] * 17) if in_chunks else b" " * (BODY_CAP + 1)
    await apart(connection.request, "POST", "/v1/faults/kill", body)
    status, value = await apart(answer_on, connection)
    assert (status, value["error"]["code"]) == (413, "too_large")
    await apart(connection.request, "GET", "/v1/job")
    assert (await apart(answer_on, connection))[0] == 200


@ensure
async def test_a_body_without_end_ends_the_connection(place: Place) -> None:
    sock = place.raw()
    await apart(sock.sendall, b"POST /v1/samples HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")

    def pour() -> int:
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                sent += sock.send(b"x" * 65536)
        return sent

    assert await apart(pour) < 2 * (BODY_CAP + PATIENCE)


@ensure
async def test_a_client_that_goes_in_mid_call_leaves_a_fault_that_is_done(place: Place) -> None:
    gate = place.handle.gates["fault"] = Deferred()
    sock = place.raw()
    sock.sendall(b"POST /v1/faults/kill HTTP/1.1\r\nContent-Length: 23\r\n\r\n" + KILL)
    await until(lambda: bool(place.handle.calls))
    sock.close()
    await deferLater(the_reactor(), 0.05)
    gate.callback(None)
    await until(lambda: bool(place.handle.done))
    assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200


@ensure
async def test_a_client_that_goes_in_mid_request_has_asked_for_nothing(place: Place) -> None:
    sock = place.raw()
    sock.sendall(b"POST /v1/faults/kill HTTP/1.1\r\nContent-Length: 23\r\n\r\n" + KILL[:10])
    sock.close()
    assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200
    assert [call[0] for call in place.handle.calls] == ["job"]


# Its limits.


@ensure
async def test_fifty_calls_at_once_are_all_answered(place: Place) -> None:
    gate = place.handle.gates["fault"] = Deferred()
    asking = [apart(place.ask, "POST", "/v1/faults/pause", KILL) for _ in range(8)]
    socks = [place.raw() for _ in range(42)]
    for sock in socks:
        sock.sendall(
            b"POST /v1/faults/kill HTTP/1.1\r\nConnection: close\r\nContent-Length: 23\r\n\r\n"
            + KILL
        )
    await until(lambda: len(place.handle.calls) == 50)
    gate.callback(None)
    for status, _ in await gatherResults(asking):
        assert status == 200
    told = [json.loads((await apart(read_all, s)).split(b"\r\n\r\n")[1]) for s in socks]
    assert len({fault["id"] for fault in told}) == 42


@ensure
async def test_a_connection_too_many_is_told_so_and_closed(place: Place) -> None:
    inside = [place.raw() for _ in range(MOST_CONNECTIONS)]
    await until(lambda: place.door._gate.full)
    status, value = await apart(place.ask, "GET", "/v1/job")
    assert (status, value["error"]["code"]) == (503, "unavailable")
    more = [place.raw() for _ in range(TOLD)]
    await until(lambda: place.door._gate.crowded)
    assert await apart(read_all, place.raw()) == b""
    assert await apart(read_all, place.raw("pb")) == b""
    for sock in (*inside[:20], *more):
        sock.close()
    await until(lambda: not place.door._gate.full)
    assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200


@ensure
async def test_calls_that_wait_for_answers_are_not_without_number() -> None:
    handle = ScriptedHandle()
    gate = handle.gates["fault"] = Deferred()
    calls = Calls(Clock(), handle)
    waiting = [calls.call("kill", {"machine": "slave[0]"}) for _ in range(MOST_CALLS)]
    with pytest.raises(Unavailable):
        await calls.call("kill", {"machine": "slave[0]"})
    gate.callback(None)
    await gatherResults(waiting)
    await calls.call("kill", {"machine": "slave[0]"})


@ensure
async def test_a_flood_of_calls_is_refused_with_when_to_come_again(tmp_path: Path) -> None:
    handle = ScriptedHandle()
    limits = Limits(fault_calls=2.0, calls=4.0)
    door = Door(the_reactor(), tmp_path, os.geteuid(), handle, limits)
    place = Place(tmp_path, handle, door)
    await door.open()
    try:
        told = [await apart(place.ask, "POST", "/v1/faults/kill", KILL) for _ in range(11)]
        assert [status for status, _ in told] == [200] * 10 + [429]
        error = told[-1][1]["error"]
        assert error["code"] == "too_many"
        assert 0 < error["details"]["retry_after"] <= 0.5
        assert len(handle.calls) == 10, "refused before anything was done"
        # Others have a rate of their own, and samples none of this kind.
        assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200
        sock = place.raw()
        sock.sendall(b"GET /v1/job HTTP/1.1\r\n\r\n" * 25)
        answers = await apart(lambda: sock.recv(1 << 20))
        while answers.count(b"HTTP/1.1") < 25:
            answers += await apart(lambda: sock.recv(1 << 20))
        assert b" 429 " in answers
        assert b"Retry-After: 1\r\n" in answers
    finally:
        for sock in place.opened:
            sock.close()
        await door.close()


@ensure
async def test_who_has_asked_too_often_may_still_say_finish() -> None:
    calls = Calls(Clock(), ScriptedHandle(), Limits(calls=1.0))
    for _ in range(5):
        await calls.call("mark", {"name": "x"})
    with pytest.raises(TooMany):
        await calls.call("mark", {"name": "x"})
    assert (await calls.call("finish", {"passed": True}))["passed"]
    for _ in range(int(FINISHES * BURST) - 1):
        await calls.call("finish", {})
    with pytest.raises(TooMany):
        await calls.call("finish", {})


@ensure
async def test_connections_are_as_many_as_the_job_has_asked_for(tmp_path: Path) -> None:
    handle = ScriptedHandle()
    door = Door(the_reactor(), tmp_path, os.geteuid(), handle, Limits(connections=3))
    place = Place(tmp_path, handle, door)
    await door.open()
    try:
        for _ in range(3):
            place.raw()
        await until(lambda: door._gate.full)
        status, told = await apart(place.ask, "GET", "/v1/job")
        assert (status, told["error"]["code"]) == (503, "unavailable")
    finally:
        for sock in place.opened:
            sock.close()
        await door.close()


@ensure
async def test_twenty_thousand_samples_in_a_second_do_not_wait_but_endless_ones_do() -> None:
    clock = Clock()
    calls = Calls(clock, ScriptedHandle())
    lines = b'{"t": 1, "op": "put", "ms": 2, "ok": true}\n' * 5000
    for _ in range(10):
        for _ in range(4):
            assert (await calls.call("samples", lines)) == {"accepted": 5000}
        clock.advance(1)
    slow = [calls.call("samples", lines) for _ in range(15)]
    waiting = [one for one in slow if not one.called]
    assert len(waiting) == 5
    clock.advance(0.5)
    assert all(one.called for one in waiting)


@ensure
async def test_who_does_not_read_is_not_written_to_without_end(place: Place) -> None:
    for _ in range(2000):
        place.handle.happen("mark", name="x" * 2000)
    sock = place.raw()
    sock.sendall(b"GET /v1/events HTTP/1.0\r\n\r\n")
    await until(lambda: any(call[0] == "events" for call in place.handle.calls))
    await deferLater(the_reactor(), 0.2)
    asked = [call for call in place.handle.calls if call[0] == "events"]
    for _ in range(10):
        place.handle.happen("late")
        await deferLater(the_reactor(), 0.02)
    # As long as what was written has not been read, nobody asks what else has happened.
    assert [call for call in place.handle.calls if call[0] == "events"] == asked
    # Other connections do not mind.
    assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200
    place.handle.finish_job(Revoked("It is over."))
    told = await apart(read_all, sock)
    assert told.count(b"event: mark") == 2000
    assert told.count(b"event: late") == 10
    assert told.endswith(b'event: end\ndata: {"code": "revoked", "message": "It is over."}\n\n')


@ensure
async def test_answers_that_nobody_reads_do_not_pile_up(place: Place) -> None:
    place.handle.done = [{"id": "f1", "state": "healed", "note": "x" * 100_000}]
    sock = place.raw()
    sock.setblocking(False)
    one = b"GET /v1/faults HTTP/1.1\r\n\r\n"
    sent = 0
    for _ in range(300):
        try:
            sent += sock.send(one * 1000)
        except BlockingIOError:
            await deferLater(the_reactor(), 0.002)
    before = len(place.handle.calls)
    await deferLater(the_reactor(), 0.1)
    assert len(place.handle.calls) == before < 50
    assert (await apart(place.ask, "GET", "/v1/job"))[0] == 200


# Its events.


def stream_of(handle: ScriptedHandle) -> tuple[Clock, StringTransport, Any]:
    """A stream of events on a clock of its own."""
    clock, transport = Clock(), StringTransport()
    channel = DoorSite(Gate(), Calls(clock, handle), clock).buildProtocol(None)
    assert channel is not None
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /v1/events HTTP/1.0\r\n\r\n")
    return clock, transport, channel


def lose(channel: Any) -> None:
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    channel.connectionLost(Failure(ConnectionLost()))


def test_a_stream_says_at_once_that_it_is_there_and_now_and_then_that_it_lives() -> None:
    clock, transport, channel = stream_of(ScriptedHandle())
    assert transport.value().endswith(b"\r\n\r\n: here\n\n")
    transport.clear()
    clock.advance(HEARTBEAT - 1)
    assert transport.value() == b""
    clock.advance(1)
    clock.advance(HEARTBEAT)
    assert transport.value() == b": alive\n\n" * 2
    lose(channel)
    assert clock.getDelayedCalls() == []


def test_a_stream_outlives_a_manager_that_is_away() -> None:
    handle = ScriptedHandle()
    handle.refusals["events"] = [VolunteerLost("away"), Unavailable("starting")]
    clock, transport, channel = stream_of(handle)
    handle.happen("running")
    assert b"event: running" not in transport.value()
    clock.advance(RETRY)
    clock.advance(RETRY)
    assert b"id: 1\nevent: running\ndata: {" in transport.value()
    lose(channel)
    assert clock.getDelayedCalls() == []


def test_a_stream_is_refused_to_whom_everything_is() -> None:
    handle = ScriptedHandle(refusals={"job": [Revoked("It is over.")]})
    clock, transport, _ = stream_of(handle)
    assert b" 403 " in transport.value()
    assert b'"revoked"' in transport.value()
    assert clock.getDelayedCalls() == []


# Its end.


@ensure
async def test_closing_removes_the_sockets_and_ends_the_connections(place: Place) -> None:
    idle, other = place.raw(), place.raw("pb")
    stream = place.raw()
    stream.sendall(b"GET /v1/events HTTP/1.0\r\n\r\n")
    await until(lambda: any(call[0] == "events" for call in place.handle.calls))
    await place.door.close()
    assert list(place.directory.iterdir()) == []
    assert await apart(read_all, idle) == b""
    await apart(read_all, other)
    assert b"event: end" in await apart(read_all, stream)


@ensure
async def test_what_is_under_way_is_answered_before_the_door_is_closed(place: Place) -> None:
    gate = place.handle.gates["finish"] = Deferred()
    asking = apart(place.ask, "POST", "/v1/finish", b'{"score": 7}')
    await until(lambda: bool(place.handle.calls))
    closing = place.door.close()
    gate.callback(None)
    assert await asking == (
        200,
        {"finished": "client[0]", "passed": True, "score": 7, "notes": ""},
    )
    await closing


@ensure
async def test_what_is_never_answered_does_not_keep_the_door_open(place: Place) -> None:
    place.handle.gates["fault"] = Deferred()
    asking = apart(place.ask, "POST", "/v1/faults/kill", KILL)
    await until(lambda: bool(place.handle.calls))
    await place.door.close()
    status, value = await asking
    assert (status, value["error"]["code"]) == (403, "revoked")


@ensure
async def test_who_never_reads_does_not_keep_the_door_open(place: Place) -> None:
    place.handle.done = [{"id": "f1", "state": "healed", "note": "x" * 500_000}]
    sock = place.raw()
    sock.sendall(b"GET /v1/faults HTTP/1.1\r\n\r\n")
    await until(lambda: bool(place.handle.calls))
    await place.door.close()


@ensure
async def test_closing_twice_and_without_opening_is_fine(tmp_path: Path) -> None:
    door = Door(the_reactor(), tmp_path, os.geteuid(), ScriptedHandle())
    await door.close()
    await door.close()
