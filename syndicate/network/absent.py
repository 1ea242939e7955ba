"""Where packets cannot be cut: nothing is supported, and everybody is told why."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from syndicate.domain.errors import Unsupported
from syndicate.domain.fault import ON_LINKS
from syndicate.network.interface import IGuard, INetworkFaults, NetworkFacts


@implementer(INetworkFaults)
@attrs.frozen
class AbsentFaults:
    """No guards on this host.

    :param why: a sentence for whoever asks for a fault on links.
    """

    _why: str
    group: None = None

    def probe(self) -> Deferred[NetworkFacts]:
        """See `INetworkFaults.probe`."""
        kinds = sorted(kind.value for kind in ON_LINKS)
        return succeed(NetworkFacts((), tuple((kind, self._why) for kind in kinds)))

    def sweep(self) -> Deferred[int]:
        """See `INetworkFaults.sweep`."""
        return succeed(0)

    def guard(self, key: str, peers: tuple[str, ...]) -> Deferred[IGuard]:
        """See `INetworkFaults.guard`."""
        return fail(Unsupported(self._why))

    def close(self) -> Deferred[None]:
        """See `INetworkFaults.close`."""
        return succeed(None)
