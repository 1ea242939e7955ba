"""Keeping jobs from the cluster's own ports: what the kernel's packet filter is told.

Only the first packet of a connection is looked at, by the control group of its socket, as in
`syndicate.network.rules`. What goes to another host is refused as it leaves. On this host it is
not known then who listens, and a job may well use the number of a daemon's port that has another
address: so the packet is marked as it leaves and refused as it arrives, unless the one who listens
is a job's as well.

Where packets cannot be told by control group they are told by the user who made the socket. The
user of one that listens is nowhere to be found, so what goes to a daemon's port of this host is
refused then whoever listens there.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from syndicate.network import rules
from syndicate.network.interface import Doors

#: The mark of the first packet of a job's connection to a daemon's port of this host.
_MARK = 0x53594E02
_VERSIONS = (4, 6)
#: How it is refused: so that a job need not wait to be told, or where the kernel cannot say so.
REFUSALS = ("reject with tcp reset", "drop")


@attrs.frozen
class Users:
    """How the connections of jobs are known where that cannot be by control group."""

    first: int
    last: int

    @property
    def match(self) -> str:
        """The words for: one of them made the socket."""
        return f"meta skuid {self.first}-{self.last}"


def table(name: str, ours: rules.Ours | Users, refusal: str) -> str:
    """Make a table that keeps nobody from anything yet.

    :param refusal: one of `REFUSALS`.
    """
    sets = "\n".join(
        f"set {which}{version} {{ type ipv{version}_addr . inet_service; }}"
        for which in ("closed", "open")
        for version in _VERSIONS
    )
    by_group = isinstance(ours, rules.Ours)
    local = f"meta mark set {_MARK:#x} accept" if by_group else f"counter {refusal}"
    # Before the guards, whose marks are for packets to other hosts.
    return f"""\
table inet {name} {{
flags owner
{sets}
set own {{ type inet_service; }}
set everywhere {{ type inet_service; }}
chain out {{
type filter hook output priority -311; policy accept;
tcp flags & (fin | syn | rst | ack) == syn {ours.match} goto first
}}
chain first {{
ip daddr . tcp dport @open4 accept
ip6 daddr . tcp dport @open6 accept
ip daddr . tcp dport @closed4 counter {refusal}
ip6 daddr . tcp dport @closed6 counter {refusal}
fib daddr type local tcp dport @own {local}
fib daddr type local tcp dport @everywhere {local}
tcp dport @everywhere counter {refusal}
}}
{_arrival(ours.match, refusal) if by_group else ""}
}}
"""


def _arrival(match: str, refusal: str) -> str:
    return f"""\
chain in {{
type filter hook input priority -311; policy accept;
iif lo meta mark {_MARK:#x} goto arrived
}}
chain arrived {{
meta mark set 0
{match} accept
counter {refusal}
}}
"""


def change(name: str, doors: Doors) -> str:
    """Replace what jobs are kept from.

    :raises Invalid: something is no address.
    """
    lines = []
    for which, places in (("closed", doors.closed), ("open", doors.open)):
        for version in _VERSIONS:
            found = sorted(
                {
                    f"{address} . {port}"
                    for address, port in places
                    if rules.parse(address).version == version
                }
            )
            lines += _replace(name, f"{which}{version}", found)
    lines += _replace(name, "own", map(str, sorted(set(doors.own))))
    lines += _replace(name, "everywhere", map(str, sorted(set(doors.everywhere))))
    return "\n".join(lines)


def _replace(name: str, which: str, elements: Iterable[str]) -> list[str]:
    listed = ", ".join(elements)
    added = [f"add element inet {name} {which} {{ {listed} }}"] if listed else []
    return [f"flush set inet {name} {which}", *added]
