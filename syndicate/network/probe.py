"""Asking the prober."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import attrs
from twisted.internet.defer import DeferredLock

from syndicate.domain.errors import SandboxFailed
from syndicate.network.child import Child, IChildReactor

#: Seconds that are waited for datagrams that do not leave at once: for a neighbour to be found.
SHORTEST_WAIT = 0.05

_IP_TRANSPARENT = 19
_IPV6_TRANSPARENT = 75


@attrs.frozen
class Attempt:
    """Datagrams to be sent to one address."""

    address: str
    count: int = 1
    #: Bytes of each.
    size: int = 1


class Tally(NamedTuple):
    """What became of the datagrams to one address."""

    address: str
    #: How many the kernel took from us.
    sent: int
    #: How many were handed to an interface towards that address.
    left: int
    #: How many were turned back into this host.
    turned: int
    #: The errno of the first that was not taken, or 0.
    error: int
    #: The number of the interface that they left by, or 0.
    interface: int
    #: Microseconds from sending to the interface, for the fastest that left; -1 for none.
    fastest: int


class Prober:
    """The prober of one volunteer.

    :param group: the control group that it joins.
    """

    def __init__(self, reactor: IChildReactor, group: Path) -> None:
        self._child = Child(reactor, "prober.py", str(group))
        self._turn = DeferredLock()

    def warm(self) -> None:
        """Have it run, so that it is ready when it is needed.

        :raises SandboxFailed: no process can be started.
        """
        self._child.warm()

    async def attempt(
        self, attempts: Iterable[Attempt], wait: float = SHORTEST_WAIT
    ) -> list[Tally]:
        """Send datagrams from inside the group, and see what becomes of them.

        :param wait: seconds for those that do not leave at once.
        :raises SandboxFailed: the prober does not answer.
        """
        words = " ".join(f"{one.address} {one.count} {one.size}" for one in attempts)
        if not words:
            return []
        answer = await self._child.converse(f"try {wait:g} {words}", wait=wait)
        width = len(Tally._fields)
        return [
            Tally(answer[at], *map(int, answer[at + 1 : at + width]))
            for at in range(0, len(answer), width)
        ]

    async def hears(self, addresses: Sequence[str]) -> set[str]:
        """From which of these addresses a datagram is let in to the group.

        Nobody else has a part in it: we send them ourselves, in the name of those addresses, and
        they come in over the loopback interface.

        :raises SandboxFailed: it cannot be tried.
        """
        await self._turn.acquire()
        try:
            ports = [int(port) for port in await self._child.converse("listen")]
            for family, port in zip((socket.AF_INET, socket.AF_INET6), ports, strict=False):
                _forge(family, port, addresses)
            heard = set(await self._child.converse("heard"))
        finally:
            self._turn.release()
        if "timeout" in heard:
            raise SandboxFailed("The prober does not hear this host itself: is `lo` up?")
        return heard & set(addresses)

    async def close(self) -> None:
        """End it."""
        await self._child.close()


def _forge(family: int, port: int, addresses: Sequence[str]) -> None:
    """Send our prober datagrams that seem to come from these addresses, then one from ourselves,
    by which it knows that there are no more.
    """
    sixth = family == socket.AF_INET6
    ourselves = "::1" if sixth else "127.0.0.1"
    option = (socket.IPPROTO_IPV6, _IPV6_TRANSPARENT) if sixth else (0, _IP_TRANSPARENT)
    for address in [*(a for a in addresses if (":" in a) == sixth), ourselves]:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            try:
                sender.setsockopt(*option, 1)
                sender.bind((address, 0))
                sender.sendto(b"", (ourselves, port))
            except OSError as error:
                raise SandboxFailed(
                    f"What comes from {address} cannot be tried: {error}."
                ) from error
