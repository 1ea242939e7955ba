"""The manager's two doors on the network: TLS, and who gets as far as that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

#: Most connections to one door from one address, and from all.
MOST_OF_ONE = 2048
MOST = 16384


class _Counted(TLSMemoryBIOProtocol):
    """A connection that is counted for as long as it is there."""

    gone: Callable[[Failure | None], None] | None = None

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        """It is not there any more."""
        gone, self.gone = self.gone, None
        if gone is not None:
            gone(self._reason)
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
        built.gone = lambda reason: self._leave(host, reason)
        return built

    def _leave(self, host: str, reason: Failure | None) -> None:
        self._all -= 1
        self._inside[host] -= 1
        if not self._inside[host]:
            del self._inside[host]
        if reason is not None and reason.check(SSL.Error):
            self._failed(host, _say(reason.value))


def _say(error: BaseException | None) -> str:
    """What OpenSSL tells, in its own words: ``peer did not return a certificate``."""
    told = error.args[0] if error is not None and error.args else []
    words = [str(entry[-1]) for entry in told if isinstance(entry, tuple) and entry[-1]]
    return "; ".join(words) or "the handshake failed"
