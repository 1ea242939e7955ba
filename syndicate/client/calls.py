"""What a client may ask, whichever way it has come: checked, counted, and handed to the handle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from syndicate.client.interface import IHandle
from syndicate.client.rate import Rate
from syndicate.client.samples import check_samples
from syndicate.domain.errors import (
    Internal,
    Invalid,
    Revoked,
    SyndicateError,
    TooMany,
    Unavailable,
)
from syndicate.domain.fault import Kind
from syndicate.domain.job import Limits
from syndicate.once import Once

log = Logger()

#: Most calls of one client that are under way at once.
MOST_CALLS = 256
#: Samples that a client of a job that does not say may send in a second, in the long run; the
#: answers to more are held back.
SAMPLE_RATE = int(Limits().samples)
#: Seconds' worth of samples that may come at once.
SAMPLE_BURST = 1.0
#: Times that Finish may be said in a second: once is enough, but the answer may be lost.
FINISHES = 2.0
#: Calls whose keys are remembered, so that what comes again is not done again. Of faults the
#: manager remembers all.
REMEMBERED = 256
#: Longest key that says that a call is the same as another, in characters.
TOKEN_LENGTH = 200

#: The faults that can be asked for; each is a verb of its own.
FAULTS = frozenset(kind.value for kind in Kind)


@attrs.define(eq=False)
class Calls:
    """One client's calls.

    :param clock: for the rates.
    :param limits: those on calls in a second are kept here.
    """

    _clock: IReactorTime
    _handle: IHandle
    _limits: Limits = Limits()
    #: How many calls may come now: of faults, of others, and of Finish, which whoever has asked
    #: too much before must still be able to say.
    _faults: Rate = attrs.field(init=False)
    _others: Rate = attrs.field(init=False)
    _finishes: Rate = attrs.field(init=False)
    _running: set[Deferred[Any]] = attrs.field(init=False, factory=set)
    #: Those of them that wait for something to happen.
    _waiting: set[Deferred[Any]] = attrs.field(init=False, factory=set)
    _recent: OrderedDict[tuple[str, str], Once[Any]] = attrs.field(init=False, factory=OrderedDict)
    #: When as many samples as have come may have come.
    _samples_due: float = attrs.field(init=False, default=0.0)
    _over: bool = attrs.field(init=False, default=False)
    _drained: Deferred[None] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._faults = Rate(self._clock, self._limits.fault_calls, "fault calls")
        self._others = Rate(self._clock, self._limits.calls, "calls")
        self._finishes = Rate(self._clock, FINISHES, "calls of Finish")

    def call(self, verb: str, argument: Any = None, token: str | None = None) -> Deferred[Any]:
        """Do what a client asks; fires with a plain value, fails with a `SyndicateError`.

        The verbs are ``job``, ``faults``, ``show``, ``finish``, ``mark``, ``samples``, ``events``
        and all of `FAULTS`.

        :param argument: the object in the body of the request; for ``samples`` bytes, for
            ``events`` the number of the last one seen, so for ``faults``, if they are wanted page
            by page, for ``show`` the id or key of a fault.
        :param token: the same one again, with the same verb, is the same call.
        """
        if self._over:
            return fail(Revoked("The door of this client is closed."))
        if len(self._running) >= MOST_CALLS:
            return fail(
                Unavailable(f"{MOST_CALLS} calls of this client wait for their answers already.")
            )
        if (refused := self._too_often(verb)) is not None:
            return fail(refused)
        doing = Deferred.fromCoroutine(self._answer(verb, argument, token))
        if not doing.called:
            self._running.add(doing)
            if verb == "events":
                self._waiting.add(doing)
            doing.addBoth(self._ended, doing)
        return doing

    def _too_often(self, verb: str) -> TooMany | None:
        if verb == "samples":
            # Their answers are held back instead, which slows down whoever waits for them.
            return None
        rate = self._faults if verb in FAULTS else self._others
        return (self._finishes if verb == "finish" else rate).take()

    def drained(self) -> Deferred[None]:
        """Take no more calls; fires when those under way are answered."""
        self._over = True
        for waiting in list(self._waiting):
            waiting.cancel()
        drained: Deferred[None] = Deferred()
        self._drained = drained
        self._look_whether_drained()
        return drained

    def end(self) -> None:
        """Break off what is under way."""
        self._over = True
        for doing in list(self._running):
            doing.cancel()
        for once in self._recent.values():
            once.cancel()
        self._recent.clear()

    def _ended(self, result: Any, doing: Deferred[Any]) -> Any:
        self._running.discard(doing)
        self._waiting.discard(doing)
        self._look_whether_drained()
        return result

    def _look_whether_drained(self) -> None:
        if self._drained is not None and not self._running:
            drained, self._drained = self._drained, None
            drained.callback(None)

    async def _answer(self, verb: str, argument: Any, token: str | None) -> Any:
        try:
            return await self._do(verb, argument, token)
        except SyndicateError:
            raise
        except CancelledError:
            raise Revoked("The door of this client was closed before the answer came.") from None
        except Exception as error:  # the edge to whatever is behind the handle: a defect
            log.failure("a call of a client failed: {verb}", verb=verb)
            raise Internal("The volunteer failed; its log tells more.") from error

    async def _do(self, verb: str, argument: Any, token: str | None) -> Any:
        if token is not None and not 0 < len(token) <= TOKEN_LENGTH:
            raise Invalid(f"A key of a call has 1 to {TOKEN_LENGTH} characters.")
        if verb in FAULTS:
            return await self._handle.fault(verb, _object(argument), token)
        match verb:
            case "job":
                return await self._handle.job()
            case "faults":
                return await self._handle.faults(None if argument is None else _count(argument))
            case "show":
                return await self._handle.show(_text(argument))
            case "finish":
                return await self._handle.finish(_object(argument))
            case "mark":
                return await self._once(verb, token, lambda: self._mark(argument))
            case "samples":
                return await self._once(verb, token, lambda: self._samples(argument))
            case "events":
                return await self._handle.events(_count(argument))
        raise Invalid(f"A client cannot ask for {verb!r}.")

    async def _once(self, verb: str, token: str | None, do: Callable[[], Any]) -> Any:
        """Do it, unless the same was done; what has failed is tried again."""
        if token is None:
            return await do()
        doing = self._recent.get((verb, token))
        if doing is None:
            doing = self._recent[verb, token] = Once(do())
            while len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        try:
            return await doing.follow()
        except SyndicateError:
            if self._recent.get((verb, token)) is doing:
                del self._recent[verb, token]
            raise

    async def _mark(self, argument: Any) -> Any:
        name = _object(argument).get("name")
        if not isinstance(name, str):
            raise Invalid('A mark has a name, as in {"name": "phase 2"}.')
        return await self._handle.mark(name)

    async def _samples(self, data: Any) -> Any:
        if not isinstance(data, bytes):
            raise Invalid("Samples are JSON lines.")
        lines, count = check_samples(data)
        answer = await self._handle.samples(lines) if count else {"accepted": 0}
        now = self._clock.seconds()
        self._samples_due = max(self._samples_due, now) + count / self._limits.samples
        early = self._samples_due - now - SAMPLE_BURST
        if early > 0:
            await deferLater(self._clock, early)
        return answer


def _object(argument: Any) -> dict[str, Any]:
    if not isinstance(argument, dict):
        raise Invalid("What goes with this call is a JSON object.")
    return argument


def _text(argument: Any) -> str:
    if not isinstance(argument, str):
        raise Invalid("A fault is asked for by its id, such as f3, or by the key of its call.")
    return argument


def _count(argument: Any) -> int:
    if type(argument) is not int or not 0 <= argument < 1 << 53:
        raise Invalid(f"They are asked for after the number of one, not {argument!r}.")
    return argument
