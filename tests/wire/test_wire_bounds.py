"""The manager's door on the wire, before peers that break the protocol itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from syndicate.domain.errors import SyndicateError
from syndicate.spread.broker import MOST_MISTAKES
from syndicate.wire.pb.client import ManagerFactory
from syndicate.wire.pb.server import DoorFactory
from syndicate.wire.pb.values import MESSAGE_CAP, pack
from tests.fuzz.pb import JOINED, Wire
from tests.support.banana import GREETING, call, encoded
from tests.support.peers import NotingFleet, NotingWorker

SECRET = b"syn_aSecretThatIsNobodysBusiness"


@attrs.define
class Peer:
    """One connection to a door, and what became of it."""

    fleet: NotingFleet = attrs.field(factory=NotingFleet)
    clock: Clock = attrs.field(factory=Clock)
    refused: list[tuple[str, SyndicateError]] = attrs.field(factory=list)
    wire: Wire = attrs.field(init=False)

    greeting: bytes = GREETING

    def __attrs_post_init__(self) -> None:
        factory = DoorFactory(
            self.clock,
            lambda transport, name: None,
            self.fleet,
            lambda address, error: self.refused.append((address, error)),
        )
        factory.doStart()
        self.wire = Wire(factory.buildProtocol(None), "10.0.0.9")
        self.wire.say(self.greeting)
        self.wire.clear()

    def join(self) -> None:
        self.wire.say(call(b"join", pack(NotingWorker().hello()), [b"remote", 1]))
        assert JOINED in self.wire.value()
        self.wire.clear()

    def answers(self) -> bytes:
        said = self.wire.value()
        self.wire.clear()
        return bytes(said)


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.wire.loseConnection()


@pytest.fixture
def joined(peer: Peer) -> Peer:
    peer.join()
    return peer


VIOLATIONS = [
    (encoded([b"cachemessage", 1, b"root", b"join", 1, [b"tuple"], [b"dictionary"]]), "word"),
    (encoded([b"uncache", 1]), "unknown word"),
    (encoded([SECRET, 1]), "unknown word"),
    (encoded([]), "without a word"),
    (encoded(7), "without a word"),
    (encoded([[b"message"]]), "without a word"),
    (encoded([b"message", 1]), "as it should be"),
    (encoded([b"message", b"1", b"root", b"join", 1, [], []]), "as it should be"),
    (encoded([b"version", 7]), "version 7"),
    (encoded([b"answer", 9, b"x"]), "nobody waits"),
    (encoded([b"error", 9, b"x"]), "nobody waits"),
    (encoded([b"decref", 99]), "not there"),
    (encoded([b"decref", b"root"]), "it set off|not there"),
    (call(b"ping", wants_answer=0), "wants no answer"),
    (b"\x01\x80" * 50, "lists inside"),
    (encoded([1] * 200), "more than 64 items"),
    (encoded(b"x" * (MESSAGE_CAP + 1)), "bytes"),
]


@pytest.mark.parametrize(("data", "why"), VIOLATIONS)
@pytest.mark.parametrize("first", [False, True])
def test_who_breaks_the_protocol_is_cut_off_with_a_line_that_says_why(
    peer: Peer, data: bytes, why: str, first: bool
) -> None:
    if first:
        peer.join()
    with capturedLogs() as captured:
        peer.wire.say(data + call(b"join", b"{}", [b"remote", 1], number=7))
    assert peer.wire.lost
    assert not peer.answers()
    lines = [str(event.get("why", "")) for event in captured]
    told = lines if first else [str(error) for _, error in peer.refused]
    assert len(told) == 1
    assert re.search(why, told[0])
    assert len(told[0]) < 200
    assert not [event for event in captured if event.get("log_failure")]
    # Of who has not joined it is counted by address, and told by whoever counts.
    assert bool(peer.refused) is not first
    assert SECRET.decode() not in str(captured)


@pytest.mark.parametrize("word", [b"x", b"", 7, 1.5, [b"pb"], []])
def test_one_who_speaks_no_dialect_is_cut_off_at_the_first_word(word: object) -> None:
    with capturedLogs() as captured:
        peer = Peer(greeting=encoded(word) * 1000)
    assert peer.wire.lost
    assert [str(error) for _, error in peer.refused] == [
        "It does not speak as a volunteer does: no dialect that is spoken here."
    ]
    assert "log_legacy" not in {event["log_namespace"] for event in captured}


def test_a_volunteer_hangs_up_on_a_manager_that_offers_no_dialect() -> None:
    for offered in (encoded([b"x", 7]), encoded([]), encoded(7), encoded(b"pb")):
        broker: Any = ManagerFactory().buildProtocol(None)
        wire = Wire(broker, "10.0.0.1")
        with capturedLogs() as captured:
            wire.say(offered)
        assert wire.lost
        assert [event["why"] for event in captured] == ["no dialect that is spoken here"]


def test_one_who_has_joined_may_have_more_calls_under_way_than_one_who_has_not(
    joined: Peer,
) -> None:
    joined.fleet.answer = Deferred
    for number in range(300):
        if joined.wire.lost:
            break
        joined.wire.say(call(b"clean", pack(""), number=number, target=1))
    assert len([each for each in joined.fleet.said if each == ("v1", "")]) == 256
    assert joined.answers().count(b"unavailable") == MOST_MISTAKES
    assert joined.wire.lost


def test_calls_that_are_none_are_refused_until_there_are_too_many(joined: Peer) -> None:
    for number in itertools.count():
        joined.wire.say(call(b"nonsense", number=number, target=1))
        if joined.wire.lost:
            break
    assert number == MOST_MISTAKES
    assert joined.answers().count(b"There is nothing here called") == MOST_MISTAKES


def test_a_peer_that_does_not_read_is_not_read_from(joined: Peer) -> None:
    producer: Any = joined.wire.producer
    assert producer is joined.wire.protocol
    producer.pauseProducing()
    joined.wire.say(call(b"ping", target=1) * 100)
    assert not joined.answers()
    producer.resumeProducing()
    assert joined.answers().count(b"\x1b\x87") == 100


def test_nothing_is_answered_after_the_end(joined: Peer) -> None:
    answer: Deferred[None] = Deferred()
    joined.fleet.answer = lambda: answer
    joined.wire.say(call(b"clean", pack(""), target=1))
    joined.wire.say(encoded([b"uncache", 1]))
    assert joined.wire.lost
    answer.callback(None)
    assert not joined.answers()


def test_a_stranger_who_sends_half_a_message_is_cut_off_in_time(peer: Peer) -> None:
    peer.wire.say(encoded([b"message", 1, b"root"])[:-2])
    cut = []
    for _ in range(21):
        peer.clock.advance(1)
        cut.append(peer.wire.lost)
    assert cut == [False] * 19 + [True] * 2
    assert not peer.clock.getDelayedCalls()
