"""When a volunteer dials the manager again."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport
from zope.interface import implementer

from syndicate.domain.errors import Unauthorized, Unavailable
from syndicate.domain.volunteer import Facts
from syndicate.manager.member import Member
from syndicate.volunteer.service import Session
from syndicate.wire.interface import PROTOCOL, Welcome
from syndicate.wire.pb.client import LONGEST_PAUSE, ManagerDialler
from tests.support.peers import NotingWorker


@implementer(IStreamClientEndpoint)
@attrs.define(eq=False)
class Place:
    """Where nobody listens, or somebody who gives no certificate, or one who hangs up at once."""

    clock: Clock
    #: Why it cannot be connected to; None where it can.
    error: Exception | None
    #: When it was dialled.
    dialled: list[float] = attrs.field(factory=list)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.dialled.append(self.clock.seconds())
        if self.error is not None:
            return fail(self.error)
        protocol = protocolFactory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 7070))
        assert protocol is not None
        protocol.makeConnection(FakeTransport(protocol, isServer=False))
        self.clock.callLater(0, protocol.connectionLost, Failure(ConnectionLost()))
        return succeed(protocol)


def pauses(error: Exception | None, seconds: float) -> list[float]:
    clock = Clock()
    place = Place(clock, error)
    dialler = ManagerDialler(clock, place, NotingWorker("v1"))
    dialler.start()
    for _ in range(round(seconds / 0.01)):
        clock.advance(0.01)
    dialler.stop()
    times = place.dialled
    return [later - sooner for sooner, later in itertools.pairwise(times)]


@pytest.mark.parametrize("error", [ConnectionRefusedError(), Unavailable("It does not answer.")])
def test_a_manager_that_is_being_started_is_found_soon_after_it_is_there(error: Exception) -> None:
    found = pauses(error, 1.0)
    assert max(found[:3]) < 0.25
    assert len(found) >= 4


def test_one_that_stays_away_is_dialled_ever_less_often_and_never_given_up() -> None:
    found = pauses(ConnectionRefusedError(), 600.0)
    assert min(found[-20:]) >= LONGEST_PAUSE / 2
    assert max(found) <= LONGEST_PAUSE + 0.02


def test_volunteers_that_have_waited_long_do_not_come_at_the_same_moment() -> None:
    ends = [sum(pauses(ConnectionRefusedError(), 60.0)) for _ in range(20)]
    assert max(ends) - min(ends) > 1.0


@pytest.mark.parametrize("error", [None, Unauthorized("Not with this join token.")])
def test_who_hangs_up_or_refuses_is_not_dialled_again_at_once(error: Exception | None) -> None:
    found = pauses(error, 10.0)
    assert len(found) > 2
    assert min(found) >= 0.3


@pytest.mark.parametrize("error", [None, ConnectionRefusedError()])
def test_no_try_puts_more_into_the_log_than_where_it_went(error: Exception | None) -> None:
    said: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        said.append(formatEvent(event))

    worker = NotingWorker("v1")
    globalLogPublisher.addObserver(observe)
    try:
        clock = Clock()
        dialler = ManagerDialler(clock, Place(clock, error), worker)
        dialler.start()
        for _ in range(300):
            clock.advance(0.01)
        dialler.stop()
    finally:
        globalLogPublisher.removeObserver(observe)
    retries = [text for text in said if "Scheduling retry" in text]
    assert retries
    assert all("Place(" in text and "NotingWorker" not in text for text in retries)
    assert repr(dialler) == repr(dialler._endpoint)


def test_what_holds_a_secret_does_not_show_it() -> None:
    secret = "s" * 43
    welcome = Welcome(PROTOCOL, "lab", 1, secret, 5.0, 15.0)
    facts = Facts("192.0.2.7", 1, 1, "", "", "")
    member = Member("v1", facts, "boot", 0.0, 0.0, session=secret)
    for holder in (Session(secret), welcome, member):
        assert secret in str(attrs.asdict(holder, recurse=False))
        assert secret not in repr(holder)
