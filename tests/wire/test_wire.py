"""The promises of the wire, joined directly and over Perspective Broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.spread import pb
from twisted.test import iosim
from zope.interface.verify import verifyObject

from syndicate.domain.errors import (
    Forbidden,
    Internal,
    Invalid,
    InvalidSource,
    NotClean,
    SyndicateError,
    Unauthorized,
    VolunteerLost,
    WrongVersion,
)
from syndicate.domain.fault import Links
from syndicate.wire.interface import (
    PROTOCOL,
    Ask,
    EndReport,
    FaultDone,
    FaultOrder,
    Holding,
    IManager,
    IVolunteer,
)
from syndicate.wire.memory import MemoryLink
from syndicate.wire.pb.client import ManagerFactory, join
from syndicate.wire.pb.connection import LOGIN_TIME
from syndicate.wire.pb.errors import call
from syndicate.wire.pb.server import DoorFactory
from syndicate.wire.pb.values import MESSAGE_CAP, pack, unpack
from tests.support.peers import ORDER, PART, NotingFleet, NotingWorker, failing


def admit_good_ones(transport: Any, name: str) -> None:
    """Lets in whose name says so."""
    if name == "bad":
        raise Unauthorized("This certificate was replaced by a newer one.")
    if name == "other":
        raise Forbidden("This certificate is that of v1.")


@attrs.define
class Joined:
    """Both ends, and how to let time pass and to break what joins them."""

    fleet: NotingFleet
    worker: NotingWorker
    turn: Callable[[], None]
    cut: Callable[[], None]
    #: Over Perspective Broker only.
    clock: Clock = attrs.field(factory=Clock)
    joining: Deferred[None] = attrs.field(factory=Deferred)

    @property
    def volunteer(self) -> IVolunteer:
        return self.fleet.links[-1]

    @property
    def manager(self) -> IManager:
        return self.worker.managers[-1]

    def result_of(self, deferred: Deferred[Any]) -> Any:
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        for _ in range(3):
            self.turn()
        assert outcome, "no answer came"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


def over_pb(worker: NotingWorker) -> Joined:
    fleet, clock = NotingFleet(), Clock()
    server_factory = DoorFactory(clock, admit_good_ones, fleet)
    client_factory = ManagerFactory()
    client: Any
    client, _server, pump = iosim.connectedServerAndClient(
        lambda: server_factory.buildProtocol(None),
        lambda: client_factory.buildProtocol(None),
        clock=clock,
    )

    def cut() -> None:
        client.transport.loseConnection()
        pump.flush()

    def turn() -> None:
        clock.advance(0)
        pump.flush()

    async def dial() -> None:
        await join(clock, await client_factory.getRootObject(), worker)

    joining = Deferred.fromCoroutine(dial())
    return Joined(fleet, worker, turn, cut, clock, joining)


@pytest.fixture(params=["memory", "pb"])
def joined(request: pytest.FixtureRequest) -> Joined:
    worker = NotingWorker()
    if request.param == "pb":
        link = over_pb(worker)
        link.result_of(link.joining)
        return link
    fleet, clock = NotingFleet(), Clock()
    memory = MemoryLink(clock, fleet, worker)
    return Joined(fleet, worker, lambda: clock.advance(0), memory.cut)


def test_both_ends_provide_their_ports(joined: Joined) -> None:
    verifyObject(IVolunteer, joined.volunteer)
    verifyObject(IManager, joined.manager)


def test_the_hello_arrives_as_it_was_said(joined: Joined) -> None:
    assert joined.fleet.said == [joined.worker.hello()]
    assert joined.worker.welcomes[0].session == "session"
    assert joined.volunteer.name == "v1"


def test_orders_arrive_as_they_were_given(joined: Joined) -> None:
    joined.result_of(joined.volunteer.prepare(ORDER))
    joined.result_of(joined.volunteer.start(PART))
    joined.result_of(joined.volunteer.release(PART))
    assert joined.worker.orders == [ORDER, ("start", PART), ("release", PART)]


def test_reports_arrive_as_they_were_made(joined: Joined) -> None:
    report = EndReport(PART, exit_code=3, log_bytes=9, outputs="b" * 64)
    joined.result_of(joined.manager.ended(report))
    joined.result_of(joined.manager.clean("a file is left"))
    assert joined.fleet.said[1:] == [("v1", report), ("v1", "a file is left")]


def test_faults_are_ordered_and_answered(joined: Joined) -> None:
    links = Links(("10.0.0.2",), (("10.0.0.3", 30.0),))
    order = FaultOrder(PART, 7, "links", links=links, later=((1.5, Links()),))
    assert joined.result_of(joined.volunteer.inflict(order)) == FaultDone(1.5, 2.5, "seen")
    assert joined.worker.orders == [order]


def test_a_clients_request_is_passed_on_whole(joined: Joined) -> None:
    ask = Ask(PART, "kill", {"machine": "slave[0]", "list": [1, None]})
    assert joined.result_of(joined.manager.ask(ask)) == {"you asked": "kill"}
    assert joined.fleet.said[-1] == ("v1", ask)


def test_pings_are_answered_both_ways(joined: Joined) -> None:
    assert joined.result_of(joined.volunteer.ping()) == 42.0
    joined.result_of(joined.manager.ping())


def test_an_error_arrives_as_its_own_class_with_its_details(joined: Joined) -> None:
    joined.worker.answer = failing(InvalidSource("No Makefile; add one.", member="x"))
    with pytest.raises(InvalidSource, match=r"No Makefile; add one\.") as caught:
        joined.result_of(joined.volunteer.prepare(ORDER))
    assert caught.value.details["member"] == "x"
    joined.fleet.answer = failing(NotClean("A process is left."))
    with pytest.raises(NotClean):
        joined.result_of(joined.manager.clean(""))


def test_a_broken_link_fails_what_is_in_flight_and_tells_both_ends(joined: Joined) -> None:
    never: Deferred[None] = Deferred()
    joined.worker.answer = lambda: never
    waiting = joined.volunteer.prepare(ORDER)
    joined.turn()
    volunteer = joined.volunteer
    joined.cut()
    with pytest.raises(VolunteerLost):
        joined.result_of(waiting)
    assert joined.fleet.said[-1] == ("lost", "v1")
    assert joined.worker.managers == []
    with pytest.raises(VolunteerLost):
        joined.result_of(volunteer.ping())


def test_dropping_a_link_breaks_it_for_both(joined: Joined) -> None:
    joined.volunteer.drop()
    joined.turn()
    assert joined.worker.managers == []


# Over Perspective Broker only: what strangers and defects look like.


@pytest.mark.parametrize(("name", "error"), [("bad", Unauthorized), ("other", Forbidden)])
def test_a_certificate_that_does_not_fit_is_refused_without_a_traceback(
    name: str, error: type[SyndicateError]
) -> None:
    link = over_pb(NotingWorker(name))
    with capturedLogs() as captured, pytest.raises(error):
        link.result_of(link.joining)
    assert not [event for event in captured if event.get("log_failure")]
    assert link.fleet.said == []


def test_another_protocol_is_refused_with_what_to_do() -> None:
    link = over_pb(NotingWorker(protocol=99))
    with pytest.raises(WrongVersion, match="upgrade"):
        link.result_of(link.joining)


@attrs.frozen
class OtherHello:
    """What a volunteer of another version says; only the number is known here."""

    protocol: int
    greeting: str = "hello there"


@pytest.mark.parametrize(
    ("protocol", "who"), [(PROTOCOL - 1, "the volunteer"), (PROTOCOL + 1, "the manager")]
)
def test_a_hello_of_another_version_need_not_be_understood_to_be_refused(
    protocol: int, who: str
) -> None:
    class Other(NotingWorker):
        def hello(self) -> Any:
            return OtherHello(protocol)

    link = over_pb(Other())
    with pytest.raises(WrongVersion, match=f"upgrade {who}"):
        link.result_of(link.joining)
    assert link.fleet.said == []


def test_a_stranger_who_never_logs_in_is_sent_away() -> None:
    fleet, clock = NotingFleet(), Clock()
    factory = DoorFactory(clock, admit_good_ones, fleet)
    client, _, pump = iosim.connectedServerAndClient(
        lambda: factory.buildProtocol(None),
        lambda: pb.PBClientFactory().buildProtocol(None),
        clock=clock,
    )
    clock.advance(LOGIN_TIME + 1)
    pump.flush()
    assert client.disconnected
    assert fleet.said == []


def test_one_who_has_joined_is_not_sent_away() -> None:
    link = over_pb(NotingWorker())
    link.result_of(link.joining)
    link.clock.advance(LOGIN_TIME + 1)
    link.turn()
    link.result_of(link.volunteer.ping())


def test_a_defect_crosses_as_an_incident_and_is_logged_whole() -> None:
    link = over_pb(NotingWorker())
    link.result_of(link.joining)
    link.worker.answer = failing(ZeroDivisionError("secret detail"))
    with capturedLogs() as captured, pytest.raises(Internal) as caught:
        link.result_of(link.volunteer.prepare(ORDER))
    assert "secret detail" not in str(caught.value)
    incident = caught.value.details["incident"]
    assert any(event.get("incident") == incident for event in captured)


@pytest.mark.parametrize(
    "message", [None, 3, "text", b"", b"[]", b"{", b'{"part": 1}', b"[" * 100_000, ["a"]]
)
def test_a_message_of_another_shape_is_refused(message: Any) -> None:
    link = over_pb(NotingWorker())
    link.result_of(link.joining)
    orders = link.volunteer._reference  # type: ignore[attr-defined]
    with pytest.raises(SyndicateError, match=r"(is none|no JSON|This is no)"):
        link.result_of(Deferred.fromCoroutine(_raw(link, orders, message)))
    assert link.worker.orders == []


async def _raw(link: Joined, reference: Any, message: Any) -> Any:
    return await call(link.clock, reference, "prepare", message)


def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    with pytest.raises(Invalid, match="cannot cross"):
        pack("x" * (MESSAGE_CAP + 1))


def test_values_cross_unchanged() -> None:
    assert unpack(pack(ORDER), type(ORDER)) == ORDER
    hello = NotingWorker(holding=Holding(1, 2, "master")).hello()
    assert unpack(pack(hello), type(hello)) == hello
