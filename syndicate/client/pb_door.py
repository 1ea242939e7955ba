"""The door's Perspective Broker, for Twisted programs; `syndicate.client.pb` is the other end.

One root object answers to the verbs of `syndicate.client.calls`: each takes what goes with it, as
JSON in bytes, if anything does, and at last a token, or None. It answers with JSON in bytes, and
fails with a `Refusal`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb

from syndicate.client.calls import FAULTS, Calls
from syndicate.client.gate import Gate
from syndicate.client.pb import Refusal
from syndicate.domain.errors import Internal, Invalid, SyndicateError, TooLarge
from syndicate.plain import read_json
from syndicate.spread.broker import BoundedBroker
from syndicate.spread.decoder import Bounds

log = Logger()

#: What a client may send in one message, and how many of its calls may wait on one connection.
BOUNDS = Bounds(string=640 << 10, message=1 << 20, items=1000, depth=10, calls=256)
#: Most bytes of an answer: Banana refuses more than 640 KiB in one string.
ANSWER_CAP = 512 << 10

#: The verbs with something that goes with them, and those with nothing.
_WITH_ARGUMENT = FAULTS | {"finish", "mark", "samples", "events", "show"}
_WITHOUT = {"job"}
#: The verbs that do with and without.
_WITH_OR_WITHOUT = {"faults"}


class Root(pb.Root):
    """The object that is reached first, and the only one."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        """Answer a call. Not by methods: a name that is none is no defect of ours."""
        arguments, named = broker.unserialize(args), broker.unserialize(kw)
        answer = self._answer(message, arguments, named)
        return broker.serialize(answer.addCallback(_pack).addErrback(_refuse))

    def _answer(self, verb: str, arguments: Any, named: Any) -> Deferred[Any]:
        if verb not in _WITH_ARGUMENT | _WITHOUT | _WITH_OR_WITHOUT:
            return fail(Invalid(f"A client cannot ask for {verb[:100]!r}."))
        counts = {1, 2} if verb in _WITH_OR_WITHOUT else {2 if verb in _WITH_ARGUMENT else 1}
        if not isinstance(arguments, tuple) or len(arguments) not in counts or named:
            count = " or ".join(map(str, sorted(counts)))
            return fail(Invalid(f"{verb} takes {count} arguments, the last of them a token."))
        *given, token = arguments
        if isinstance(token, bytes):
            token = token.decode("utf-8", "replace")
        if token is not None and not isinstance(token, str):
            return fail(Invalid(f"The token of a call is a text, not {type(token).__name__}."))
        try:
            argument = _read(verb, given[0]) if given else None
        except Invalid as error:
            return fail(error)
        return self._calls.call(verb, argument, token)


def _read(verb: str, given: object) -> Any:
    if verb in ("samples", "events", "faults"):
        return given
    if verb == "show" and isinstance(given, bytes):
        return given.decode("utf-8", "replace")
    if not isinstance(given, bytes):
        raise Invalid(f"What goes with {verb} is JSON in bytes.")
    try:
        return read_json(given or b"{}")
    except ValueError as error:
        raise Invalid(f"What goes with {verb} is no JSON: {error}.") from error


def _pack(value: Any) -> bytes:
    data = _encode(value)
    # Of events, those that are left out come with the next call.
    while len(data) > ANSWER_CAP and isinstance(value, list) and len(value) > 1:
        value = value[: len(value) // 2]
        data = _encode(value)
    if len(data) > ANSWER_CAP:
        raise TooLarge(
            f"The answer has {len(data)} bytes; Perspective Broker may carry {ANSWER_CAP}. "
            "HTTP carries all."
        )
    return data


def _encode(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str).encode()


def _refuse(failure: Failure) -> Failure:
    error = failure.value
    if not isinstance(error, SyndicateError):
        log.failure("a call to a door failed", failure)
        error = Internal("The volunteer failed; its log tells more.")
    details = json.dumps(dict(error.details), default=str)
    return Failure(Refusal(error.code, error.message, details))


class DoorBroker(BoundedBroker):
    """One connection of a client."""

    #: A client's mistakes are told to it; they are not the operator's business.
    tells = False

    def __init__(self, gate: Gate) -> None:
        super().__init__(BOUNDS, _refusal)
        self._gate = gate

    def connectionMade(self) -> None:
        if self._gate.enter(self):
            super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        self._gate.leave(self)


def _refusal(code: str, message: str) -> Refusal:
    return Refusal(code, message, "{}")


class BrokerFactory(pb.PBServerFactory):
    """Makes the connections."""

    noisy = False
    unsafeTracebacks = False

    def __init__(self, gate: Gate, calls: Calls) -> None:
        super().__init__(Root(calls))
        self._gate = gate

    def buildProtocol(self, addr: object) -> DoorBroker | None:
        if self._gate.full:
            return None
        broker: Any = DoorBroker(self._gate)
        broker.factory = self
        broker.setNameForLocal("root", self.root.rootObject(broker))
        return broker  # type: ignore[no-any-return]
