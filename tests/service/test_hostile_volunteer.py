"""A volunteer that holds a good certificate and lies: it can lie about its own job only."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.spread import pb
from twisted.test import iosim

from syndicate.api.faults import samples_as_csv
from syndicate.credentials.interface import Identity
from syndicate.domain.errors import (
    Forbidden,
    Invalid,
    NotFound,
    Revoked,
    SyndicateError,
    Unavailable,
)
from syndicate.domain.job import JobState
from syndicate.domain.log import SAMPLES, Decoder, Frame
from syndicate.domain.log import encode as encode_frame
from syndicate.domain.volunteer import VolunteerState
from syndicate.manager.views import timestamp
from syndicate.plain import to_plain
from syndicate.wire.interface import Ask, EndReport, Part, Released
from syndicate.wire.pb.client import ManagerFactory
from syndicate.wire.pb.errors import call, incoming
from syndicate.wire.pb.server import DoorFactory
from syndicate.wire.pb.values import pack
from tests.service.test_api import Door, Make, make_door
from tests.support.cluster import Cluster
from tests.support.peers import FACTS, NotingWorker
from tests.support.sandboxes import the_reactor

__all__ = ["make_door"]

ensure = pytest_twisted.ensureDeferred


class Liar(pb.Referenceable):
    """Takes orders, and answers them with whatever it likes; never with nothing but an answer."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.answers: dict[str, Any] = {}

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        self.orders.append(message)
        answer = self.answers.get(message, 42.0 if message == "ping" else None)
        answer = answer() if callable(answer) else answer
        return broker.serialize(answer)


@attrs.define(eq=False)
class Hostile:
    """One connection of ``name``, whose certificate is good, to the manager of a cluster."""

    cluster: Cluster
    name: str = "evil"
    liar: Liar = attrs.field(factory=Liar)
    perspective: Any = None
    session: str = ""
    _pump: Any = None
    _root: Any = None
    broker: Any = None

    def connect(self) -> None:
        manager = self.cluster.manager

        def admit(transport: Any, name: str) -> None:
            manager.trust.admit(Identity(frozenset((self.name,)), "1"), name)

        server = DoorFactory(self.cluster.clock, admit, manager, manager.trust.refused)
        factory: Any = ManagerFactory()
        _, _, self._pump = iosim.connectedServerAndClient(
            lambda: server.buildProtocol(None),
            lambda: factory.buildProtocol(None),
            clock=self.cluster.clock,
        )
        self._root = self.result_of(factory.getRootObject())
        self.broker = self._root.broker

    def join(self, **said: Any) -> Any:
        """Say hello; what is said may be anything."""
        hello = attrs.evolve(NotingWorker(self.name).hello(), boot=f"boot of {self.name}")
        message = {**to_plain(hello), **said}
        self.connect()
        welcome, self.perspective = self.call(self._root, "join", encode(message), self.liar)
        self.session = json.loads(welcome)["session"]
        return json.loads(welcome)

    def call(self, reference: Any, name: str, *args: Any) -> Any:
        return self.result_of(
            Deferred.fromCoroutine(call(self.cluster.clock, reference, name, *args))
        )

    def tell(self, name: str, *args: Any) -> Any:
        """Call the manager."""
        return self.call(self.perspective, name, *args)

    def settle(self) -> None:
        for _ in range(30):
            self.cluster.clock.advance(0)
            self._pump.flush()

    def result_of(self, doing: Deferred[Any]) -> Any:
        outcome: list[Any] = []
        doing.addBoth(outcome.append)
        self.settle()
        assert outcome, "no answer came"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    @property
    def connected(self) -> bool:
        return not self.broker.disconnected


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def forever(run: Any) -> None:
    """Runs until it is killed."""


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster(3, forever)


@pytest.fixture
def hostile(cluster: Cluster) -> Hostile:
    return Hostile(cluster)


def snapshot(cluster: Cluster, number: int) -> Any:
    """All that is known of a job."""
    return cluster.job(number), cluster.kinds(number)


# Others' jobs and names.


def test_reports_for_others_jobs_change_nothing(cluster: Cluster, hostile: Hostile) -> None:
    number = cluster.submit(machines=2)
    hostile.join()
    before = snapshot(cluster, number)
    for machine in ("master", "slave[0]"):
        for attempt in (0, 1, 2):
            part = Part(number, attempt, machine, 99)
            for report in (
                EndReport(part, exit_code=0),
                EndReport(part, problem="my host burns"),
                EndReport(part, limit="memory", killed=True),
                EndReport(part, run=7, exit_code=1),
            ):
                hostile.tell("ended", pack(report))
    assert snapshot(cluster, number) == before


def test_a_hello_that_claims_others_parts_and_reports_changes_nothing(
    cluster: Cluster, hostile: Hostile
) -> None:
    number = cluster.submit(machines=2)
    before = snapshot(cluster, number)
    mine = Part(number, 1, "master", 1)
    part = to_plain(mine)
    holding = {"job": number, "attempt": 1, "machine": "master"}
    report = to_plain(EndReport(mine, exit_code=0))
    given = {"part": part, "released": {}, "unclean": "all is on fire"}
    welcome = hostile.join(holding=holding, unacked=[report], gave_back=given)
    assert welcome["release"] is True
    assert snapshot(cluster, number) == before
    # What it says to hold opens nothing to it either.
    carriage = cluster.manager.carriage
    with pytest.raises(Forbidden):
        carriage.check_fetch("evil", cluster.job(number).spec.sha256, "")
    with pytest.raises(Forbidden):
        carriage.check_bring("evil", "0" * 64, 10)
    assert not carriage.owns("evil", number, 1, "master")


def test_another_ones_name_is_refused_and_its_link_stays(
    cluster: Cluster, hostile: Hostile
) -> None:
    with pytest.raises(Forbidden, match="that of evil"):
        hostile.join(name="v1")
    hostile.settle()
    assert not hostile.connected
    assert cluster.states()["v1"] == "free"
    assert cluster.manager.fleet.members["v1"].boot != "boot of evil"


def test_asks_as_the_client_of_anothers_job_are_refused(cluster: Cluster, hostile: Hostile) -> None:
    number = cluster.submit_with_clients(machines=2, clients=1)
    hostile.join()
    before = snapshot(cluster, number)
    for machine in ("client[0]", "master"):
        for verb in ("job", "fault", "finish", "mark", "events", "faults"):
            body = {"kind": "kill", "arguments": {"machine": "slave[0]"}, "name": "x"}
            ask = Ask(Part(number, 1, machine, 1), verb, body)
            with pytest.raises(Revoked):
                hostile.tell("ask", pack(ask))
    assert snapshot(cluster, number) == before


def test_who_is_no_client_of_its_own_job_or_was_one_is_refused(
    cluster: Cluster, hostile: Hostile
) -> None:
    for host in ("v1", "v2", "v3"):
        cluster.hosts[host].stop()
    hostile.join()
    for host in ("v1", "v2", "v3"):
        cluster.hosts[host].dials = True
        cluster.hosts[host].start()
    cluster.wait(5)
    number = cluster.submit_with_clients(machines=2, clients=1)
    hostile.settle()
    job = cluster.job(number)
    assert job.machine("master").volunteer == "evil", "it has been free longest"
    before = snapshot(cluster, number)
    body = {"kind": "kill", "arguments": {"machine": "slave[0]"}}
    with pytest.raises(Revoked):
        hostile.tell("ask", pack(Ask(Part(number, 1, "master", 1), "fault", body)))
    client = job.machine("client[0]").volunteer
    for attempt in (0, 2):
        ask = Ask(Part(number, attempt, "client[0]", 1), "job", {})
        with pytest.raises(Revoked):
            cluster.result_of(cluster.manager.ask(client, ask))
    assert snapshot(cluster, number) == before


def test_an_old_completion_that_is_replayed_ends_nothing_new(
    cluster: Cluster, hostile: Hostile
) -> None:
    """The attempt it was about is over; the one that runs now is another."""
    hostile.join()
    for host in ("v2", "v3"):
        cluster.hosts[host].stop()
    cluster.settle()
    number = cluster.submit(machines=2)
    part = next(m for m in cluster.job(number).machines if m.volunteer == "evil")
    report = pack(EndReport(Part(number, 1, part.name, 1), exit_code=0))
    lost = pack(EndReport(Part(number, 1, part.name, 1), problem="it burns"))
    hostile.tell("ended", lost)
    for host in ("v2", "v3"):
        cluster.hosts[host].dials = True
        cluster.hosts[host].start()
    cluster.wait(5)
    hostile.settle()
    assert cluster.job(number).attempt == 2
    assert "evil" not in {m.volunteer for m in cluster.job(number).machines}
    before = snapshot(cluster, number)
    for _ in range(5):
        hostile.tell("ended", report)
        hostile.tell("ended", lost)
    assert snapshot(cluster, number) == before
    assert cluster.job(number).state is JobState.RUNNING


# Floods and silence.


def test_a_flood_of_hellos_is_refused_and_hurts_nobody(cluster: Cluster, hostile: Hostile) -> None:
    number = cluster.submit(machines=3)
    refused = 0
    for _ in range(100):
        try:
            hostile.join()
        except Unavailable:
            refused += 1
    assert refused == 40
    assert cluster.job(number).state is JobState.RUNNING
    assert len([t for t in cluster.clock.getDelayedCalls() if "late" in repr(t)]) < 5


def test_a_second_hello_on_one_connection_ends_it(cluster: Cluster, hostile: Hostile) -> None:
    hostile.join()
    with pytest.raises(SyndicateError, match="joined already"):
        hostile.call(hostile._root, "join", pack(NotingWorker("evil").hello()), hostile.liar)
    hostile.settle()
    assert not hostile.connected
    assert cluster.states()["evil"] == "gone"


def test_a_flood_of_calls_is_refused_beyond_what_may_wait(
    cluster: Cluster, hostile: Hostile
) -> None:
    cluster.submit_with_clients(machines=1, clients=1)
    hostile.join()
    manager, never = cluster.manager, list[Deferred[Any]]()

    def wait_for_ever(name: str, ask: Ask) -> Deferred[Any]:
        never.append(Deferred())
        return never[-1]

    original = type(manager).ask
    type(manager).ask = lambda self, name, ask: wait_for_ever(name, ask)  # type: ignore[method-assign]
    try:
        ask = pack(Ask(Part(1, 1, "client[0]", 1), "events", {"after": 0}))
        answers = [hostile.perspective.callRemote("ask", ask) for _ in range(265)]
        failed: list[Any] = []
        for answer in answers:
            answer.addErrback(failed.append)
        hostile.settle()
    finally:
        type(manager).ask = original  # type: ignore[method-assign]
    assert len(never) == 256
    assert [str(incoming(each.value)) for each in failed] == (
        ["256 calls wait for their answers already."] * 9
    )
    # With more of it the connection ends; others are not touched.
    for _ in range(10):
        hostile.perspective.callRemote("ping").addErrback(lambda _: None)
    hostile.settle()
    assert not hostile.connected
    assert cluster.states()["v1"] in ("busy", "free")


def test_one_who_never_answers_is_given_up(cluster: Cluster, hostile: Hostile) -> None:
    hostile.join()
    hostile.liar.answers["ping"] = Deferred
    cluster.wait(25)
    hostile.settle()
    assert cluster.states()["evil"] == "gone"


def test_one_who_never_prepares_is_given_up_and_its_job_runs_elsewhere(
    cluster: Cluster, hostile: Hostile
) -> None:
    cluster.hosts["v3"].stop()
    hostile.join()
    hostile.liar.answers["prepare"] = Deferred
    hostile.liar.answers["release"] = lambda: encode({})
    number = cluster.submit(machines=3)
    hostile.settle()
    assert "evil" in {m.volunteer for m in cluster.job(number).machines}
    assert cluster.job(number).state is JobState.PREPARING
    cluster.hosts["v3"].dials = True
    cluster.hosts["v3"].start()
    for _ in range(92):
        cluster.clock.advance(10)
        hostile.settle()
    cluster.settle()
    assert cluster.job(number).state is JobState.RUNNING
    assert "evil" not in {m.volunteer for m in cluster.job(number).machines}


@pytest.mark.parametrize(
    "answer", ["soon", b"x", None, float("nan"), float("inf"), -1.0, 1e300, [1], {"a": 1}, True]
)
def test_a_ping_that_is_answered_with_nonsense_ends_the_link(
    cluster: Cluster, hostile: Hostile, answer: Any
) -> None:
    hostile.liar.answers["ping"] = lambda: answer
    hostile.join()
    hostile.settle()
    cluster.wait(6)
    hostile.settle()
    states = {"gone", "free"} if answer is True else {"gone"}  # True is a number to Python
    assert cluster.states()["evil"] in states
    assert cluster.states()["v1"] == "free"


@pytest.mark.parametrize("answer", [b"{", b"[]", 7, "x", encode({"outputs": "../../ca.key"})])
def test_a_release_that_is_answered_with_nonsense_quarantines_the_liar_alone(
    cluster: Cluster, hostile: Hostile, answer: Any
) -> None:
    for host in ("v2", "v3"):
        cluster.hosts[host].stop()
    hostile.join()
    hostile.liar.answers["release"] = lambda: answer
    number = cluster.submit(machines=2)
    hostile.settle()
    assert "evil" in {m.volunteer for m in cluster.job(number).machines}
    cluster.cancel(number)
    hostile.settle()
    cluster.settle()
    assert cluster.job(number).state is JobState.FINISHED
    member = cluster.manager.fleet.members["evil"]
    assert member.state in (VolunteerState.UNCLEAN, VolunteerState.QUARANTINED)
    assert len(member.reason) < 3000
    assert cluster.states()["v1"] == "free"


# Words that are none.


def a_report(**values: Any) -> bytes:
    part = {"job": 1, "attempt": 1, "machine": "master", "term": 1}
    return encode({"part": part, **values})


@pytest.mark.parametrize(
    "message",
    [
        a_report(exit_code=10**30),
        a_report(exit_code="0"),
        a_report(signal=-9),
        a_report(run=0),
        a_report(log_bytes=-1),
        a_report(log_bytes=10**40),
        a_report(outputs="../../authority/ca.key"),
        a_report(limit="x" * 201),
        a_report(short=["x"] * 100),
        a_report(left_out=["x"] * 100),
        a_report(left_out=[1]),
        a_report(extra=1),
        b'{"part": {"job": 1e999}}',
        b'{"part": NaN}',
        b'"\\ud800"',
        b"\xff",
        b"",
    ],
)
def test_a_report_that_cannot_be_is_refused_and_changes_nothing(
    cluster: Cluster, hostile: Hostile, message: bytes
) -> None:
    number = cluster.submit(machines=1)
    hostile.join()
    before = snapshot(cluster, number)
    with pytest.raises(Invalid):
        hostile.tell("ended", message)
    assert snapshot(cluster, number) == before


@pytest.mark.parametrize(
    "said",
    [
        {"facts": {**to_plain(FACTS), "address": "x" * 300}},
        {"facts": {**to_plain(FACTS), "address": "10.0.0.1\n10.0.0.2"}},
        {"facts": {**to_plain(FACTS), "cores": -1}},
        {"facts": {**to_plain(FACTS), "memory": 10**30}},
        {"facts": {**to_plain(FACTS), "faults": ["kill"] * 1000}},
        {"facts": {**to_plain(FACTS), "remarks": ["It lacks much."] * 1000}},
        {"boot": "\ud800"},
        {"boot": "b" * 1000},
        {"unacked": [{}]},
        {"unacked": [to_plain(EndReport(Part(1, 1, "master", 1), run)) for run in range(1, 102)]},
        {"protocol": "2"},
        {"name": 7},
        {"holding": []},
    ],
)
def test_a_hello_that_cannot_be_is_refused(
    cluster: Cluster, hostile: Hostile, said: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        hostile.join(**said)
    assert "evil" not in cluster.manager.fleet.members


def test_a_long_reason_is_cut(cluster: Cluster, hostile: Hostile) -> None:
    for host in ("v1", "v2", "v3"):
        cluster.hosts[host].stop()
    hostile.join()
    number = cluster.submit(machines=1)
    hostile.settle()
    part = Part(number, 1, "master", 1)
    hostile.tell("ended", pack(EndReport(part, problem="x" * 400_000)))
    stored = cluster.result_of(cluster.manager.events(number, 0))
    assert max(len(json.dumps(event)) for event in stored) < 10_000
    hostile.tell("clean", pack("y" * 400_000))
    assert len(cluster.manager.fleet.members["evil"].reason) < 3000


def test_outputs_that_were_never_brought_are_not_believed(
    cluster: Cluster, hostile: Hostile
) -> None:
    for host in ("v1", "v2", "v3"):
        cluster.hosts[host].stop()
    hostile.join()
    number = cluster.submit(machines=1)
    hostile.settle()
    part = Part(number, 1, "master", 1)
    hostile.tell("ended", pack(EndReport(part, exit_code=0, outputs="0" * 64)))
    assert cluster.job(number).machine("master").outputs is None


def test_what_is_no_method_and_no_reference_is_refused(cluster: Cluster, hostile: Hostile) -> None:
    hostile.join()
    for name in ("submit", "welcome", "__init__", "perspective_ended", "logout"):
        with pytest.raises(Invalid):
            hostile.tell(name)
    with pytest.raises(Invalid, match="takes 1 values"):
        hostile.tell("ended")
    odd = pb.RemoteReference(None, hostile.broker, 77, 0)
    with pytest.raises(NotFound):
        hostile.call(odd, "ended", b"{}")
    assert hostile.connected


# Bytes, over HTTPS, with the session of its connection.


@pytest.fixture
def evil(make_door: Make) -> tuple[Door, Hostile]:
    door = make_door(3, forever)
    hostile = Hostile(door.cluster)
    hostile.join()
    door.secrets["evil"] = hostile.session
    return door, hostile


@ensure
async def test_others_logs_and_blobs_are_closed_to_it(evil: tuple[Door, Hostile]) -> None:
    door, _ = evil
    job = await door.submit(machines=2)
    number, source = job["job"], job["source"]["sha256"]
    for path in (f"/v1/logs/{number}/1/master?offset=0", "/v1/logs/99/1/master?offset=0"):
        code, told = await door.ask("PUT", path, "evil", data=b"lies")
        assert (code, told["error"]["code"]) == (403, "forbidden")
    assert (await door.ask("GET", f"/v1/blobs/{source}", "evil"))[0] == 403
    assert (await door.open("HEAD", f"/v1/blobs/{source}", "evil")).code == 403
    data = b"not asked for"
    digest = hashlib.sha256(data).hexdigest()
    assert (await door.ask("PUT", f"/v1/blobs/{digest}", "evil", data=data))[0] == 403
    assert door.cluster.blobs.size(digest) is None
    for path in ("/v1/jobs", "/v1/tokens", f"/v1/jobs/{number}", "/v1/audit", "/v1/status"):
        assert (await door.ask("GET", path, "evil"))[0] == 401
    assert (await door.ask("POST", f"/v1/jobs/{number}/cancel", "evil", json={}))[0] == 401


@ensure
async def test_a_session_ends_with_its_connection(evil: tuple[Door, Hostile]) -> None:
    door, hostile = evil
    hostile.broker.transport.loseConnection()
    hostile.settle()
    code, _ = await door.ask("PUT", "/v1/logs/1/1/master?offset=0", "evil", data=b"x")
    assert code == 401


def test_more_outputs_than_a_part_can_have_are_refused(cluster: Cluster, hostile: Hostile) -> None:
    from syndicate.domain.errors import TooLarge
    from syndicate.manager.carriage import MOST_TIMES, OVERHEAD

    for host in ("v1", "v2", "v3"):
        cluster.hosts[host].stop()
    hostile.join()
    number = cluster.submit(machines=1)
    hostile.settle()
    most = cluster.job(number).spec.limits.disk + OVERHEAD
    carriage = cluster.manager.carriage
    carriage.check_fetch("evil", cluster.job(number).spec.sha256, "")
    with pytest.raises(TooLarge):
        carriage.check_bring("evil", "0" * 64, most + 1)
    for tarball in range(MOST_TIMES):
        carriage.check_bring("evil", f"{tarball:064x}", most)
        carriage.check_bring("evil", f"{tarball:064x}", most)  # the same again is no more
    with pytest.raises(TooLarge):
        carriage.check_bring("evil", "f" * 64, 1)
    # What it has brought for another part does not count.
    hostile.liar.answers["release"] = pack(Released())
    cluster.cancel(number)
    hostile.settle()
    cluster.submit(machines=1)
    hostile.settle()
    carriage.check_bring("evil", "f" * 64, most)


def test_a_log_has_no_more_than_its_cap(tmp_path: Path) -> None:
    from syndicate.blobs.logs import FileLogStore
    from syndicate.domain.errors import TooLarge

    logs = FileLogStore(tmp_path, 1 << 20, the_reactor())
    block = b"x" * (64 << 10)
    for number in range(16):
        logs.append(1, 1, "master", number * len(block), block)
    with pytest.raises((TooLarge, Invalid)):
        logs.append(1, 1, "master", 1 << 20, b"x")


def test_a_log_that_is_none_ends_where_it_stops_to_be_one() -> None:
    """Nothing is gathered of a frame that claims to have four gigabytes."""
    good = encode_frame(Frame(1.5, 1, b"a line\n"))
    decoder = Decoder()
    assert [frame.data for frame in decoder.feed(good)] == [b"a line\n"]
    assert decoder.feed(struct.pack(">QBI", 0, 1, 0xFFFFFFFF)) == []
    for _ in range(100):
        assert decoder.feed(good + b"x" * 1000) == []
    assert not decoder._held
    late = struct.pack(">QBI", 2**64 - 1, 1, 1) + b"x"
    (frame,) = Decoder().feed(late)
    assert timestamp(frame.at)


def test_samples_that_are_none_are_left_out(cluster: Cluster) -> None:
    lines = [
        b'{"t": 1.5, "op": "put", "ms": 2, "ok": true}',
        b"[]",
        b"7",
        b"{",
        b'{"t": 1}',
        b'{"t": NaN, "op": "x", "ms": 1, "ok": true}',
        b'{"t": 1, "op": "\\ud800", "ms": 1, "ok": true}',
        b"\xff",
        b'{"t": 2.5, "op": "get", "ms": 3, "ok": false}',
        b"x" * (3 << 20),
    ]
    stored = encode_frame(Frame(1.0, SAMPLES, b"\n".join(lines[:-1]) + b"\n"))
    for at in range(0, 3 << 20, 1 << 20):
        stored += encode_frame(Frame(1.0, SAMPLES, lines[-1][at : at + (1 << 20)]))
    cluster.logs.append(1, 1, "client[0]", 0, stored)
    told = b"".join(samples_as_csv(cluster.logs, 1)).decode().splitlines()
    assert told[1:] == ["1,client[0],1.5,put,2,true", "1,client[0],2.5,get,3,false"]
