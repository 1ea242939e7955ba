"""The one error that crosses the wire, and the way of all others to it and back."""

from __future__ import annotations

import functools
import inspect
import json
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.spread import pb
from twisted.spread.pb import DeadReferenceError, PBConnectionLost

from syndicate.domain.errors import BY_CODE, Internal, Invalid, SyndicateError, VolunteerLost

log = Logger()

T = TypeVar("T")


class WireError(pb.Error, pb.Copyable, pb.RemoteCopy):
    """An error on its way: its code, its message, and details as JSON.

    Perspective Broker restores attributes of such an object, never its ``args``.
    """

    code = "internal"
    message = ""
    details = "{}"

    def __init__(self, code: str, message: str, details: str) -> None:
        super().__init__(code, message)
        self.code, self.message, self.details = code, message, details

    def getStateToCopy(self) -> dict[str, str]:
        """Only the three fields cross."""
        return {"code": self.code, "message": self.message, "details": self.details}

    def setCopyableState(self, state: dict[str, object]) -> None:
        """Take the three fields, as text, whatever the peer sent."""
        for name in ("code", "message", "details"):
            setattr(self, name, str(state.get(name, "")))


pb.setUnjellyableForClass(WireError, WireError)


def outgoing(error: BaseException) -> WireError:
    """Any error as the one that crosses. One that is not ours is a defect: it is logged whole
    here and crosses as ``internal`` with the log entry's number.
    """
    if isinstance(error, SyndicateError):
        return WireError(error.code, error.message, json.dumps(dict(error.details), default=str))
    incident = uuid.uuid4().hex[:12]
    log.error(
        "incident {incident} while answering a peer: {error!r}", incident=incident, error=error
    )
    message = f"The other end failed; its log tells more under incident {incident}."
    return WireError("internal", message, json.dumps({"incident": incident}))


def refusal(code: str, message: str) -> WireError:
    """The error of a connection itself, such as a call of what is not there."""
    return WireError(code, message, "{}")


def incoming(error: BaseException) -> SyndicateError:
    """An error of a remote call as ours."""
    if isinstance(error, WireError):
        try:
            details = json.loads(error.details)
        except ValueError:
            details = {}
        kind = BY_CODE.get(error.code, Internal)
        named = {str(k): v for k, v in details.items()} if isinstance(details, dict) else {}
        named.pop("message", None)
        return kind(error.message or f"The other end said {error.code!r}.", **named)
    if isinstance(error, DeadReferenceError | PBConnectionLost | ConnectionClosed):
        return VolunteerLost("The link broke before the answer came.")
    if isinstance(error, TimeoutError):
        return VolunteerLost("The other end did not answer within the deadline.")
    return Internal(f"The other end failed: {error}")


def answers(method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., Deferred[T]]:
    """Make a coroutine method one that Perspective Broker can call: it returns a Deferred, and
    every error leaves as a `WireError`. A call with another number of arguments is refused.
    """
    count = len(inspect.signature(method).parameters)

    async def guarded(*args: Any) -> T:
        try:
            return await method(*args)
        except Exception as error:  # noqa: BLE001  (the edge of the wire: nothing may pass whole)
            raise outgoing(error) from None

    @functools.wraps(method)
    def call(*args: Any) -> Deferred[T]:
        if len(args) != count:
            raise outgoing(Invalid(f"This takes {count - 1} values, not {len(args) - 1}."))
        return Deferred.fromCoroutine(guarded(*args))

    return call


async def call(
    clock: IReactorTime, reference: Any, name: str, *args: Any, deadline: float | None = None
) -> Any:
    """Call a remote method; errors come as ours.

    :param deadline: seconds to wait for the answer; None for ever, the link's liveness pings
        being what ends a dead one.
    :raises VolunteerLost: the link is or gets broken, or the deadline is over.
    """
    try:
        answer = reference.callRemote(name, *args)
    except DeadReferenceError as error:
        answer = fail(error)
    if deadline is not None:
        answer.addTimeout(deadline, clock)
    try:
        return await answer
    except Exception as error:
        raise incoming(error) from error
