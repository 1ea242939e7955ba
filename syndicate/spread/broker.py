"""Perspective Broker for peers that are not trusted.

Each connection is read within `Bounds`, builds plain values and references and nothing else, and
answers at most so many calls at a time. What is no call gets a clear refusal if there is somebody
to tell it to, and ends the connection where the peer breaks the protocol itself. No traceback
crosses, and nothing that a peer sends gets into the log as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.spread.jelly import unjelly
from zope.interface import implementer

from syndicate.spread.decoder import Bounds, Decoder, Violation
from syndicate.spread.jelly import PLAIN, Malformed, check

log = Logger()

#: Bytes that are decoded before it is looked whether the peer still reads its answers.
PIECE = 8192

#: Calls of one connection that are no calls, after which it is ended.
MOST_MISTAKES = 16


class OnlyTypes:
    """Lets Jelly build what is named here, by exact name; Twisted's options let every name with a
    dot pass that any module has registered a class for.
    """

    def __init__(self, names: Collection[bytes]) -> None:
        self._names = frozenset(names)

    def isTypeAllowed(self, name: object) -> bool:
        """Whether a peer may send it."""
        return isinstance(name, bytes) and name in self._names

    def isModuleAllowed(self, name: object) -> bool:
        """No module."""
        return False

    def isClassAllowed(self, kind: object) -> bool:
        """No class that has not been registered and named."""
        return False


#: Makes the error that crosses: of a code and a sentence.
Refuse = Callable[[str, str], pb.Error]


@implementer(IPushProducer)
class BoundedBroker(pb.Broker):
    """One connection; it is not read from while its peer does not read.

    :param refuse: makes the errors that it answers with by itself.
    :param types: names of what Jelly may build.
    """

    #: Whether mistakes in calls are worth a line in the log.
    tells = True
    #: Is told why the connection was ended, instead of the log.
    parted: Callable[[str], None] | None = None
    #: Why it was lost, once it is.
    lost: BaseException | None = None

    def __init__(
        self,
        bounds: Bounds,
        refuse: Refuse,
        types: Collection[bytes] = PLAIN,
        *,
        isClient: bool = False,
    ) -> None:
        super().__init__(isClient=isClient)
        self._kinds, self._taster = frozenset(types), OnlyTypes(types)
        self._decoder = Decoder(bounds, self.callExpressionReceived)
        self._refuse = refuse
        #: Bytes that have come, and wait until what was answered before has been read.
        self._unread = b""
        self._choked = self._parted = self._heard = False
        self._calls = self._mistakes = 0

    @property
    def bounds(self) -> Bounds:
        """What the peer may send now."""
        return self._decoder.bounds

    @bounds.setter
    def bounds(self, bounds: Bounds) -> None:
        self._decoder.bounds = bounds

    @property
    def _wire(self) -> Any:
        # What a broker calls its transport has no type that knows of producers.
        return self.transport

    @property
    def peer(self) -> str:
        """Where the peer is, for the log."""
        address = self._wire.getPeer()
        return str(getattr(address, "host", "") or "its socket")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See `twisted.spread.pb.Broker`, which tells nobody why."""
        self.lost = reason.value
        super().connectionLost(reason)

    # What comes.

    def dataReceived(self, chunk: bytes) -> None:
        """Decode, piece by piece, what the peer may say now."""
        if not self._heard:
            # From now on the transport says when the peer does not read. Before the first byte
            # TLS may still shake hands: it pauses whoever writes then, and could not go on
            # itself if we stopped reading for that.
            self._heard = True
            self._wire.registerProducer(self, True)
        self._unread += chunk
        while self._unread and not self._choked and not self._parted:
            piece, self._unread = self._unread[:PIECE], self._unread[PIECE:]
            try:
                self._decoder.feed(piece)
            except Violation as violation:
                self.part(str(violation))
            except Exception as error:  # noqa: BLE001  (whatever a peer's bytes set off in PB)
                self.part(f"it set off {type(error).__name__}")

    def callExpressionReceived(self, obj: object) -> None:
        """See `twisted.spread.banana.Banana`; nothing is looked at after the end."""
        if self._parted or self.disconnected:
            return
        if not self.currentDialect:
            # Banana itself has a line in its log for each of them, and goes on reading.
            offered = obj if self.isClient else [obj]
            if not (isinstance(offered, list) and set(_words(offered)) & set(self.knownDialects)):
                raise Violation("no dialect that is spoken here")
        super().callExpressionReceived(obj)

    def expressionReceived(self, sexp: Any) -> None:
        """Do what a message says. The words for caches, which are not used, are unknown here."""
        if not isinstance(sexp, list) or not sexp or not isinstance(sexp[0], bytes):
            raise Violation("a message without a word")
        kinds = _MESSAGES.get(sexp[0])
        if kinds is None:
            raise Violation("an unknown word")
        if len(sexp) - 1 != len(kinds) or not all(map(isinstance, sexp[1:], kinds)):
            raise Violation(f"no {sexp[0].decode()} as it should be")
        getattr(self, f"proto_{sexp[0].decode()}")(*sexp[1:])

    def proto_message(
        self, number: Any, object_id: Any, name: Any, wants_answer: Any, args: Any, kw: Any
    ) -> None:
        """A call; one that wants no answer could not be told that it was refused."""
        if not wants_answer:
            raise Violation("a call that wants no answer")
        if self._calls >= self.bounds.calls:
            most = self.bounds.calls
            self._mistake(number, "unavailable", f"{most} calls wait for their answers already.")
            return
        target = self.localObjectForID(object_id)
        if target is None:
            self._mistake(number, "not_found", "There is no such reference here.")
            return
        word = name.decode("ascii", "replace")
        if not word.isidentifier():
            self._mistake(number, "invalid", "The name of what is called is none.")
            return
        if args[:1] != [b"tuple"] or kw != [b"dictionary"]:
            self._mistake(number, "invalid", "A call has values in a row, and none by name.")
            return
        self._calls += 1
        try:
            answer = target.remoteMessageReceived(self, word, args, kw)
        except pb.Error as error:
            self._calls -= 1
            self._said_no(number, error)
        except AttributeError:  # what Twisted says of a method that is not there
            self._calls -= 1
            self._mistake(number, "invalid", f"There is nothing here called {word[:40]!r}.")
        except Malformed as error:
            self._calls -= 1
            self._mistake(number, "invalid", f"What goes with {word[:40]!r} has {error}.")
        except Exception:  # noqa: BLE001  (a defect of ours: it is logged whole, and does not cross)
            self._calls -= 1
            log.failure("a call of a peer failed: {word}", word=word[:40])
            self._said_no(number, self._refuse("internal", "The other end failed."))
        else:
            self._answer(number, answer)

    def proto_answer(self, number: Any, result: Any) -> None:
        """An answer; one that cannot be built leaves its call to the end of the connection."""
        self._settle(number, result)

    def proto_error(self, number: Any, result: Any) -> None:
        """An error as an answer."""
        self._settle(number, result, error=True)

    def _settle(self, number: int, result: Any, *, error: bool = False) -> None:
        waiting_for: dict[int, Deferred[Any]] = self.waitingForAnswers or {}
        if number not in waiting_for:
            raise Violation("an answer that nobody waits for")
        value = self.unserialize(result)
        if error and not isinstance(value, Failure | Exception):
            raise Violation("an error that is none")
        waiting = waiting_for.pop(number)
        if error:
            waiting.errback(value if isinstance(value, Failure) else Failure(value))
        else:
            waiting.callback(value)

    def unserialize(self, sexp: Any, perspective: Any = None) -> Any:
        """What a peer's values describe; other rules hold for what is sent.

        :raises Malformed: no value, or one that is not let in.
        """
        check(sexp, self._kinds)
        self.unserializingPerspective = perspective
        try:
            return unjelly(sexp, self._taster, None, self)
        finally:
            self.unserializingPerspective = None

    def proto_version(self, number: Any) -> None:
        """The version of PB itself."""
        if number != self.version:
            raise Violation(f"version {number} of Perspective Broker")

    def proto_decref(self, object_id: Any) -> None:
        """The peer needs a reference no more."""
        if object_id not in self.localObjects:
            raise Violation("the end of a reference that is not there")
        super().proto_decref(object_id)

    # What goes.

    def sendDecRef(self, objectID: Any) -> None:
        """Tell the peer that we need a reference no more, if there is anybody to tell."""
        if not (self._parted or self.disconnected):
            super().sendDecRef(objectID)

    def _answer(self, number: int, answer: Any) -> None:
        if not isinstance(answer, Deferred):
            self._calls -= 1
            self._sendAnswer(answer, number)
            return

        def broken(failure: Failure) -> None:
            self.part(f"its answer set off {type(failure.value).__name__}")

        def settled(result: Any) -> None:
            self._calls -= 1
            if self._parted or self.disconnected:
                return
            if not isinstance(result, Failure):
                self._sendAnswer(result, number)
            elif isinstance(result.value, pb.Error):
                self._said_no(number, result.value)
            else:
                log.failure("an answer to a peer failed", result)
                self._said_no(number, self._refuse("internal", "The other end failed."))

        answer.addBoth(settled)
        answer.addErrback(broken)

    def _said_no(self, number: int, error: pb.Error) -> None:
        self.sendCall(b"error", number, self.serialize(error))

    def _mistake(self, number: int, code: str, message: str) -> None:
        """Refuse what is no call; a peer that goes on with it is sent away."""
        self._mistakes += 1
        if self.tells:
            log.warn("{peer} was refused a call: {why}", peer=self.peer, why=message)
        if self._mistakes > MOST_MISTAKES:
            raise Violation(f"more than {MOST_MISTAKES} calls that were none")
        self._said_no(number, self._refuse(code, message))

    def part(self, why: str) -> None:
        """End the connection, as the peer breaks the protocol."""
        if self._parted:
            return
        self._parted = True
        self._unread = b""
        if self.parted is not None:
            self.parted(why)
        else:
            log.warn("the connection of {peer} was broken off: {why}", peer=self.peer, why=why)
        self._wire.abortConnection()

    def hang_up(self) -> None:
        """End the connection in order, once everything is sent; it is lost a little later.

        TLS waits with its own last word for as long as somebody wants to be told whether the peer
        reads, so whoever just loses the connection would wait for ever.
        """
        if self._heard and not self.disconnected:
            self._wire.unregisterProducer()
        self._wire.loseConnection()

    # Whether the peer reads.

    def pauseProducing(self) -> None:
        """It does not."""
        self._choked = True
        self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        """It reads again."""
        self._choked = False
        self.dataReceived(b"")
        if not self._choked and not self._parted:
            self._wire.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost."""


def _words(values: list[Any]) -> list[bytes]:
    return [value for value in values if isinstance(value, bytes)]


#: The messages that are known, with what they are made of.
_MESSAGES: dict[bytes, tuple[Any, ...]] = {
    b"version": (int,),
    b"message": (int, int | bytes, bytes, int, list, list),
    b"answer": (int, object),
    b"error": (int, object),
    b"decref": (int | bytes,),
}
