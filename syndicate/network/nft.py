"""Guards over real packets, by nftables: what the rules are is told in `syndicate.network.rules`,
how they are proven in `syndicate.network.prober`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from syndicate.domain.errors import Conflict, NotClean, SandboxFailed, SyndicateError
from syndicate.domain.fault import ON_LINKS
from syndicate.network import groups, rules
from syndicate.network.bolt import Bolt
from syndicate.network.child import IChildReactor
from syndicate.network.guard import NftGuard, NoGuard
from syndicate.network.interface import Doors, IGuard, INetworkFaults, NetworkFacts
from syndicate.network.libnftables import Nftables, NftError
from syndicate.network.probe import Prober
from syndicate.network.trying import Findings, Tools, find_out

_log = Logger()

#: Seconds between looks at a control group that should be about to be free, and their number.
_LOOK = 0.01
_LOOKS = 300


@implementer(INetworkFaults)
class NftFaults:
    """Guards of one volunteer. Made, and used, in the network namespace of its jobs.

    :param state: the volunteer's state directory; it and the name tell it from all others on the
        host.
    :param match: by what jobs are told from others where they are kept from ports; see `Bolt`.
    """

    def __init__(
        self,
        reactor: IChildReactor,
        state: Path,
        name: str,
        clock: IReactorTime,
        match: str = "auto",
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._tag = rules.tag(name, state)
        self._tools: Tools | None = None
        self._findings: Findings | None = None
        self._facts = NetworkFacts(())
        self._guard: IGuard | None = None
        self._bolt = Bolt(rules.table_name(self._tag, "doors"), match)
        self.group: Path | None = None

    def probe(self) -> Deferred[NetworkFacts]:
        return Deferred.fromCoroutine(self._probe())

    async def _probe(self) -> NetworkFacts:
        if self._findings is not None:
            return self._facts
        try:
            self.group = groups.place(self._tag)
            groups.make(self.group)
            prober = Prober(self._reactor, self.group / groups.PROBER)
            self._tools = Tools(Nftables(), prober, self._reactor)
            table = rules.table_name(self._tag, "trial")
            self._findings = await find_out(self._tools, table, self.group)
            self._facts = self._findings.facts
        except (OSError, NftError, SyndicateError) as error:
            await self._close()
            why = f"The packets of jobs cannot be dealt with here: {str(error).rstrip('.')}."
            kinds = sorted(kind.value for kind in ON_LINKS)
            self._facts = NetworkFacts((), tuple((kind, why) for kind in kinds))
        return self._facts

    def sweep(self) -> Deferred[int]:
        return Deferred.fromCoroutine(self._sweep())

    async def _sweep(self) -> int:
        swept = self._sweep_tables()
        try:
            group = groups.place(self._tag)
        except FileNotFoundError:
            return swept
        if group.exists():
            groups.empty(group)
            swept += await self._remove(group)
        return swept

    def _sweep_tables(self) -> int:
        swept = 0
        try:
            nft = Nftables()
            tables = nft.run("list tables inet").split()
        except NftError:
            return 0  # then there are none of ours either
        for name in tables:
            if name.startswith(rules.table_prefix(self._tag)):
                try:
                    nft.run(f"delete table inet {name}")
                    swept += 1
                except NftError as error:
                    _log.warn("table {name} stays: {why}", name=name, why=str(error))
        nft.close()
        return swept

    async def _remove(self, group: Path) -> bool:
        """Remove a group whose processes are about to end; false if they do not."""
        for _ in range(_LOOKS):
            if groups.remove(group):
                return True
            await deferLater(self._reactor, _LOOK)
        _log.error("{group} is in use and stays; the next start will look again", group=group)
        return False

    def shut(self, doors: Doors) -> Deferred[str]:
        tools, findings = self._tools, self._findings
        nft = None if tools is None else tools.nft
        return execute(self._bolt.shut, doors, nft, None if findings is None else findings.ours)

    def guard(self, key: str, peers: tuple[str, ...]) -> Deferred[IGuard]:
        if self._guard is not None:
            return fail(Conflict("A guard stands already; close it first."))
        if self._tools is None or self._findings is None:
            self._guard = NoGuard(self._facts, self._clock, self._dismiss)
            return succeed(self._guard)
        name = rules.table_name(self._tag, key)
        try:
            self._tools.prober.warm()
            self._guard = NftGuard(
                name,
                self._findings.ours,
                peers,
                self._tools,
                self._facts,
                self._clock,
                self._dismiss,
            )
        except NftError as error:
            return fail(SandboxFailed(f"The guard over {key} cannot be made: {error}."))
        except SandboxFailed as error:
            return fail(error)
        return succeed(self._guard)

    def _dismiss(self) -> None:
        self._guard = None

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._bolt.close()
        if self._guard is not None:
            try:
                await self._guard.close()
            except NotClean as error:
                _log.error("{why}", why=str(error))
        if self._tools is not None:
            await self._tools.prober.close()
            # What it owned, closed or not, goes with it.
            self._tools.nft.close()
        if self.group is not None:
            await self._remove(self.group)
        self._tools = self._findings = self.group = None
