"""The volunteer's end of Perspective Broker: dial, join, take orders, dial again for ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.spread import pb
from zope.interface import implementer

from syndicate.domain.errors import SyndicateError, Unavailable
from syndicate.wire.interface import FaultOrder, IWorker, Part, PrepareOrder, Welcome
from syndicate.wire.pb.connection import JOINED, LOGIN_TIME, make_broker
from syndicate.wire.pb.errors import answers, call
from syndicate.wire.pb.references import RemoteManager
from syndicate.wire.pb.values import pack, unpack

log = Logger()

#: The most seconds until the manager is dialled again when nobody was there: one that is being
#: started is there a moment later, and it costs nothing.
ABSENT_PAUSE = 0.1
#: The same when it was there, and the connection was lost or we were refused.
PARTED_PAUSE = 0.7
#: By how much longer each further pause is, and the longest.
GROWTH, LONGEST_PAUSE = 1.5, 10.0


class ManagerFactory(pb.PBClientFactory):
    """Makes a volunteer's connections; what the manager may send is bounded too."""

    noisy = False

    def buildProtocol(self, addr: object) -> pb.Broker:
        """A connection that can be read at once: it is the volunteer who chose the manager."""
        broker = make_broker(JOINED, is_client=True)
        broker.factory = self
        return broker  # type: ignore[no-any-return]


class Orders(pb.Referenceable):
    """What the manager may ask of a volunteer."""

    def __init__(self, worker: IWorker) -> None:
        self._worker = worker

    @answers
    async def remote_prepare(self, message: object) -> None:
        """See `IVolunteer.prepare`."""
        await self._worker.prepare(unpack(message, PrepareOrder))

    @answers
    async def remote_start(self, message: object) -> None:
        """See `IVolunteer.start`."""
        await self._worker.start(unpack(message, Part))

    @answers
    async def remote_inflict(self, message: object) -> bytes:
        """See `IVolunteer.inflict`."""
        return pack(await self._worker.inflict(unpack(message, FaultOrder)))

    @answers
    async def remote_release(self, message: object) -> bytes:
        """See `IVolunteer.release`."""
        return pack(await self._worker.release(unpack(message, Part)))

    @answers
    async def remote_ping(self) -> float:
        """See `IVolunteer.ping`."""
        return self._worker.now()


@implementer(IStreamClientEndpoint)
@attrs.define(eq=False, repr=False)
class ManagerDialler:
    """Keeps one connection to the manager for a worker, until it is stopped.

    :param endpoint: also sees to it that we can show a certificate.
    :param refused: is told why the manager did not let us join, each time, and gives what to say.
    """

    _clock: IReactorTime
    _endpoint: IStreamClientEndpoint
    _worker: IWorker
    _refused: Callable[[Exception], str] = str
    _factory: pb.PBClientFactory = attrs.field(init=False)
    _service: ClientService = attrs.field(init=False)
    _complaint: str = ""
    #: The connection of now, or the last one.
    _broker: Any = None
    _refusals: int = 0
    #: Whether the last try has reached somebody.
    _was_there: bool = False

    def __attrs_post_init__(self) -> None:
        self._factory = ManagerFactory()
        self._service = ClientService(
            self,
            self._factory,
            retryPolicy=self._retry,
            clock=self._clock,
            prepareConnection=self._connected,
        )

    def __repr__(self) -> str:
        """For Twisted's log, which names what is dialled at every try."""
        return repr(self._endpoint)

    def start(self) -> None:
        """Dial, now and after every loss."""
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """Hang up and dial no more."""
        if self._broker is not None and not self._broker.disconnected:
            self._broker.hang_up()
        return self._service.stopService()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """As the endpoint does."""
        return self._endpoint.connect(protocolFactory).addErrback(self._not_connected)

    def _not_connected(self, failure: Failure) -> Failure:
        self._was_there = not failure.check(ConnectError, DNSLookupError, Unavailable)
        return failure

    def _retry(self, attempt: int) -> float:
        """Seconds until the next dial; refusals to let us join count like failures to connect."""
        was_there, self._was_there = self._was_there, False
        first = PARTED_PAUSE if was_there else ABSENT_PAUSE
        tries = min(max(attempt - 1, self._refusals), 20)
        longest = min(first * GROWTH**tries, LONGEST_PAUSE)
        # The longer nobody could reach it, the further apart all are when they can.
        return random.uniform(longest / 2, longest)

    def _connected(self, broker: Any) -> None:
        self._broker, self._was_there = broker, True
        # The service must not wait for this: it cannot bear the loss of a connection that it
        # still prepares.
        Deferred.fromCoroutine(self._join(broker)).addErrback(
            lambda failure: log.failure("joining the manager failed", failure)
        )

    async def _root(self, broker: Any) -> Any:
        """The reference to the manager's door, once both ends can speak.

        :raises SSL.Error: they cannot agree on TLS.
        :raises ConnectionClosed: the connection was lost before.
        :raises TimeoutError: it takes too long.
        """
        asked = self._factory.getRootObject()
        # The factory asks for ever: it is not told of a connection that is lost before that.
        lost = asked.cancel
        broker.notifyOnDisconnect(lost)
        try:
            return await asked.addTimeout(LOGIN_TIME, self._clock)
        except CancelledError:
            raise broker.lost or ConnectionLost() from None
        finally:
            if not broker.disconnected:
                broker.dontNotifyOnDisconnect(lost)

    async def _join(self, broker: Any) -> None:
        try:
            root = await self._root(broker)
            await join(self._clock, root, self._worker)
        except (SyndicateError, ConnectionClosed, TimeoutError, SSL.Error) as error:
            self._refusals += 1
            said = self._refused(error)
            # Once, not at every one of endless tries.
            if said != self._complaint:
                self._complaint = said
                log.error("Could not join the manager: {why} Trying on.", why=self._complaint)
            broker.transport.abortConnection()
        else:
            self._complaint, self._refusals = "", 0


async def join(clock: IReactorTime, root: Any, worker: IWorker) -> None:
    """Join the manager at the other end of a new connection.

    :param root: the reference to its `syndicate.wire.pb.server.Door`.
    :raises Unauthorized: the certificate is not good.
    :raises Forbidden: it is not that of the worker's name.
    :raises WrongVersion: the manager speaks another protocol.
    """
    message, reference = await call(
        clock,
        root,
        "join",
        pack(worker.hello()),
        Orders(worker),
        deadline=LOGIN_TIME,
    )
    root.broker.notifyOnDisconnect(lambda: worker.parted("The connection was lost."))
    worker.welcomed(unpack(message, Welcome), RemoteManager(clock, reference))
