"""What a client or staff asks to be done, read from plain values and checked against the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syndicate.domain.errors import Invalid, NotYours
from syndicate.domain.fault import UNDONE_BY, Kind, partition
from syndicate.domain.job import Job, Machine, canonical_machine
from syndicate.domain.quantities import parse_size, parse_span

#: What each kind may be told beside the machine and how long it lasts.
_KEYS: Mapping[Kind, frozenset[str]] = {
    Kind.REVIVE: frozenset({"with_disk"}),
    Kind.PARTITION: frozenset({"groups", "shape", "one_way"}),
    Kind.LOSS: frozenset({"percent"}),
    Kind.RATE: frozenset({"rate"}),
    Kind.DELAY: frozenset({"delay"}),
    Kind.HEAL: frozenset({"id"}),
}
_MACHINE = frozenset({"machine", "ip"})

#: Machines that a refusal lists.
MOST_NAMED = 20


def find_machine(job: Job, name: object) -> Machine:
    """A machine of the job's present attempt, by name or address.

    :raises NotYours: there is none such in it; whether there is one elsewhere is not told.
    """
    wanted = canonical_machine(name) if isinstance(name, str) else name
    for machine in job.machines:
        if wanted in (machine.name, machine.address):
            return machine
    known = [machine.name for machine in job.machines]
    there = ", ".join(known[:MOST_NAMED]) + (", …" if len(known) > MOST_NAMED else "")
    raise NotYours(
        f"No machine of this job is called {name!r}; "
        + (f"there are: {there}." if known else "it has none now.")
    )


def read_request(job: Job, kind: Kind, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Fault` that a request asks for.

    :raises Invalid: a key or a value is wrong.
    :raises NotYours: it names a machine that is not the job's.
    """
    known = set(_KEYS.get(kind, ()))
    if kind in UNDONE_BY:
        known |= {"for"}
    elif arguments.get("for") is not None:
        raise Invalid(f"{kind.value} lasts until the next fault: it takes no 'for'.")
    else:
        arguments = {key: value for key, value in arguments.items() if key != "for"}
    if kind is not Kind.PARTITION and kind is not Kind.HEAL:
        known |= _MACHINE
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise Invalid(
            f"{kind.value} takes no {unknown[0]!r}; it takes: {', '.join(sorted(known))}."
        )
    values: dict[str, Any] = {"kind": kind, "machines": (), "lease": _lease(arguments)}
    if kind is Kind.PARTITION:
        blocked = _partition(job, arguments)
        values["blocked"] = blocked
        values["machines"] = tuple(sorted({name for pair in blocked for name in pair}))
    elif kind is not Kind.HEAL:
        name = arguments.get("machine", arguments.get("ip"))
        if name is None:
            raise Invalid(f"{kind.value} needs a machine: its name, or its address as 'ip'.")
        values["machines"] = (find_machine(job, name).name,)
    if kind is Kind.REVIVE:
        values["with_disk"] = _truth(arguments, "with_disk", default=True)
    if kind in (Kind.LOSS, Kind.RATE, Kind.DELAY):
        values["amount"] = _amount(kind, arguments)
    return values


def _lease(arguments: Mapping[str, Any]) -> float | None:
    if arguments.get("for") is None:
        return None
    try:
        seconds = parse_span(arguments["for"])
    except ValueError as error:
        raise Invalid(f"for: {error}.") from error
    if not 0 < seconds <= 7 * 86400:
        raise Invalid(f"for: {arguments['for']!r} is not a time above 0 and up to 7 days.")
    return seconds


def _truth(arguments: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = arguments.get(key, default)
    if not isinstance(value, bool):
        raise Invalid(f"{key}: {value!r} is not true or false.")
    return value


def _amount(kind: Kind, arguments: Mapping[str, Any]) -> float:
    try:
        if kind is Kind.RATE:
            amount = float(parse_size(arguments.get("rate")))
        elif kind is Kind.DELAY:
            amount = parse_span(arguments.get("delay"))
        else:
            percent = arguments.get("percent", -1)
            amount = -1.0 if isinstance(percent, bool) else float(percent)
    except (ValueError, TypeError) as error:
        raise Invalid(f"{kind.value}: {error}.") from error
    most = {Kind.LOSS: 100.0, Kind.DELAY: 60.0}.get(kind, 1e12)
    if not 0 < amount <= most:
        raise Invalid(f"{kind.value} must be more than 0 and at most {most:g}.")
    return amount


def _partition(job: Job, arguments: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    groups = arguments.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        raise Invalid('groups is a list of lists of machines, such as [["master"], ["slave[0]"]].')
    shape = arguments.get("shape", "split")
    if shape not in ("split", "bridge", "ring"):
        raise Invalid(f"shape is split, bridge or ring, not {shape!r}.")
    named = tuple(tuple(find_machine(job, name).name for name in group) for group in groups)
    return partition(shape, named, one_way=_truth(arguments, "one_way", default=False))
