"""Which ports are the cluster's own, as a volunteer's configuration has it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from syndicate.network.interface import Doors

log = Logger()


@attrs.define(eq=False)
class OwnPorts:
    """Tells of the ports of manager and volunteers, by the manager's addresses of now.

    :param resolve: gives the addresses of a host, and may block.
    """

    _reactor: Any
    _manager: str
    #: The ports of the daemons: at the manager's addresses, and on this host.
    _ports: tuple[int, ...]
    _everywhere: tuple[int, ...] = ()
    _closed: tuple[tuple[str, int], ...] = ()
    _open: tuple[tuple[str, int], ...] = ()
    _resolve: Callable[[str], set[str]] = attrs.field(kw_only=True, factory=lambda: addresses_of)
    #: Those found last.
    _known: set[str] = attrs.field(init=False, factory=set)

    async def __call__(self) -> Doors:
        """Find out. Where the name cannot be resolved now, the former addresses stand."""
        try:
            pool = self._reactor.getThreadPool()
            self._known = await deferToThreadPool(self._reactor, pool, self._resolve, self._manager)
        except OSError as error:
            log.warn(
                "The manager's addresses cannot be found out now: {why}. Jobs are kept from "
                "those known before: {known}",
                why=str(error),
                known=sorted(self._known) or "none",
            )
        manager = {(address, port) for address in self._known for port in self._ports}
        return Doors(
            closed=(*sorted(manager), *self._closed),
            own=self._ports,
            everywhere=self._everywhere,
            open=self._open,
        )


def addresses_of(host: str) -> set[str]:
    """All addresses of a host, given by name or address.

    :raises OSError: there are none.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(place[0]).partition("%")[0] for *_, place in found}
