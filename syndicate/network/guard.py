"""What stands over the packets of one machine."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from syndicate.domain.errors import Conflict, Invalid, NotClean, SandboxFailed, Unsupported
from syndicate.domain.fault import Kind, Links
from syndicate.network import limits, rules
from syndicate.network.child import Child
from syndicate.network.interface import IGuard, NetworkFacts, Proof
from syndicate.network.judging import Asked
from syndicate.network.libnftables import NftError
from syndicate.network.probe import Attempt
from syndicate.network.trying import Tools

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING = Links()


@implementer(IGuard)
@attrs.define(eq=False)
class NoGuard:
    """Stands where nothing can be done, over a machine to which nothing must be done."""

    _facts: NetworkFacts
    _clock: IReactorTime
    _dismiss: Callable[[], None]
    links: Links = _NOTHING

    def apply(self, links: Links) -> Deferred[float]:
        if links != _NOTHING:
            return fail(Unsupported(self._facts.unsupported[0][1]))
        return succeed(self._clock.seconds())

    def verify(self, links: Links) -> Deferred[tuple[Proof, ...]]:
        if links != _NOTHING:
            return fail(Conflict("Nothing is in force: nothing can be done to packets here."))
        return succeed(())

    def close(self) -> Deferred[None]:
        self._dismiss()
        return succeed(None)


@implementer(IGuard)
@attrs.define(eq=False)
class NftGuard:
    """Stands over it with a table, that lives as long as the guard.

    :param dismiss: called when it stands no more.
    """

    _table: str
    _ours: rules.Ours
    _peers: tuple[str, ...]
    _tools: Tools
    _facts: NetworkFacts
    _clock: IReactorTime
    _dismiss: Callable[[], None]
    _links: Links = attrs.field(init=False, default=_NOTHING)
    #: Whether anything was ever refused: only then is it tried what is let in.
    _refuses: bool = attrs.field(init=False, default=False)
    #: The times, in seconds, that packets were ever held back.
    _delays: set[float] = attrs.field(init=False, factory=set)
    _delayer: Child = attrs.field(init=False)
    _there: bool = attrs.field(init=False, default=True)
    _closed: bool = attrs.field(init=False, default=False)
    _turn: DeferredLock = attrs.field(init=False, factory=DeferredLock)

    def __attrs_post_init__(self) -> None:
        self._delayer = self._tools.delayer(self._table)
        self._tools.nft.run(rules.table(self._table, self._ours))

    @property
    def links(self) -> Links:
        """See `IGuard.links`."""
        return self._links

    def apply(self, links: Links) -> Deferred[float]:
        return Deferred.fromCoroutine(self._in_turn(self._apply, links))

    def verify(self, links: Links) -> Deferred[tuple[Proof, ...]]:
        return Deferred.fromCoroutine(self._in_turn(self._verify, links))

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._in_turn(self._close))

    async def _in_turn(self, do: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> T:
        await self._turn.acquire()
        try:
            return await do(*args, **kw)
        finally:
            self._turn.release()

    async def _apply(self, links: Links) -> float:
        if not self._there:
            raise Conflict("The guard is closed; nothing can be done to its packets.")
        self._refuse_unsupported(links)
        links = rules.normal(links)
        text = rules.change(self._table, self._links, links)
        if links.delay and links.delay != self._links.delay:
            await self._delayer.converse(rules.hold(links))
        try:
            self._tools.nft.run(text)
        except NftError as error:
            raise SandboxFailed(f"The packet filter does not take it: {error}.") from error
        applied = self._clock.seconds()
        self._links = links
        self._refuses = self._refuses or bool(links.refused)
        self._delays |= {seconds for _, seconds in links.delay if seconds}
        return applied

    def _refuse_unsupported(self, links: Links) -> None:
        asked = {Kind.LOSS: links.loss, Kind.RATE: links.rate, Kind.DELAY: links.delay}
        for kind, part in asked.items():
            if part and kind.value not in self._facts.supported:
                why = dict(self._facts.unsupported).get(kind.value, "")
                raise Unsupported(f"This volunteer cannot do {kind.value}. {why}")

    async def _verify(self, links: Links) -> tuple[Proof, ...]:
        links = rules.normal(links)
        asked = [Asked.of(links, str(rules.parse(peer)), self._delays) for peer in self._peers]
        wait = max((one.wait for one in asked), default=0.0)
        before = self._limits(asked)
        tallies = await self._tools.prober.attempt([one.attempt() for one in asked], wait)
        heard = None
        if links.refused or self._refuses:
            heard = await self._tools.prober.hears([one.address for one in asked])
        met = limits.since(before, self._limits(asked))
        judged = [
            one.judge(tally, heard, met.get(one.address))
            for one, tally in zip(asked, tallies, strict=True)
        ]
        proofs = tuple(proof for proof, _ in judged)
        wrong = [f"{proof.address}: {proof.seen}" for proof, good in judged if not good]
        if wrong:
            raise Conflict(
                f"What was seen is not what was asked for: {'; '.join(wrong)}.",
                proofs=[attrs.asdict(proof) for proof in proofs],
            )
        return proofs

    def _limits(self, asked: list[Asked]) -> Mapping[str, limits.Limit]:
        """What the kernel tells of its limits on rates, if that is needed for a proof."""
        if not self._there or not any(one.needs_limit for one in asked):
            return {}
        try:
            return limits.read(self._tools.nft.run(f"list chain inet {self._table} shaping"))
        except NftError as error:
            raise SandboxFailed(f"The packet filter does not tell its rules: {error}.") from error

    async def _close(self) -> None:
        if self._closed:
            return
        await self._delayer.close()
        try:
            if self._there:
                self._tools.nft.run(f"delete table inet {self._table}")
                self._there = False
            await self._verify_lifted()
        except (NftError, SandboxFailed) as error:
            raise NotClean(f"It is not proven that nothing is cut any more: {error}") from error
        self._closed = True
        self._dismiss()

    async def _verify_lifted(self) -> None:
        """Whatever else keeps packets from leaving, it is not us."""
        if self._table in self._tools.nft.run("list tables inet").split():
            raise SandboxFailed(f"the table {self._table} is there.")
        attempts = []
        for peer in self._peers:
            with contextlib.suppress(Invalid):  # then nothing can have been done to it
                attempts.append(Attempt(str(rules.parse(peer))))
        for tally in await self._tools.prober.attempt(attempts, 0.0):
            if tally.turned:
                raise SandboxFailed(f"a datagram to {tally.address} was turned back.")
