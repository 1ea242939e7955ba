"""Finding out what works on a host, by doing it to packets that never leave it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import attrs

from syndicate.domain.errors import SandboxFailed, SyndicateError
from syndicate.domain.fault import Kind, Links
from syndicate.network import groups, rules
from syndicate.network.child import Child, IChildReactor
from syndicate.network.interface import NetworkFacts, Proof
from syndicate.network.judging import Asked
from syndicate.network.libnftables import Nftables, NftError
from syndicate.network.probe import Prober, Tally

#: An address of this host's own that nobody uses.
_ADDRESS = "127.90.83.89"
#: How much deeper than we see it a group may be, in a container on an older kernel.
_DEEPER = 8
#: What is tried, with little to be sent.
_TRIALS = (
    (Kind.LOSS, Links(loss=((_ADDRESS, 50.0),))),
    (Kind.RATE, Links(rate=((_ADDRESS, 1000.0),))),
    (Kind.DELAY, Links(delay=((_ADDRESS, 0.02),))),
)


@attrs.frozen
class Findings:
    """What works here."""

    ours: rules.Ours
    facts: NetworkFacts


@attrs.frozen
class Tools:
    """What guards work with."""

    nft: Nftables
    prober: Prober
    reactor: IChildReactor

    def delayer(self, table: str) -> Child:
        """Something that holds packets back."""
        return Child(self.reactor, "delayer.py", f"{table}_delay")


async def find_out(tools: Tools, table: str, group: Path) -> Findings:
    """Try everything.

    :param table: a name for the tables that are made and removed.
    :raises NftError: no packet can be cut here.
    :raises SandboxFailed: nor can that be tried.
    """
    tally = await _attempt(tools, Links())
    if tally.error:
        raise SandboxFailed(f"a datagram to this host itself fails: {os.strerror(tally.error)}")
    if not tally.left:
        raise SandboxFailed(
            "the kernel does not tell where a datagram went; is the sysctl "
            "net.core.tstamp_allow_data 0?"
        )
    ours = await _find_level(tools, table, group)
    supported, unsupported = [Kind.DISCONNECT.value, Kind.PARTITION.value], []
    for kind, links in _TRIALS:
        try:
            async with _in_force(tools, table, ours, links) as (proof, good):
                if not good:
                    raise SandboxFailed(f"It was tried without effect: {proof.seen}.")
        except (NftError, SyndicateError) as error:
            unsupported.append((kind.value, str(error)))
        else:
            supported.append(kind.value)
    return Findings(ours, NetworkFacts(tuple(supported), tuple(unsupported)))


async def _find_level(tools: Tools, table: str, group: Path) -> rules.Ours:
    """A wrong level is taken by the kernel like a right one, and matches nothing."""
    seen = groups.depth(group)
    for level in range(seen, seen + _DEEPER):
        ours = rules.Ours(group, level, _first_port())
        async with _in_force(tools, table, ours, Links(blocked=(_ADDRESS,))) as (_, good):
            if good:
                return ours
    raise NftError("rules by control group are taken, but match no packet")


@contextlib.asynccontextmanager
async def _in_force(
    tools: Tools, table: str, ours: rules.Ours, links: Links
) -> AsyncIterator[tuple[Proof, bool]]:
    """Have some links in force; gives what was seen of them, and whether they have an effect.

    :raises NftError: they were not taken.
    :raises SandboxFailed: it cannot be tried.
    """
    delayer = tools.delayer(table)
    tools.nft.run(rules.table(table, ours))
    try:
        if links.delay:
            await delayer.converse(rules.hold(links))
        tools.nft.run(rules.change(table, Links(), links))
        yield Asked.of(links, _ADDRESS).judge(await _attempt(tools, links), None)
    finally:
        tools.nft.run(f"delete table inet {table}")
        await delayer.close()


async def _attempt(tools: Tools, links: Links) -> Tally:
    asked = Asked.of(links, _ADDRESS)
    (tally,) = await tools.prober.attempt([asked.attempt()], asked.wait)
    return tally


def _first_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except OSError:
        return 1024
