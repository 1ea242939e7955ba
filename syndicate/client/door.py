"""The door of a benchmark client: two sockets in a directory that only its sandbox shows.

``http`` speaks JSON over HTTP, ``pb`` Perspective Broker. Both belong to the client's user, and
nobody else can open them, not even for the moment in which they are made. Whoever has reached the
door is that client; no network lies between, so no fault can cut it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from syndicate.client.calls import Calls
from syndicate.client.gate import Gate
from syndicate.client.interface import IHandle
from syndicate.client.listener import Listener
from syndicate.client.pb_door import BrokerFactory
from syndicate.client.web import DoorSite
from syndicate.domain.errors import SandboxFailed
from syndicate.domain.job import Limits

#: Seconds that calls get to be answered, and answers to be read, when the door is closed.
GRACE = 0.5


@attrs.define(eq=False)
class Door:
    """One client's door.

    :param reactor: where it listens.
    :param directory: where its sockets are; it exists, and its client cannot write to it.
    :param uid: of the client's user, as this host knows it.
    :param handle: what stands behind it.
    :param limits: of the job; those on calls and connections are kept here.
    """

    _reactor: Any
    _directory: Path
    _uid: int
    _handle: IHandle
    _limits: Limits = Limits()
    _gate: Gate = attrs.field(init=False)
    _calls: Calls = attrs.field(init=False)
    _listeners: list[Listener] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self._gate = Gate(self._limits.connections)
        self._calls = Calls(self._reactor, self._handle, self._limits)

    def open(self) -> Deferred[None]:
        """Let it be knocked on.

        :raises SandboxFailed: the sockets cannot be made.
        """
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        factories: dict[str, Any] = {
            "http": DoorSite(self._gate, self._calls, self._reactor),
            "pb": BrokerFactory(self._gate, self._calls),
        }
        try:
            for name, factory in factories.items():
                self._listeners.append(
                    Listener(self._reactor, self._directory, name, self._uid, factory)
                )
        except OSError as error:
            await self._close()
            raise SandboxFailed(
                f"The door of a client cannot be made in {self._directory}: {error.strerror}."
            ) from error

    def close(self) -> Deferred[None]:
        """End everything, and remove the sockets.

        What is under way has a moment to be answered: a client is told that its Finish was heard,
        though it may be this which closes its door.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        await self._within_grace(self._calls.drained())
        self._calls.end()
        self._gate.shut(_part)
        await self._within_grace(self._gate.empty())
        self._gate.shut(lambda protocol: protocol.transport.abortConnection())
        await self._gate.empty()

    async def _within_grace(self, waiting: Deferred[None]) -> None:
        """Wait, but not for long."""
        late = self._reactor.callLater(GRACE, waiting.cancel)
        await waiting.addErrback(lambda _: None)
        if late.active():
            late.cancel()


def _part(protocol: Any) -> None:
    """Close a connection when what was written to it is read."""
    protocol.transport.unregisterProducer()
    protocol.transport.loseConnection()
