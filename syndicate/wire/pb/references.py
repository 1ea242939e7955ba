"""Remote references wearing the ports of the room."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from syndicate.domain.errors import Invalid
from syndicate.wire.interface import (
    Ask,
    EndReport,
    FaultDone,
    FaultOrder,
    IManager,
    IVolunteer,
    Part,
    PrepareOrder,
    Released,
)
from syndicate.wire.pb.errors import call
from syndicate.wire.pb.values import pack, unpack, unpack_plain


@attrs.define(eq=False)
class _Peer:
    _clock: IReactorTime
    _reference: Any

    def _call(self, name: str, *args: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(call(self._clock, self._reference, name, *args))

    def ping(self) -> Deferred[Any]:
        """See `IVolunteer.ping` and `IManager.ping`."""
        return self._call("ping")

    def drop(self) -> None:
        """See `IVolunteer.drop`."""
        transport = self._reference.broker.transport
        if transport is not None:
            transport.abortConnection()


@implementer(IVolunteer)
@attrs.define(eq=False)
class RemoteVolunteer(_Peer):
    """A volunteer at the other end of a connection."""

    name: str

    def ping(self) -> Deferred[float]:
        """See `IVolunteer.ping`."""
        return super().ping().addCallback(_moment)

    def prepare(self, order: PrepareOrder) -> Deferred[None]:
        """See `IVolunteer.prepare`."""
        return self._call("prepare", pack(order))

    def start(self, part: Part) -> Deferred[None]:
        """See `IVolunteer.start`."""
        return self._call("start", pack(part))

    def inflict(self, order: FaultOrder) -> Deferred[FaultDone]:
        """See `IVolunteer.inflict`."""
        return self._call("inflict", pack(order)).addCallback(unpack, FaultDone)

    def release(self, part: Part) -> Deferred[Released]:
        """See `IVolunteer.release`."""
        return self._call("release", pack(part)).addCallback(unpack, Released)


@implementer(IManager)
@attrs.define(eq=False)
class RemoteManager(_Peer):
    """The manager at the other end of a connection."""

    def ended(self, report: EndReport) -> Deferred[None]:
        """See `IManager.ended`."""
        return self._call("ended", pack(report))

    def clean(self, unclean: str) -> Deferred[None]:
        """See `IManager.clean`."""
        return self._call("clean", pack(unclean))

    def ask(self, ask: Ask) -> Deferred[Any]:
        """See `IManager.ask`."""
        return self._call("ask", pack(ask)).addCallback(unpack_plain)


def _moment(answer: object) -> float:
    """What a timeline shows.

    :raises Invalid: it is no such thing.
    """
    if not isinstance(answer, int | float) or not 0 <= answer < 1e12:
        raise Invalid("The volunteer answered a ping with what is no moment.")
    return float(answer)
