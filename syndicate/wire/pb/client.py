"""The volunteer's end of Perspective Broker: dial, join, take orders, dial again for ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.spread import pb

from syndicate.domain.errors import SyndicateError
from syndicate.wire.interface import FaultOrder, IWorker, Part, PrepareOrder, Welcome
from syndicate.wire.pb.connection import JOINED, LOGIN_TIME, make_broker
from syndicate.wire.pb.errors import answers, call
from syndicate.wire.pb.references import RemoteManager
from syndicate.wire.pb.values import pack, unpack

log = Logger()

#: Longest pause between two tries to reach the manager, in seconds.
LONGEST_PAUSE = 10.0


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


@attrs.define(eq=False)
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
    _pause: Callable[[int], float] = attrs.field(init=False)
    _service: ClientService = attrs.field(init=False)
    _complaint: str = ""
    #: The connection of now, or the last one.
    _broker: Any = None
    _refusals: int = 0

    def __attrs_post_init__(self) -> None:
        self._factory = ManagerFactory()
        self._pause = backoffPolicy(
            initialDelay=0.2, maxDelay=LONGEST_PAUSE, jitter=lambda: random.uniform(0, 0.5)
        )
        self._service = ClientService(
            self._endpoint,
            self._factory,
            retryPolicy=self._retry,
            clock=self._clock,
            prepareConnection=self._connected,
        )

    def start(self) -> None:
        """Dial, now and after every loss."""
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """Hang up and dial no more."""
        if self._broker is not None and not self._broker.disconnected:
            self._broker.hang_up()
        return self._service.stopService()

    def _retry(self, attempt: int) -> float:
        """Seconds until the next dial; refusals to let us join count like failures to connect."""
        return min(self._pause(min(max(attempt, self._refusals), 20)), LONGEST_PAUSE)

    def _connected(self, broker: Any) -> None:
        self._broker = broker
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
