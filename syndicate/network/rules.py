"""The words that the kernel's packet filter is told; nothing is done here.

What is ours is told by control group: a socket belongs for all its life to the group that its
process was in when it was made, and so do the packets of it, after the death of the process too.
The rules come before connection tracking, so that a connection that is established is cut as well.

Not every packet has such a socket. The kernel itself answers a connection that nobody has accepted
yet, and one that nobody knows. What it would tell a machine that must hear nothing from us is
dropped, where it is the answer of a port that a job can have had (`Ours.first_port`); what belongs
to another process of this host never is. Two kinds remain that say nothing of a job: the last word
of a connection that both sides have closed, and the host's own answer to a ping, which does not
tell who asked. So where one direction is cut, the job that would hear the answer does not get to
ask; and it is the hearer, too, that drops what is said to all at once.

What is cut off must not be told so. A TCP segment can be dropped at once: its sender does not learn
of it, nor does it wait longer and longer before it tries again. The sender of a datagram would get
an error that no broken network gives; such packets are turned back into this host instead, and
dropped there on arrival. So are packets that are lost by chance, TCP's too, which is to notice.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path

import attrs

from syndicate.domain.errors import Invalid
from syndicate.domain.fault import Links

#: The mark of a packet that was turned back.
TURNED = 0x53594E01
#: The first mark of packets that are to be held back; the next ones follow it.
HELD = 0x53598000
#: As many different times can packets be held back.
MOST_DELAYS = 256

#: Where the packet filter looks for control groups.
_GROUPS = Path("/sys/fs/cgroup")
#: Bytes that may go beyond those of one second: a packet, even of a network with large ones.
ALLOWANCE = 10_000

#: Chances are counted in so many parts of a whole.
_PARTS = 1_000_000

#: Characters of a tag or a key in the name of a table.
_LONGEST = 80

# A process of this host has the socket, or it has the one that listens for it.
_OWNED = "meta skuid 0-4294967294"
_BROADCAST = "meta pkttype { broadcast, multicast }"


@attrs.frozen
class Ours:
    """How the packets that are ours are known."""

    group: Path
    #: How deep below the root of the hierarchy the group is.
    level: int
    #: The first port that a process without rights can have.
    first_port: int = 1024

    @property
    def match(self) -> str:
        """The words for: it is of our group, or one below it."""
        place = os.path.relpath(self.group, _GROUPS)
        return f'socket cgroupv2 level {self.level} "{place}"'


def tag(name: str, state: Path) -> str:
    """Name a volunteer so that no other on the host is named so, see `syndicate.sandbox.host`."""
    digest = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()
    return f"{name}-{digest[:8]}"


def table_prefix(volunteer: str) -> str:
    """What the names of all tables of a volunteer begin with.

    :param volunteer: its `tag`.
    """
    return f"syn_{_word(volunteer)[-_LONGEST:]}_"


def table_name(volunteer: str, key: str) -> str:
    """The table of a guard; no longer than a name may be, however long the key is."""
    return table_prefix(volunteer) + _word(key)[:_LONGEST]


def _word(text: str) -> str:
    """A text as part of a name. Others may give the same; but a volunteer has one guard at a time,
    and a tag that nobody else has.
    """
    return re.sub(r"[^A-Za-z0-9]", "_", text)


def table(name: str, ours: Ours) -> str:
    """Make a table that lets everything pass."""
    match, ports = ours.match, f"{ours.first_port}-65535"
    sets = "\n".join(
        f"set {which}{version} {{ type ipv{version}_addr; }}"
        for which in ("blocked", "refused", "unheard", "shaped")
        for version in (4, 6)
    )
    return f"""\
table inet {name} {{
flags owner
{sets}
set served {{ type inet_service; size 65536; flags dynamic; }}
chain turned {{
meta mark set {TURNED:#x} counter
ip daddr set 127.0.0.1 accept
ip6 daddr set ::1 accept
}}
chain cut {{
meta l4proto tcp counter drop
goto turned
}}
chain shaping {{
}}
chain withheld {{
{match} goto cut
socket mark 0-4294967295 {_OWNED} accept
tcp sport @served counter drop
{_OWNED} accept
tcp sport {ports} tcp flags & rst == rst counter drop
}}
chain out {{
type route hook output priority -310; policy accept;
ip daddr @blocked4 goto withheld
ip6 daddr @blocked6 goto withheld
ip daddr @unheard4 icmp type echo-request {match} goto turned
ip6 daddr @unheard6 icmpv6 type echo-request {match} goto turned
ip daddr @shaped4 {match} goto shaping
ip6 daddr @shaped6 {match} goto shaping
}}
chain unanswered {{
socket transparent 0-1 accept
tcp dport {ports} counter drop
udp dport {ports} counter drop
}}
chain refused {{
{match} counter drop
goto unanswered
}}
chain in {{
type filter hook input priority -310; policy accept;
iif lo meta mark {TURNED:#x} counter drop
tcp flags & (fin | syn | rst | ack) == syn {match} update @served {{ tcp dport }}
ip saddr @refused4 goto refused
ip6 saddr @refused6 goto refused
ip saddr @unheard4 {_BROADCAST} {match} counter drop
ip6 saddr @unheard6 {_BROADCAST} {match} counter drop
ip saddr @blocked4 goto unanswered
ip6 saddr @blocked6 goto unanswered
}}
}}
"""


def change(name: str, former: Links, links: Links) -> str:
    """Replace what is in force.

    :param former: what is in force now. Its rules are kept where they stay the same, as a rate
        that begins anew would have a second to spare.
    :raises Invalid: something is no address, or no amount.
    """
    lines = [
        *_replace(name, "blocked", links.blocked),
        *_replace(name, "refused", links.refused),
        *_replace(name, "unheard", links.unheard),
    ]
    if _shape(former) != _shape(links):
        lines.append(f"flush chain inet {name} shaping")
        lines += _replace(
            name, "shaped", (address for part in _shape(links) for address, _ in part)
        )
        lines += (f"add rule inet {name} shaping {rule}" for rule in _shaping(links))
    return "\n".join(lines)


def delays(links: Links) -> dict[int, float]:
    """The times, in seconds, that packets are to be held back, by their mark."""
    times = sorted({seconds for _, seconds in links.delay})
    if len(times) > MOST_DELAYS:
        raise Invalid(f"Packets can be held back for {MOST_DELAYS} different times at once.")
    return {HELD + index: seconds for index, seconds in enumerate(times)}


def hold(links: Links) -> str:
    """The request to the delayer that belongs to some links."""
    return " ".join(["hold", *(f"{mark} {seconds:g}" for mark, seconds in delays(links).items())])


def _shape(links: Links) -> tuple[tuple[tuple[str, float], ...], ...]:
    return links.loss, links.rate, links.delay


def _replace(name: str, which: str, addresses: Iterable[str]) -> list[str]:
    lines = [f"flush set inet {name} {which}{version}" for version in (4, 6)]
    by_version: dict[int, set[str]] = {4: set(), 6: set()}
    for address in addresses:
        parsed = parse(address)
        by_version[parsed.version].add(str(parsed))
    for version, found in by_version.items():
        if found:
            elements = ", ".join(sorted(found))
            lines.append(f"add element inet {name} {which}{version} {{ {elements} }}")
    return lines


def _shaping(links: Links) -> Iterable[str]:
    for address, percent in links.loss:
        if not 0 <= percent <= 100:
            raise Invalid(f"{percent:g} is no share of packets: give a percentage from 0 to 100.")
        part = round(percent / 100 * _PARTS)
        # A comparison with the whole, which is always true, is refused.
        chance = f"numgen random mod {_PARTS} < {part}" if part < _PARTS else ""
        yield f"{_to(address)} {chance} goto turned"
    for address, rate in links.rate:
        if not 1 <= rate < 1 << 40:
            raise Invalid(f"{rate:g} bytes per second is no rate; give at least 1.")
        limit = f"limit rate over {round(rate)} bytes/second burst {ALLOWANCE} bytes"
        # What is counted has come as far as to the limit, see `syndicate.network.limits`.
        yield f"{_to(address)} counter {limit} goto turned"
    marks = {seconds: mark for mark, seconds in delays(links).items()}
    for address, seconds in links.delay:
        if not 0 <= seconds <= 3600:
            raise Invalid(f"{seconds:g} s is no delay: give seconds from 0 to 3600.")
        yield f"{_to(address)} meta mark set {marks[seconds]:#x}"


def _to(address: str) -> str:
    return f"{'ip6' if parse(address).version == 6 else 'ip'} daddr {parse(address)}"


def normal(links: Links) -> Links:
    """The same links with every address in its usual form.

    :raises Invalid: one is none.
    """

    def usual(pairs: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
        return tuple((str(parse(address)), amount) for address, amount in pairs)

    return Links(
        tuple(str(parse(address)) for address in links.blocked),
        usual(links.loss),
        usual(links.rate),
        usual(links.delay),
        tuple(str(parse(address)) for address in links.refused),
        tuple(str(parse(address)) for address in links.unheard),
    )


def parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as a value.

    :raises Invalid: it is none.
    """
    try:
        return ipaddress.ip_address(address)
    except ValueError as error:
        raise Invalid(f"{address!r} is not the address of a machine.") from error
