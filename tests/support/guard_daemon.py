"""A daemon that does nothing but guard packets, as it is told by lines of JSON.

Run as ``python -m tests.support.guard_daemon STATE NAME MATCH``, in its job's network namespace.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver

from syndicate.domain.errors import SyndicateError
from syndicate.domain.fault import Links
from syndicate.network import rules
from syndicate.network.interface import Doors
from syndicate.network.nft import NftFaults

reactor: Any = installed


def links(words: dict[str, Any]) -> Links:
    """Links as JSON has them: lists for tuples."""
    return Links(
        **{  # type: ignore[arg-type]
            part: tuple(tuple(item) if isinstance(item, list) else item for item in items)
            for part, items in words.items()
        }
    )


def _plain(place: Any) -> Any:
    return tuple(place) if isinstance(place, list) else place


class Daemon(LineOnlyReceiver):
    """Carries out one request after another."""

    delimiter = b"\n"

    def __init__(self) -> None:
        state, name, *match = sys.argv[1:]
        self._faults = NftFaults(reactor, Path(state), name, reactor, *match)
        self._guard: Any = None

    def lineReceived(self, line: bytes) -> None:
        verb, words = json.loads(line)
        Deferred.fromCoroutine(self._carry_out(verb, words)).addErrback(
            lambda failure: failure.printTraceback(sys.stderr)
        )

    async def _carry_out(self, verb: str, words: dict[str, Any]) -> None:
        began = time.perf_counter()
        try:
            result = await getattr(self, f"do_{verb}")(**words)
            answer = {"result": result}
        except SyndicateError as error:
            answer = {"error": error.code, "why": str(error), "details": error.details}
        answer["ms"] = (time.perf_counter() - began) * 1000
        self.sendLine(json.dumps(answer).encode())

    def connectionLost(self, reason: Any = None) -> None:
        if IReactorCore(reactor).running:
            reactor.stop()

    async def do_probe(self) -> Any:
        facts = await self._faults.probe()
        return {**attrs.asdict(facts), "group": str(self._faults.group)}

    async def do_sweep(self) -> int:
        return await self._faults.sweep()

    async def do_shut(self, **words: Any) -> str:
        parts = {part: tuple(_plain(place) for place in places) for part, places in words.items()}
        return await self._faults.shut(Doors(**parts))

    async def do_guard(self, key: str, peers: list[str]) -> None:
        self._guard = await self._faults.guard(key, tuple(peers))

    async def do_apply(self, **words: Any) -> float:
        return float(await self._guard.apply(links(words)))

    async def do_verify(self, **words: Any) -> Any:
        return [attrs.asdict(proof) for proof in await self._guard.verify(links(words))]

    async def do_dismiss(self) -> None:
        await self._guard.close()

    async def do_close(self) -> None:
        await self._faults.close()

    async def do_misplace(self, level: int = 0, group: str = "") -> None:
        """Have the next guard look at another level, or at another group."""
        findings: Any = self._faults._findings
        changes: dict[str, Any] = {"level": level or findings.ours.level}
        changes["group"] = Path(group) if group else findings.ours.group
        self._faults._findings = attrs.evolve(findings, ours=attrs.evolve(findings.ours, **changes))

    async def do_spoil(self) -> None:
        """Lift everything behind the guard's back."""
        tools: Any = self._faults._tools
        tools.nft.run(f"flush set inet {self._guard._table} blocked4")

    async def do_tables(self) -> list[str]:
        tools: Any = self._faults._tools
        prefix = rules.table_prefix(self._faults._tag)
        return [n for n in tools.nft.run("list tables inet").split() if n.startswith(prefix)]


if __name__ == "__main__":
    StandardIO(Daemon())
    reactor.run()
