"""The manager's end of Perspective Broker: the door, and the volunteer's avatar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.spread import pb

from syndicate.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    SyndicateError,
    Unauthorized,
    WrongVersion,
)
from syndicate.plain import from_plain
from syndicate.wire.interface import PROTOCOL, Ask, EndReport, Hello, IFleet, other_protocol
from syndicate.wire.pb.connection import JOINED, LOGIN_TIME, STRANGER, make_broker
from syndicate.wire.pb.errors import answers
from syndicate.wire.pb.references import RemoteVolunteer
from syndicate.wire.pb.values import pack, unpack, unpack_plain

log = Logger()


def _nobody_told(address: str, error: SyndicateError) -> None:
    pass


#: Looks whether who is at the other end of a transport may join by a name; raises `Unauthorized`,
#: or `Forbidden`, if not.
Admit = Callable[[Any, str], None]

#: Is told of an address whose volunteer was not let in, and why.
Refused = Callable[[str, SyndicateError], None]


class VolunteerAvatar(pb.Avatar):
    """What a volunteer may ask of the manager."""

    def __init__(self, name: str, fleet: IFleet) -> None:
        self._name, self._fleet = name, fleet

    @answers
    async def perspective_ended(self, message: object) -> None:
        """See `IManager.ended`."""
        await self._fleet.ended(self._name, unpack(message, EndReport))

    @answers
    async def perspective_clean(self, message: object) -> None:
        """See `IManager.clean`."""
        await self._fleet.clean(self._name, unpack(message, str))

    @answers
    async def perspective_ask(self, message: object) -> bytes:
        """See `IManager.ask`."""
        return pack(await self._fleet.ask(self._name, unpack(message, Ask)))

    @answers
    async def perspective_ping(self) -> None:
        """See `IManager.ping`."""


class Door(pb.Root):
    """The one object that can be reached before a volunteer has joined."""

    def __init__(
        self, clock: IReactorTime, broker: Any, admit: Admit, refused: Refused, fleet: IFleet
    ) -> None:
        self._clock, self._broker, self._fleet = clock, broker, fleet
        self._admit, self._refused = admit, refused
        self._joined = False

    @answers
    async def remote_join(self, message: object, orders: object) -> Any:
        """Say hello, and hand over the reference that takes orders, all in one. Who it is, the
        connection's certificate has told.

        :returns: the welcome as a message, and the reference that takes reports.
        """
        try:
            return self._join(message, orders)
        except SyndicateError as error:
            if isinstance(error, Unauthorized | Forbidden | WrongVersion):
                self._refused(self._broker.peer, error)
            # Once the answer has been given.
            self._clock.callLater(0, self._broker.hang_up)
            raise

    def _join(self, message: object, orders: object) -> Any:
        if self._joined:
            raise Conflict("This connection has joined already.")
        hello = _read_hello(message)
        if not isinstance(orders, pb.RemoteReference):
            raise Invalid("A volunteer joins with a reference for orders.")
        self._admit(self._broker.transport, hello.name)
        link = RemoteVolunteer(self._clock, orders, hello.name)
        welcome = self._fleet.welcome(hello, link)
        self._joined = True
        self._broker.joined()
        self._broker.notifyOnDisconnect(lambda: self._fleet.lost(link, "The connection was lost."))
        avatar = VolunteerAvatar(hello.name, self._fleet)
        return pack(welcome), pb.AsReferenceable(avatar, "perspective")


class DoorFactory(pb.PBServerFactory):
    """Serves a `Door` on each connection; a peer that does not join is sent away."""

    #: Never cross with a traceback.
    unsafeTracebacks = False

    def __init__(
        self, clock: IReactorTime, admit: Admit, fleet: IFleet, refused: Refused = _nobody_told
    ) -> None:
        super().__init__(pb.Root())  # of which nobody hears: each connection has a door of its own
        self._clock, self._fleet = clock, fleet
        self._admit, self._refused = admit, refused

    def buildProtocol(self, addr: object) -> pb.Broker:
        """A connection that is cut when its login is late."""
        broker = make_broker(STRANGER, is_client=False)
        broker.factory = self
        door = Door(self._clock, broker, self._admit, self._refused, self._fleet)
        broker.setNameForLocal("root", door)
        late = self._clock.callLater(LOGIN_TIME, lambda: broker.transport.abortConnection())

        def parted(why: str) -> None:
            # Counted by its address: who has not joined may come again and again.
            self._refused(broker.peer, Invalid(f"It does not speak as a volunteer does: {why}."))

        def joined() -> None:
            broker.bounds, broker.parted = JOINED, None
            if late.active():
                late.cancel()

        broker.joined, broker.parted = joined, parted
        broker.notifyOnDisconnect(joined)
        return broker  # type: ignore[no-any-return]


def _read_hello(message: object) -> Hello:
    """The hello of a message; of one in another version nothing is read but that.

    :raises WrongVersion: it is one.
    :raises Invalid: it is no hello.
    """
    told = unpack_plain(message, Hello.__name__)
    theirs = told.get("protocol") if isinstance(told, dict) else None
    if type(theirs) is int and theirs != PROTOCOL:
        raise other_protocol(theirs, told.get("name"))
    return from_plain(told, Hello)
