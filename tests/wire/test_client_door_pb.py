"""The Perspective Broker of a client's door, before peers that do as they like."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.spread import pb as spread
from zope.interface import implementer

from syndicate.client import pb, sync
from syndicate.client.door import Door
from syndicate.client.pb import Refusal
from syndicate.domain.errors import Revoked
from tests.support.banana import encoded
from tests.support.handles import ScriptedHandle
from tests.support.sandboxes import the_reactor
from tests.support.traces import LoggedErrors
from tests.support.ways import WAYS, Refused, apart

ensure = pytest_twisted.ensureDeferred

KILL = b'{"machine": "slave[0]"}'


@pytest.fixture
def handle() -> ScriptedHandle:
    return ScriptedHandle()


@pytest.fixture
def directory(tmp_path: Path, handle: ScriptedHandle) -> Iterator[Path]:
    door = Door(the_reactor(), tmp_path, os.geteuid(), handle)
    pytest_twisted.blockon(door.open())
    yield tmp_path
    pytest_twisted.blockon(door.close())


@pytest.fixture
def root(directory: Path) -> Iterator[Any]:
    """What a program without our library reaches."""
    factory = spread.PBClientFactory()
    factory.noisy = False
    endpoint = UNIXClientEndpoint(the_reactor(), str(directory / "pb"))
    pytest_twisted.blockon(endpoint.connect(factory))
    yield pytest_twisted.blockon(factory.getRootObject())
    factory.disconnect()


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is logged."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def hear(event: dict[str, Any]) -> None:
        lines.append(str(event.get("log_format")))

    globalLogPublisher.addObserver(hear)
    yield lines
    globalLogPublisher.removeObserver(hear)


@ensure
async def test_calls_are_answered_with_json_in_bytes(root: Any, handle: ScriptedHandle) -> None:
    assert json.loads(await root.callRemote("job", None)) == handle._job()
    fault = json.loads(await root.callRemote("kill", KILL, b"a-token"))
    assert fault == handle.done[0]
    assert handle.calls[-1] == ("fault", "kill", {"machine": "slave[0]"}, "a-token")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("melt", (KILL, None)),
        ("_answer", (None,)),
        ("kill", ()),
        ("kill", (KILL,)),
        ("kill", (KILL, None, None)),
        ("kill", ({"machine": "slave[0]"}, None)),
        ("kill", (b"{", None)),
        ("kill", (b"[]", None)),
        ("kill", (b"[" * 100_000, None)),
        ("kill", (KILL, 7)),
        ("kill", (KILL, "x" * 300)),
        ("job", (KILL, None)),
        ("samples", ("text", None)),
        ("events", (-1, None)),
        ("events", (b"1", None)),
        ("mark", (b"{}", None)),
    ],
)
@ensure
async def test_what_cannot_be_answered_is_refused_and_logged_nowhere(
    root: Any, handle: ScriptedHandle, said: list[str], verb: str, arguments: Any
) -> None:
    with pytest.raises(Refusal) as refused:
        await root.callRemote(verb, *arguments)
    assert refused.value.code == "invalid"
    assert refused.value.message
    assert handle.calls == []
    assert said == []
    assert json.loads(await root.callRemote("job", None))["job"] == 17


@ensure
async def test_events_that_are_too_many_for_one_answer_come_in_several(
    directory: Path, handle: ScriptedHandle
) -> None:
    for _ in range(500):
        handle.happen("mark", name="x" * 3000)
    handle.finish_job(Revoked("It is over."))
    client = await pb.connect(the_reactor(), str(directory))
    assert [event["n"] async for event in client.events()] == list(range(1, 501))
    await client.close()


@ensure
async def test_an_answer_that_does_not_fit_is_refused(root: Any, handle: ScriptedHandle) -> None:
    handle.done = [{"id": "f1", "note": "x" * 600_000}]
    with pytest.raises(Refusal) as refused:
        await root.callRemote("faults", None)
    assert refused.value.code == "too_large"


@pytest.mark.parametrize("way", ["http", "pb"])
@ensure
async def test_thousands_of_faults_are_told_whole(
    directory: Path, handle: ScriptedHandle, way: str
) -> None:
    handle.done = [{"id": f"f{number}", "note": "x" * 1000} for number in range(1, 3001)]
    client = await WAYS[way].to(directory)
    assert (await client.faults())["faults"] == handle.done
    await client.close()


@pytest.mark.parametrize("way", ["http", "pb"])
@ensure
async def test_an_answer_that_is_no_json_is_a_defect_of_ours(
    directory: Path, handle: ScriptedHandle, logged_errors: LoggedErrors, way: str
) -> None:
    handle.done = [{"id": "f1", "amount": float("nan")}]
    client = await WAYS[way].to(directory)
    with pytest.raises(Refused) as refused:
        await client.faults()
    assert refused.value.code == "internal"
    assert len(logged_errors.flush(ValueError)) == 1
    await client.close()


class Thing(spread.Copyable):
    """What the door does not know."""


@pytest.mark.parametrize("thing", [Thing(), spread.Referenceable(), [[]], {"a": [1]}])
@ensure
async def test_objects_of_others_are_not_made(root: Any, said: list[str], thing: Any) -> None:
    with pytest.raises(Refusal) as refused:
        await root.callRemote("kill", thing, None)
    assert refused.value.code == "invalid"
    assert said == []


HELLO = encoded(b"pb") + encoded([b"version", 6])
CALL = [b"message", 1, b"root", b"kill", 0, [b"tuple", KILL, [b"None"]], [b"dictionary"]]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00" * 100,
        bytes(range(1, 256)) * 20,
        encoded(b"klingon"),
        HELLO + encoded([b"message"]),
        HELLO + encoded([b"decref", b"77"]),
        HELLO + encoded([b"answer", 5, b"x"]),
        HELLO + encoded([b"message", 1, b"root", b"\xff\xfe", 1, [b"tuple"], [b"dictionary"]]),
        HELLO + encoded(CALL),
        # A list that never ends, of texts that are never too long each.
        HELLO + b"\x00\x00\x20\x80" + encoded(b"x" * 60_000) * 40,
    ],
)
@ensure
async def test_what_is_no_call_ends_the_connection_and_nothing_else(
    directory: Path, root: Any, handle: ScriptedHandle, nonsense: bytes
) -> None:
    def talk() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(directory / "pb"))
            try:
                sock.sendall(nonsense)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass

    await apart(talk)
    assert json.loads(await root.callRemote("job", None))["job"] == 17
    assert [call[0] for call in handle.calls] == ["job"]


@ensure
async def test_answers_that_nobody_reads_do_not_pile_up(
    directory: Path, root: Any, handle: ScriptedHandle
) -> None:
    handle.done = [{"id": "f1", "state": "healed", "note": "x" * 100_000}]
    call = [b"message", 1, b"root", b"faults", 1, [b"tuple", [b"None"]], [b"dictionary"]]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(directory / "pb"))
        sock.setblocking(False)
        sock.send(HELLO)
        for _ in range(300):
            try:
                sock.send(encoded(call) * 50)
            except BlockingIOError:
                await deferLater(the_reactor(), 0.002)
        before = len(handle.calls)
        await deferLater(the_reactor(), 0.1)
        assert len(handle.calls) == before < 500
        assert json.loads(await root.callRemote("job", None))["job"] == 17


# The library at the other end.


@ensure
async def test_a_connection_that_breaks_is_made_again_and_the_fault_is_the_same(
    tmp_path: Path,
) -> None:
    handle = ScriptedHandle()
    gate = handle.gates["fault"] = Deferred()
    door = Door(the_reactor(), tmp_path, os.geteuid(), handle)
    await door.open()
    client = await pb.connect(the_reactor(), str(tmp_path))
    killing = client.kill("slave[0]")
    while not handle.calls[1:]:
        await deferLater(the_reactor(), 0.01)
    client._wire._root.broker.transport.abortConnection()
    while len(handle.calls) < 3:
        await deferLater(the_reactor(), 0.01)
    gate.callback(None)
    await killing
    assert handle.calls[1] == handle.calls[2]
    assert handle.calls[1][3] is not None
    await client.close()
    await door.close()


@ensure
async def test_a_door_that_is_gone_is_no_door(directory: Path) -> None:
    with pytest.raises(sync.NoDoor):
        await pb.connect(the_reactor(), str(directory / "elsewhere" / "pb"))


@ensure
async def test_an_answer_that_does_not_come_is_a_timeout(
    directory: Path, handle: ScriptedHandle
) -> None:
    client = await pb.connect(the_reactor(), str(directory), timeout=0.2)
    handle.gates["fault"] = Deferred()
    with pytest.raises(sync.Timeout):
        await client.kill("slave[0]")
    await client.close()


@ensure
async def test_what_is_cut_for_a_block_is_healed_after_an_exception(
    directory: Path, handle: ScriptedHandle
) -> None:
    client = await pb.connect(the_reactor(), str(directory))
    a, b = client.slaves
    with contextlib.suppress(ZeroDivisionError):
        async with client.disconnected(a), client.paused(b), client.lossy(a, 5) as loss:
            assert loss.kind == "loss"
            raise ZeroDivisionError
    kinds = [call[1] for call in handle.calls if call[0] == "fault"]
    assert kinds == ["disconnect", "pause", "loss", "heal", "resume", "reconnect"]
    async with client.killed(a):
        pass
    async with (
        client.partitioned(a, b),
        client.throttled(a, "10K"),
    ):
        pass
    assert [fault["state"] for fault in handle.done if fault["kind"] == "partition"] == ["healed"]
    await client.close()


@ensure
async def test_samples_are_gathered_and_sent_soon_and_at_the_end(
    directory: Path, handle: ScriptedHandle
) -> None:
    client = await pb.connect(the_reactor(), str(directory))
    for _ in range(2500):
        with client.timed("put"):
            pass
    assert handle.kept == []
    while len(handle.kept) < 2500:
        await deferLater(the_reactor(), 0.01)
    assert len([call for call in handle.calls if call[0] == "samples"]) == 3
    client.sample("get", 3, ok=False)
    await client.finish()
    assert len(handle.kept) == 2501
    assert [call[0] for call in handle.calls[-2:]] == ["samples", "finish"]
    await client.close()
