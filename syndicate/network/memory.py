"""Guards over packets that nobody sends: for tests, and where nothing can be cut."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from syndicate.domain.errors import Conflict
from syndicate.domain.fault import ON_LINKS, Links
from syndicate.network.interface import IGuard, INetworkFaults, NetworkFacts, Proof


@implementer(IGuard)
@attrs.define(eq=False)
class MemoryGuard:
    """Keeps what it was told."""

    key: str
    _peers: tuple[str, ...]
    _clock: IReactorTime
    links: Links = Links()
    closed: bool = False

    def apply(self, links: Links) -> Deferred[float]:
        """See `IGuard.apply`."""
        if self.closed:
            return fail(Conflict(f"The guard over {self.key} is gone."))
        self.links = links
        return succeed(self._clock.seconds())

    def verify(self, links: Links) -> Deferred[tuple[Proof, ...]]:
        """See `IGuard.verify`."""
        proofs = tuple(
            Proof(peer, peer not in self.links.blocked, "as told") for peer in self._peers
        )
        wrong = [p for p in proofs if p.passes == (p.address in links.blocked)]
        if wrong:
            return fail(Conflict("What was seen is not what was asked for.", proofs=len(wrong)))
        return succeed(proofs)

    def close(self) -> Deferred[None]:
        """See `IGuard.close`."""
        self.links, self.closed = Links(), True
        return succeed(None)


@implementer(INetworkFaults)
class MemoryFaults:
    """A network without packets."""

    group = None

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: The guards, by key; closed ones too.
        self.guards: dict[str, MemoryGuard] = {}

    def probe(self) -> Deferred[NetworkFacts]:
        """See `INetworkFaults.probe`."""
        return succeed(NetworkFacts(tuple(sorted(kind.value for kind in ON_LINKS))))

    def sweep(self) -> Deferred[int]:
        """See `INetworkFaults.sweep`."""
        return succeed(0)

    def guard(self, key: str, peers: tuple[str, ...]) -> Deferred[IGuard]:
        """See `INetworkFaults.guard`."""
        self.guards[key] = MemoryGuard(key, peers, self._clock)
        return succeed(self.guards[key])

    def close(self) -> Deferred[None]:
        """See `INetworkFaults.close`."""
        for guard in self.guards.values():
            guard.close()
        return succeed(None)
