"""The library that blocks, before a real door: blocks, threads, forks and ends of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from syndicate.client import sync
from syndicate.domain.errors import Revoked, Unavailable
from tests.support.doorsteps import Doorstep
from tests.support.sandboxes import the_reactor
from tests.support.ways import apart

ensure = pytest_twisted.ensureDeferred


@pytest.fixture
def doorstep(tmp_path: Path) -> Iterator[Doorstep]:
    doorstep = pytest_twisted.blockon(Deferred.fromCoroutine(Doorstep.at(tmp_path / "door")))
    yield doorstep
    pytest_twisted.blockon(doorstep.door.close())


@pytest.fixture
def client(doorstep: Doorstep) -> Iterator[sync.Client]:
    made = pytest_twisted.blockon(apart(sync.connect, str(doorstep.directory)))
    yield made
    pytest_twisted.blockon(apart(made.close))


def asked(doorstep: Doorstep) -> list[tuple[str, str | None]]:
    """The kinds of faults that were asked for, and the machine of each."""
    return [(c[1], c[2].get("machine")) for c in doorstep.handle.calls if c[0] == "fault"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait; the test's deadline is what ends it otherwise."""
    while not condition():
        await deferLater(the_reactor(), 0.01)


def test_machines_are_their_names_and_know_more(client: sync.Client) -> None:
    assert client.master == "master"
    assert client.slaves == ["slave[0]", "slave[1]"]
    assert client.me in client.clients
    second = client.slaves[1]
    assert (second.role, second.number, second.ip) == ("slave", 1, "10.0.0.3")
    assert client.seed == 42


BLOCKS: dict[str, tuple[Callable[[sync.Client], Any], list[str]]] = {
    "killed": (lambda c: c.killed("slave[0]"), ["kill", "revive"]),
    "disconnected": (lambda c: c.disconnected("slave[0]"), ["disconnect", "reconnect"]),
    "paused": (lambda c: c.paused("slave[0]"), ["pause", "resume"]),
    "partitioned": (lambda c: c.partitioned("master", ["slave[0]"]), ["partition", "heal"]),
    "lossy": (lambda c: c.lossy("slave[0]", 3), ["loss", "heal"]),
    "throttled": (lambda c: c.throttled("slave[0]", "9K"), ["rate", "heal"]),
}


@pytest.mark.parametrize("name", list(BLOCKS))
@ensure
async def test_what_a_block_did_is_undone_after_an_exception_too(
    doorstep: Doorstep, client: sync.Client, name: str
) -> None:
    enter, kinds = BLOCKS[name]

    def hurt() -> None:
        with enter(client) as fault:
            assert fault.state == "verified"
            assert fault.id == "f1"
            assert len(doorstep.handle.done) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await apart(hurt)
    assert [kind for kind, _ in asked(doorstep)] == kinds


@ensure
async def test_a_block_that_could_not_begin_undoes_nothing(
    doorstep: Doorstep, client: sync.Client
) -> None:
    def hurt() -> None:
        with client.delayed("slave[0]", "5ms"):
            raise AssertionError

    with pytest.raises(sync.Unsupported):
        await apart(hurt)
    assert [kind for kind, _ in asked(doorstep)] == ["delay"]


@ensure
async def test_what_was_revived_within_its_block_is_not_revived_again(
    doorstep: Doorstep, client: sync.Client
) -> None:
    def hurt() -> None:
        with client.killed("slave[0]"):
            client.revive("slave[0]")

    await apart(hurt)
    assert [fault["kind"] for fault in doorstep.handle.done] == ["kill", "revive"]


@ensure
async def test_many_threads_may_use_one_client(doorstep: Doorstep, client: sync.Client) -> None:
    def work(name: str) -> None:
        for _ in range(50):
            assert client.kill(name)["machines"] == [name]
            with client.timed("kill"):
                pass

    names = ["master", "slave[0]", "slave[1]", "client[0]"] * 2
    await gatherResults([apart(work, name) for name in names])
    await apart(client.flush)
    assert len(doorstep.handle.done) == len(doorstep.handle.kept) == 400
    assert len({call[3] for call in doorstep.handle.calls if call[0] == "fault"}) == 400


@ensure
async def test_samples_come_before_the_finish(doorstep: Doorstep, client: sync.Client) -> None:
    for number in range(2500):
        client.sample("put", number)
    await apart(client.finish, False, 3.5, "slow")
    assert [call[0] for call in doorstep.handle.calls[-3:]] == ["samples", "samples", "finish"]
    assert len(doorstep.handle.kept) == 2500
    assert doorstep.handle.result == {"passed": False, "score": 3.5, "notes": "slow"}


@ensure
async def test_samples_wait_for_a_door_that_has_no_time(
    doorstep: Doorstep, client: sync.Client
) -> None:
    doorstep.handle.refusals["samples"] = [Unavailable("later")] * 2
    client.sample("put", 1)
    await until(lambda: len(doorstep.handle.kept) == 1)
    assert len([call for call in doorstep.handle.calls if call[0] == "samples"]) == 3
    await apart(client.flush)


@ensure
async def test_events_go_on_when_their_connection_breaks(
    doorstep: Doorstep, client: sync.Client
) -> None:
    doorstep.handle.happen("running")
    found: list[int] = []

    def listen() -> None:
        found.extend(event["n"] for event in client.events())

    listening = apart(listen)
    await until(lambda: ("events", 1) in doorstep.handle.calls)
    for channel in list(doorstep.door._gate._inside):
        channel.transport.abortConnection()
    doorstep.handle.happen("mark")
    await until(lambda: ("events", 2) in doorstep.handle.calls)
    doorstep.handle.finish_job(Revoked("over"))
    await listening
    assert found == [1, 2]


@ensure
async def test_who_stops_listening_leaves_nothing_open(
    doorstep: Doorstep, client: sync.Client
) -> None:
    doorstep.handle.happen("running")
    before = len(doorstep.door._gate._inside)

    def first() -> int:
        for event in client.events():
            return int(event["n"])
        raise AssertionError

    assert await apart(first) == 1
    await until(lambda: len(doorstep.door._gate._inside) == before)


def script(doorstep: Doorstep, text: str) -> Deferred[subprocess.CompletedProcess[str]]:
    """Run a program of a client's, which imports what is laid out for it."""
    return apart(
        subprocess.run,
        [sys.executable, "-S", "-c", f"import syndicate.client as sc\nc = sc.connect()\n{text}"],
        env={**os.environ, **doorstep.environment()},
        cwd=doorstep.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@ensure
async def test_a_process_that_ends_sends_the_samples_that_are_left(doorstep: Doorstep) -> None:
    ended = await script(doorstep, "for n in range(100): c.sample('put', n)\nraise SystemExit(7)")
    assert (ended.returncode, ended.stderr) == (7, "")
    assert len(doorstep.handle.kept) == 100


@ensure
async def test_samples_that_nobody_takes_are_told_of_at_the_end(doorstep: Doorstep) -> None:
    doorstep.handle.refusals["samples"] = [Revoked("over")] * 9
    ended = await script(doorstep, "c.sample('put', 1)")
    assert ended.stderr == "syndicate: samples were not sent: over\n"


@ensure
async def test_a_child_process_has_a_client_of_its_own(doorstep: Doorstep) -> None:
    ended = await script(
        doorstep,
        """
import os, sys
c.sample("parent", 1)
pid = os.fork()
c.sample("child" if pid == 0 else "parent", 2)
c.kill("slave[0]" if pid == 0 else "slave[1]")
if pid == 0:
    c.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
c.kill("master")
""",
    )
    assert ended.returncode == 0, ended.stderr
    named = [line.split(b'"op": "')[1].split(b'"')[0] for line in doorstep.handle.kept]
    assert sorted(named) == [b"child", b"parent", b"parent"]
    assert {machine for _, machine in asked(doorstep)} == {"slave[0]", "slave[1]", "master"}
