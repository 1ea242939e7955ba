"""The manager's end of Perspective Broker: the door, cred, and the volunteer's avatar."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.spread import pb
from zope.interface import Interface, implementer

from syndicate.credentials.interface import ITokens
from syndicate.domain.errors import Unauthorized
from syndicate.wire.interface import Ask, EndReport, Hello, IFleet
from syndicate.wire.pb.connection import JOINED, STRANGER, make_broker
from syndicate.wire.pb.errors import answers
from syndicate.wire.pb.references import RemoteVolunteer
from syndicate.wire.pb.values import pack, unpack

log = Logger()

#: Seconds that a peer has to log in after connecting.
LOGIN_TIME = 20.0


@implementer(ICredentials)
@attrs.frozen
class JoinToken:
    """What a volunteer shows at the door."""

    name: str
    secret: str


@implementer(ICredentialsChecker)
@attrs.frozen
class TokenChecker:
    """Lets in who holds a good token of the role ``volunteer``."""

    tokens: ITokens
    credentialInterfaces = (ICredentials,)

    def requestAvatarId(self, credentials: JoinToken) -> Deferred[bytes | tuple[()]]:
        """The volunteer's name, when its token is good."""
        token = self.tokens.check(credentials.secret)
        if token.role != "volunteer":
            raise Unauthorized(f"A token of the role {token.role!r} cannot join as a volunteer.")
        return succeed(credentials.name.encode())


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


@implementer(IRealm)
@attrs.frozen
class VolunteerRealm:
    """Makes the avatars."""

    fleet: IFleet

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: type[Interface]) -> Any:
        """One avatar a login; it holds nothing to be let go of."""
        assert isinstance(avatarId, bytes)
        avatar = VolunteerAvatar(avatarId.decode(), self.fleet)
        return pb.IPerspective, avatar, lambda: None


class Door(pb.Root):
    """The one object that a stranger can reach."""

    def __init__(self, clock: IReactorTime, portal: Portal, fleet: IFleet) -> None:
        self._clock, self._portal, self._fleet = clock, portal, fleet

    @answers
    async def remote_join(self, secret: object, message: object, orders: object) -> Any:
        """Log in, say hello, and hand over the reference that takes orders, all in one.

        :returns: the welcome as a message, and the reference that takes reports.
        """
        hello = unpack(message, Hello)
        if not isinstance(secret, str) or not isinstance(orders, pb.RemoteReference):
            raise Unauthorized("A volunteer joins with its token and a reference for orders.")
        _, avatar, _ = await self._portal.login(
            JoinToken(hello.name, secret), orders, pb.IPerspective
        )
        link = RemoteVolunteer(self._clock, orders, hello.name)
        welcome = self._fleet.welcome(hello, link)
        orders.broker.joined()
        orders.broker.notifyOnDisconnect(lambda: self._fleet.lost(link, "The connection was lost."))
        return pack(welcome), pb.AsReferenceable(avatar, "perspective")


class DoorFactory(pb.PBServerFactory):
    """Serves the `Door`; a peer that does not log in is sent away."""

    #: Never cross with a traceback.
    unsafeTracebacks = False

    def __init__(self, clock: IReactorTime, tokens: ITokens, fleet: IFleet) -> None:
        portal = Portal(VolunteerRealm(fleet), [TokenChecker(tokens)])
        super().__init__(Door(clock, portal, fleet))
        self._clock = clock

    def buildProtocol(self, addr: object) -> pb.Broker:
        """A connection that is cut when its login is late."""
        broker = make_broker(STRANGER, is_client=False)
        broker.factory = self
        broker.setNameForLocal("root", self.root.rootObject(broker))
        late = self._clock.callLater(LOGIN_TIME, lambda: broker.transport.abortConnection())

        def joined() -> None:
            broker.bounds = JOINED
            if late.active():
                late.cancel()

        broker.joined = joined
        broker.notifyOnDisconnect(joined)
        return broker  # type: ignore[no-any-return]
