"""What the kernel tells of its limits on rates: how high each is, and how many packets met it.

A rate that is too high to be used up by a trial is proven so: the kernel's own listing has a limit
of that rate for the address, and the packets of the trial were counted as they came to it. That
it holds beyond is the kernel's promise, and was not seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

#: The units that a listing uses, in bytes; see ``rate_bytes`` in the grammar of nft(8).
_UNITS = {"bytes": 1, "kbytes": 1 << 10, "mbytes": 1 << 20}
_RULE = re.compile(
    r"ip6? daddr (?P<address>\S+) counter packets (?P<packets>\d+) bytes \d+"
    r" limit rate over (?P<rate>\d+) (?P<unit>[km]?bytes)/second"
)


@attrs.frozen
class Limit:
    """One limit."""

    #: Bytes per second.
    rate: int
    #: Packets that were measured against it so far.
    packets: int


def read(listing: str) -> Mapping[str, Limit]:
    """The limits of a table by address, from ``list chain``."""
    return {
        rule["address"]: Limit(int(rule["rate"]) * _UNITS[rule["unit"]], int(rule["packets"]))
        for rule in _RULE.finditer(listing)
    }


def since(before: Mapping[str, Limit], now: Mapping[str, Limit]) -> Mapping[str, Limit]:
    """The limits of now, with the packets that were measured since then."""
    return {
        address: attrs.evolve(
            limit, packets=limit.packets - before.get(address, Limit(0, 0)).packets
        )
        for address, limit in now.items()
    }
