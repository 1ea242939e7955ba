"""The shapes of the JSON API: jobs, events and volunteers as doc/api.rst describes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs

from syndicate.domain.fault import Fault, Kind
from syndicate.domain.job import Job, Machine
from syndicate.domain.volunteer import Volunteer
from syndicate.plain import to_plain
from syndicate.plain_events import event_from_plain


def timestamp(seconds: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def job_view(
    job: Job,
    position: int | None,
    reason: str,
    logged: Callable[[Machine], int] = lambda machine: 0,
) -> dict[str, Any]:
    """A job.

    :param position: its place in the queue, from 1; None when it does not wait.
    :param reason: why it waits, runs or ended so.
    :param logged: how many bytes of a machine's log have come so far; its record has the number
        only when it has ended.
    """
    spec = job.spec
    return {
        "job": job.number,
        "name": spec.name,
        "user": job.user,
        "state": job.state.value,
        "outcome": job.outcome and job.outcome.value,
        "reason": reason,
        "limit": job.limit,
        "attempt": job.attempt,
        "machines_wanted": spec.machines,
        "position": position,
        "submitted_at": timestamp(job.submitted_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "clients": max(spec.clients, 0),
        "seed": spec.seed,
        "source": {"sha256": spec.sha256, "size": spec.size},
        "client": {"sha256": spec.client_sha256, "size": spec.client_size}
        if spec.with_clients
        else None,
        "limits": attrs.asdict(spec.limits),
        "resources": to_plain(spec.resources),
        "outputs": list(spec.outputs),
        "env": dict(spec.env),
        "linger": spec.linger,
        "events": job.events,
        "machines": [_machine_view(machine, logged) for machine in job.machines],
    }


def _machine_view(machine: Machine, logged: Callable[[Machine], int]) -> dict[str, Any]:
    return {
        "machine": machine.name,
        "role": machine.role.value,
        "volunteer": machine.volunteer,
        "address": machine.address,
        "state": machine.state.value,
        "exit_code": machine.exit_code,
        "signal": machine.signal,
        "limit": machine.limit,
        "reason": machine.reason,
        "result": None if machine.result is None else attrs.asdict(machine.result),
        "revoked": machine.revoked,
        "log_bytes": machine.log_bytes or logged(machine),
        "outputs": machine.outputs,
        "left_out": list(machine.left_out),
    }


def event_view(job: int, number: int, stored: Any) -> dict[str, Any]:
    """A stored event."""
    event, at = event_from_plain(stored)
    details = dict(stored["details"])
    machine = details.pop("machine", None)
    details.pop("token", None)
    return {
        "n": number,
        "at": timestamp(at),
        "kind": event.kind,
        "job": job,
        "attempt": stored["attempt"],
        "machine": machine,
        "text": event.text,
        **{key: value for key, value in details.items() if key != "attempt"},
    }


def fault_view(job: int, fault: Fault) -> dict[str, Any]:
    """A fault."""
    return {
        "id": f"f{fault.number}",
        "job": job,
        "attempt": fault.attempt,
        "kind": fault.kind.value,
        "machines": list(fault.machines),
        "by": fault.by,
        "state": fault.state.value,
        "with_disk": fault.with_disk if fault.kind is Kind.REVIVE else None,
        "amount": fault.amount or None,
        "blocked": [list(pair) for pair in fault.blocked],
        "for": fault.lease,
        "requested_at": timestamp(fault.requested_at),
        "applied_at": timestamp(fault.applied_at),
        "verified_at": timestamp(fault.verified_at),
        "healed_at": timestamp(fault.healed_at),
        "uncertainty": fault.uncertainty,
        "note": fault.note,
        "ended": fault.ended or None,
    }


def volunteer_view(volunteer: Volunteer) -> dict[str, Any]:
    """A volunteer."""
    facts = volunteer.facts
    return {
        "volunteer": volunteer.name,
        "state": volunteer.state.value,
        "job": volunteer.job,
        "attempt": volunteer.attempt,
        "reason": volunteer.reason,
        "address": facts.address,
        "cores": facts.cores,
        "memory": facts.memory,
        "arch": facts.arch,
        "kernel": facts.kernel,
        "sandbox": facts.sandbox,
        "enforced": list(facts.enforced),
        "remarks": list(facts.remarks),
        "faults": list(facts.faults),
        "unsupported": dict(facts.unsupported),
        "versions": dict(facts.versions),
        "registered_at": timestamp(volunteer.registered_at or None),
        "heard_at": timestamp(volunteer.heard_at or None),
    }
