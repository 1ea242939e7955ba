"""The door's Perspective Broker, for Twisted programs; `syndicate.client.pb` is the other end.

One root object answers to the verbs of `syndicate.client.calls`: each takes what goes with it, as
JSON in bytes, if anything does, and at last a token, or None. It answers with JSON in bytes, and
fails with a `Refusal`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.jelly import SecurityOptions
from zope.interface import implementer

from syndicate.client.calls import FAULTS, Calls
from syndicate.client.gate import Gate
from syndicate.client.pb import Refusal
from syndicate.domain.errors import Internal, Invalid, SyndicateError, TooLarge

log = Logger()

#: Most bytes of one message with all that is in it.
MESSAGE_CAP = 1 << 20
#: Most bytes of an answer: Banana refuses more than 640 KiB in one string.
ANSWER_CAP = 512 << 10
#: Bytes that PB's parser is given at once.
PIECE = 8192

#: The verbs with something that goes with them, and those with nothing.
_WITH_ARGUMENT = FAULTS | {"finish", "mark", "samples", "events"}
_WITHOUT = {"job", "faults"}


class Root(pb.Root):
    """The object that is reached first, and the only one."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def remoteMessageReceived(self, broker: Any, message: str, args: Any, kw: Any) -> Any:
        """Answer a call. Not by methods: a name that is none is no defect of ours."""
        try:
            arguments, named = broker.unserialize(args), broker.unserialize(kw)
        except Exception as error:  # noqa: BLE001  (whatever a peer's values set off in Jelly)
            raise Refusal("invalid", f"The arguments are none: {error!r}.", "{}") from None
        answer = self._answer(message, arguments, named)
        return broker.serialize(answer.addCallback(_pack).addErrback(_refuse))

    def _answer(self, verb: str, arguments: Any, named: Any) -> Deferred[Any]:
        count = 2 if verb in _WITH_ARGUMENT else 1
        if verb not in _WITH_ARGUMENT and verb not in _WITHOUT:
            return fail(Invalid(f"A client cannot ask for {verb[:100]!r}."))
        if not isinstance(arguments, tuple) or len(arguments) != count or named:
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
    if verb in ("samples", "events"):
        return given
    if not isinstance(given, bytes):
        raise Invalid(f"What goes with {verb} is JSON in bytes.")
    try:
        return json.loads(given or b"{}")
    except (ValueError, RecursionError) as error:
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


@implementer(IPushProducer)
class DoorBroker(pb.Broker):
    """One connection; it is not read from while its peer does not read."""

    #: Bytes of the message that is being received.
    _pending = 0
    #: Bytes that have come, and wait until what was answered before has been read.
    _unread = b""
    _choked = False
    _parted = False

    def __init__(self, gate: Gate, security: SecurityOptions) -> None:
        super().__init__(isClient=False, security=security)
        self._gate = gate

    @property
    def _wire(self) -> Any:
        # What a broker calls its transport has no type that knows of producers.
        return self.transport

    def connectionMade(self) -> None:
        if self._gate.enter(self):
            self._wire.registerProducer(self, True)
            super().connectionMade()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        self._gate.leave(self)

    def dataReceived(self, chunk: bytes) -> None:
        # PB's parser copies the rest of what it is given for every item that it finds there, and
        # answers all that it is given.
        self._unread += chunk
        while self._unread and not self._choked and not self._parted:
            piece, self._unread = self._unread[:PIECE], self._unread[PIECE:]
            self._pending += len(piece)
            if self._pending > MESSAGE_CAP:
                self._part("a message is too long")
                return
            try:
                super().dataReceived(piece)
            except Exception as error:  # noqa: BLE001  (whatever a peer's bytes set off in it)
                self._part(repr(error)[:200])

    def callExpressionReceived(self, obj: object) -> None:
        self._pending = 0
        super().callExpressionReceived(obj)

    def proto_message(
        self, number: Any, object_id: Any, name: Any, wants_answer: Any, args: Any, kw: Any
    ) -> None:
        """A call; one that wants no answer could not be told that it was refused."""
        if not wants_answer:
            self._part("a call wants no answer")
            return
        super().proto_message(number, object_id, name, wants_answer, args, kw)

    def _part(self, why: str) -> None:
        self._parted = True
        log.warn("a client's connection was broken off: {why}", why=why)
        self._wire.abortConnection()

    def pauseProducing(self) -> None:
        """The peer does not read."""
        self._choked = True
        self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        """It reads again."""
        self._choked = False
        self.dataReceived(b"")
        if not self._choked:
            self._wire.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost."""


class BrokerFactory(pb.PBServerFactory):
    """Makes the connections."""

    noisy = False
    unsafeTracebacks = False

    def __init__(self, gate: Gate, calls: Calls) -> None:
        super().__init__(Root(calls))
        self._gate, self._security = gate, SecurityOptions()
        self._security.allowBasicTypes()

    def buildProtocol(self, addr: object) -> DoorBroker | None:
        if self._gate.full:
            return None
        broker: Any = DoorBroker(self._gate, self._security)
        broker.factory = self
        broker.setNameForLocal("root", self.root.rootObject(broker))
        return broker  # type: ignore[no-any-return]
