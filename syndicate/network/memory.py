"""Guards over packets that nobody sends: for tests, and where nothing can be cut."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from syndicate.domain.errors import Conflict
from syndicate.domain.fault import ON_LINKS, Links
from syndicate.network import rules
from syndicate.network.doors import change
from syndicate.network.interface import GROUP, Doors, IGuard, INetworkFaults, NetworkFacts, Proof
from syndicate.network.judging import Asked


@implementer(IGuard)
@attrs.define(eq=False)
class MemoryGuard:
    """Keeps what it was told."""

    key: str
    _peers: tuple[str, ...]
    _clock: IReactorTime
    _dismiss: Callable[[], None]
    links: Links = Links()
    closed: bool = False

    def apply(self, links: Links) -> Deferred[float]:
        return execute(self._apply, links)

    def _apply(self, links: Links) -> float:
        if self.closed:
            raise Conflict(f"The guard over {self.key} is closed.")
        rules.change(self.key, self.links, links)  # which looks at every word of it
        self.links = rules.normal(links)
        return self._clock.seconds()

    def verify(self, links: Links) -> Deferred[tuple[Proof, ...]]:
        return execute(self._verify, links)

    def _verify(self, links: Links) -> tuple[Proof, ...]:
        asked = [Asked.of(rules.normal(links), peer) for peer in self._peers]
        there = [Asked.of(self.links, peer) for peer in self._peers]
        proofs = tuple(
            Proof(one.address, not one.blocked and one.loss < 1, "as told") for one in there
        )
        if asked != there:
            raise Conflict(
                "What was seen is not what was asked for.",
                proofs=[attrs.asdict(proof) for proof in proofs],
            )
        return proofs

    def close(self) -> Deferred[None]:
        if not self.closed:
            self.links, self.closed = Links(), True
            self._dismiss()
        return succeed(None)


@implementer(INetworkFaults)
class MemoryFaults:
    """A network without packets."""

    group = None

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: The guards, by key; closed ones too.
        self.guards: dict[str, MemoryGuard] = {}
        self._guard: MemoryGuard | None = None
        #: What jobs are kept from.
        self.doors = Doors()

    def probe(self) -> Deferred[NetworkFacts]:
        return succeed(NetworkFacts(tuple(sorted(kind.value for kind in ON_LINKS))))

    def sweep(self) -> Deferred[int]:
        return succeed(0)

    def shut(self, doors: Doors) -> Deferred[str]:
        return execute(self._shut, doors)

    def _shut(self, doors: Doors) -> str:
        change("doors", doors)  # which looks at every address
        self.doors = doors
        return GROUP

    def guard(self, key: str, peers: tuple[str, ...]) -> Deferred[IGuard]:
        if self._guard is not None:
            return fail(Conflict("A guard stands already; close it first."))
        self._guard = MemoryGuard(key, peers, self._clock, self._dismiss)
        self.guards[key] = self._guard
        return succeed(self._guard)

    def _dismiss(self) -> None:
        self._guard = None

    def close(self) -> Deferred[None]:
        return self._guard.close() if self._guard is not None else succeed(None)
