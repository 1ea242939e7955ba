"""The manager's two doors on the network: TLS, and who gets as far as that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from syndicate.credentials.refusals import handshake_failure
from syndicate.domain.errors import SyndicateError, Unauthorized

#: Most connections to one door from one address, and from all.
MOST_OF_ONE = 2048
MOST = 16384


class _Counted(TLSMemoryBIOProtocol):
    """A connection that is counted for as long as it is there."""

    gone: Callable[[str], None] | None = None

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        """It is not there any more."""
        gone, self.gone = self.gone, None
        if gone is not None:
            error = None if self._reason is None else self._reason.value
            if isinstance(error, SSL.Error):
                gone(handshake_failure(error, self._tlsConnection))
            else:
                gone("")
        super().connectionLost(reason)


class DoorOverTls(TLSMemoryBIOFactory):
    """Wraps a door in TLS; whoever has too many connections gets no further one.

    :param blocked: tells of an address whether it is not even to be listened to.
    :param failed: is told of an address where a handshake failed, and why.
    """

    protocol = _Counted
    noisy = False

    def __init__(
        self,
        options: Any,
        factory: IProtocolFactory,
        blocked: Callable[[str], bool] = lambda address: False,
        failed: Callable[[str, str], None] = lambda address, why: None,
        *,
        most_of_one: int = MOST_OF_ONE,
    ) -> None:
        super().__init__(options, False, factory)
        self._blocked, self._failed, self._most_of_one = blocked, failed, most_of_one
        self._inside: dict[str, int] = {}
        self._all = 0

    def buildProtocol(self, addr: Any) -> Any:
        """A connection; None, and it is closed, when there must not be one more."""
        host = str(getattr(addr, "host", ""))
        count = self._inside.get(host, 0)
        if self._all >= MOST or count >= self._most_of_one or self._blocked(host):
            return None
        built: Any = super().buildProtocol(addr)
        if built is None:
            return None
        self._inside[host] = count + 1
        self._all += 1
        built.gone = lambda why: self._leave(host, why)
        return built

    def _leave(self, host: str, why: str) -> None:
        self._all -= 1
        self._inside[host] -= 1
        if not self._inside[host]:
            del self._inside[host]
        if why:
            self._failed(host, why)


def bad_certificate(
    refused: Callable[[str, SyndicateError], None],
) -> Callable[[str, str], None]:
    """For ``failed`` of the volunteers' door: tells somebody of it as of any other refusal."""
    return lambda address, why: refused(address, Unauthorized(why))
