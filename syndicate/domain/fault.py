"""Faults as values: what a client or staff asks for, and the record of what became of it.

A fault is *requested*, then *applied*, then *verified* by something other than what applied it,
and only then answered; one that changes the state of things is *healed* later, by the call that
undoes it, by its lease, or with the attempt. The record keeps each time, so that the ledger can
be balanced: every start has its end.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import attrs

from syndicate.domain.errors import Invalid, NotFound
from syndicate.domain.quantities import say_size, say_span


class Kind(enum.Enum):
    """What is done; the value is the name in API, CLI and store."""

    KILL = "kill"
    REVIVE = "revive"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    PAUSE = "pause"
    RESUME = "resume"
    PARTITION = "partition"
    LOSS = "loss"
    RATE = "rate"
    DELAY = "delay"
    HEAL = "heal"


#: What undoes what: a fault of the first kind on a machine ends with one of the second.
UNDONE_BY: Mapping[Kind, Kind] = {
    Kind.KILL: Kind.REVIVE,
    Kind.DISCONNECT: Kind.RECONNECT,
    Kind.PAUSE: Kind.RESUME,
    Kind.PARTITION: Kind.HEAL,
    Kind.LOSS: Kind.HEAL,
    Kind.RATE: Kind.HEAL,
    Kind.DELAY: Kind.HEAL,
}

#: Kinds that change which packets pass.
ON_LINKS = frozenset({Kind.DISCONNECT, Kind.PARTITION, Kind.LOSS, Kind.RATE, Kind.DELAY})


class FaultState(enum.Enum):
    """How far a fault has come."""

    REQUESTED = "requested"
    VERIFIED = "verified"
    HEALED = "healed"
    #: It was not done, and nothing of it is in force.
    FAILED = "failed"
    #: Its volunteer or the manager was lost in the midst of it: what was done is not known.
    UNKNOWN = "unknown"


@attrs.frozen
class Fault:
    """One fault of one attempt.

    Times are epoch seconds by the manager's clock; what a volunteer measured was brought to it
    with the offset that the link's pings found, and ``uncertainty`` says how well, in seconds.
    """

    #: Counts from 1 in each job; its name in the API is ``f<number>``.
    number: int
    attempt: int
    kind: Kind
    #: Names of the machines it is done to.
    machines: tuple[str, ...]
    #: The machine whose handle asked, or the name of the member of staff.
    by: str
    requested_at: float
    state: FaultState = FaultState.REQUESTED
    #: For `Kind.REVIVE`: whether the disk was kept.
    with_disk: bool = True
    #: For `Kind.PARTITION`: directed pairs of machines, from and to, whose packets are dropped.
    blocked: tuple[tuple[str, str], ...] = ()
    #: Percent of packets lost, bytes per second, seconds of delay.
    amount: float = 0.0
    #: Seconds after which it heals by itself; None lasts until it is undone.
    lease: float | None = None
    applied_at: float | None = None
    verified_at: float | None = None
    healed_at: float | None = None
    uncertainty: float = 0.0
    #: What was seen that proves it, or why it failed; of a failure, the code of its error.
    note: str = ""
    code: str = ""
    #: What ended it, such as ``by f4``; empty while it lasts.
    ended: str = ""
    #: The key of the request, so that the same one again is the same fault.
    token: str | None = None
    #: For `Kind.HEAL`: the number of the fault that it undoes.
    undoes: int | None = None

    @property
    def said(self) -> str:
        """What is said of its present state: what ended it, where that is known, or its note."""
        return (self.state is FaultState.HEALED and self.ended) or self.note

    @property
    def lasting(self) -> bool:
        """Whether it stays in force until something ends it."""
        return self.kind in UNDONE_BY

    @property
    def in_force(self) -> bool:
        """Whether it must be taken to be in force now."""
        return self.lasting and self.state in (
            FaultState.REQUESTED,
            FaultState.VERIFIED,
            FaultState.UNKNOWN,
        )


def say_kind(kind: str, amount: float | None = None, with_disk: bool | None = None) -> str:
    """What is done, and how much of it, in a few characters: ``loss 20%``."""
    if kind == Kind.REVIVE.value and with_disk is not None:
        return f"{kind}, disk {'kept' if with_disk else 'emptied'}"
    if not amount:
        return kind
    if kind == Kind.LOSS.value:
        return f"{kind} {amount:g}%"
    if kind == Kind.RATE.value:
        return f"{kind} {say_size(amount)}/s"
    if kind == Kind.DELAY.value:
        return f"{kind} {say_span(amount)}"
    return kind


def pick(faults: Iterable[Fault], which: object, by: str, attempt: int) -> Fault:
    """The fault of an id, such as ``f3``; or the one of an attempt that ``by`` has asked for, by
    the key of the request.

    :raises NotFound: there is none such.
    """
    for fault in faults:
        asked = which == fault.token and (fault.by, fault.attempt) == (by, attempt)
        if which == f"f{fault.number}" or (asked and isinstance(which, str)):
            return fault
    raise NotFound(f"The job has no fault {str(which)[:200]!r}.")


@attrs.frozen
class Links:
    """What one machine's packets to each other machine of the job meet; the whole, never a
    difference.
    """

    #: Addresses to which nothing of the job may leave from here.
    blocked: tuple[str, ...] = ()
    #: ``(address, percent)`` of packets to it that are lost.
    loss: tuple[tuple[str, float], ...] = ()
    #: ``(address, bytes per second)`` that may go to it.
    rate: tuple[tuple[str, float], ...] = ()
    #: ``(address, seconds)`` that packets to it are held back.
    delay: tuple[tuple[str, float], ...] = ()
    #: Addresses from which nothing is let in, where the sender's side cannot be told.
    refused: tuple[str, ...] = ()
    #: Addresses from which nothing must come. Their side lets nothing of the job leave for here;
    #: what it says to all at once, and what its host itself would answer, is stopped here.
    unheard: tuple[str, ...] = ()


def links(
    faults: Iterable[Fault],
    addresses: Mapping[str, str],
    unreachable: frozenset[str] = frozenset(),
) -> dict[str, Links]:
    """The links of every machine, from the faults in force.

    A link between two machines is up only if neither is disconnected and no partition blocks it.
    Links to and from clients are cut only by a partition that names them, or when the client
    itself is disconnected.

    :param addresses: of all machines of the attempt, by name; clients' names begin with
        ``client``.
    :param unreachable: machines whose volunteer cannot be told; the others then refuse what
        comes from them.
    """
    blocked = _blocked([fault for fault in faults if fault.in_force], addresses)
    found = {}
    for name in addresses:
        found[name] = Links(
            blocked=_to(name, blocked, addresses),
            refused=tuple(
                addresses[source]
                for source, target in sorted(blocked)
                if target == name and source in unreachable
            ),
            unheard=tuple(
                sorted(addresses[source] for source, target in blocked if target == name)
            ),
            **{
                kind.value: _amounts(kind, name, faults, addresses)
                for kind in (Kind.LOSS, Kind.RATE, Kind.DELAY)
            },
        )
    return found


def _blocked(faults: list[Fault], addresses: Mapping[str, str]) -> set[tuple[str, str]]:
    pairs: set[tuple[str, str]] = set()
    for fault in faults:
        if fault.kind is Kind.PARTITION:
            pairs.update(pair for pair in fault.blocked if set(pair) <= addresses.keys())
        if fault.kind is Kind.DISCONNECT:
            for cut in fault.machines:
                peers = (n for n in addresses if n != cut and not n.startswith("client"))
                pairs.update(pair for peer in peers for pair in ((cut, peer), (peer, cut)))
    return pairs


def _to(name: str, blocked: set[tuple[str, str]], addresses: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(addresses[target] for source, target in blocked if source == name))


def _amounts(
    kind: Kind, name: str, faults: Iterable[Fault], addresses: Mapping[str, str]
) -> tuple[tuple[str, float], ...]:
    """The last fault of a kind decides; loss, rate and delay act on what leaves its machines for
    masters and slaves.
    """
    found: dict[str, float] = {}
    for fault in faults:
        if fault.kind is kind and fault.in_force and name in fault.machines:
            for peer, address in addresses.items():
                if peer != name and not peer.startswith("client"):
                    found[address] = fault.amount
    return tuple(sorted(found.items()))


def partition(
    shape: str, groups: tuple[tuple[str, ...], ...], *, one_way: bool = False
) -> tuple[tuple[str, str], ...]:
    """The directed pairs that a partition blocks.

    :param shape: ``split``: machines of different groups do not reach each other; with
        ``one_way`` those of earlier groups do not reach those of later ones. ``bridge``: as
        split, but the last group, of one machine, reaches all and is reached by all. ``ring``:
        of one group, each reaches only its two neighbours.
    :raises Invalid: the groups do not fit the shape.
    """
    members = [name for group in groups for name in group]
    if len(members) != len(set(members)):
        raise Invalid("A machine can be in one group of a partition only.")
    if shape == "ring":
        if len(groups) != 1 or len(members) < 4:
            raise Invalid("A ring is one group of at least four machines.")
        count = len(members)
        return tuple(
            (a, b)
            for i, a in enumerate(members)
            for j, b in enumerate(members)
            if a != b and (i - j) % count not in (1, count - 1)
        )
    if shape == "bridge":
        if len(groups) != 3 or len(groups[2]) != 1:
            raise Invalid("A bridge is two groups, and a third of the one machine between them.")
        groups = groups[:2]
    elif shape != "split" or len(groups) < 2:
        raise Invalid("A partition is a split of at least two groups, a bridge, or a ring.")
    return tuple(
        (a, b)
        for i, source in enumerate(groups)
        for j, target in enumerate(groups)
        if i < j or (i > j and not one_way)
        for a in source
        for b in target
    )


def undoes(fault: Fault, other: Fault) -> bool:
    """Whether a verified fault has ended another one that was in force."""
    if other.number >= fault.number:
        return False
    if fault.kind is Kind.HEAL:
        return other.number == fault.undoes
    undone = {
        Kind.REVIVE: (Kind.KILL, Kind.PAUSE),
        Kind.RECONNECT: (Kind.DISCONNECT,),
        Kind.RESUME: (Kind.PAUSE,),
        # A paused machine that is killed stands no more; a second kill takes the first's place.
        Kind.KILL: (Kind.PAUSE, Kind.KILL),
        Kind.PAUSE: (Kind.PAUSE,),
        Kind.LOSS: (Kind.LOSS,),
        Kind.RATE: (Kind.RATE,),
        Kind.DELAY: (Kind.DELAY,),
    }.get(fault.kind, ())
    return other.kind in undone and set(other.machines) <= set(fault.machines)


def lease_over(fault: Fault, at: float) -> bool:
    """Whether the lease of a fault ends at that moment, in epoch seconds, or before."""
    return fault.lease is not None and fault.requested_at + fault.lease <= at
