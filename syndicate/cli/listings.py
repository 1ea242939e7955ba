"""Which columns jobs, machines and volunteers have."""

from __future__ import annotations

import json
from collections.abc import Sequence

from syndicate.cli.output import Column, Listing, Row, ago, moment, seconds_since
from syndicate.domain.quantities import say_size, say_span


def _state(job: Row) -> str:
    return str(job["outcome"] or job["state"])


def lasted(job: Row) -> str:
    """How long a job has run."""
    if job["started_at"] is None:
        return ""
    seconds = seconds_since(job["started_at"], job["finished_at"])
    return say_span(seconds if seconds < 10 else round(seconds))


def ended_how(machine: Row) -> str:
    """A machine's exit code, signal, or the limit it went over."""
    if machine["limit"]:
        return f"over {machine['limit']}"
    if machine["signal"] is not None:
        return f"signal {machine['signal']}"
    return "" if machine["exit_code"] is None else str(machine["exit_code"])


def _memory(volunteer: Row) -> str:
    return say_size(volunteer["memory"]) if volunteer["memory"] else "-"


#: How the reason begins that is told of a pattern.
UNMATCHED = "no file matches "


def _kept(machine: Row) -> str:
    """Whether the outputs of a machine are there: ``yes``, ``in part``, ``none``; nothing where
    there are none to be kept, or not yet.
    """
    if machine.get("left_out"):
        return "in part" if machine["outputs"] else "none"
    return "yes" if machine["outputs"] else ""


def left_out(machines: Sequence[Row]) -> list[str]:
    """What the machines of a job were to keep and did not, a line for each reason.

    A pattern that files of one machine match is not told of the others: it is meant for that one.
    """
    where: dict[str, list[str]] = {}
    for machine in machines:
        for phrase in machine.get("left_out", ()):
            where.setdefault(phrase, []).append(machine["machine"])
    keeping = [machine.get("left_out", ()) for machine in machines if machine["outputs"]]
    return [
        f"Not kept of {', '.join(names)}: {phrase.rstrip('.')}."
        for phrase, names in where.items()
        if not phrase.startswith(UNMATCHED) or all(phrase in each for each in keeping)
    ]


def _told(entry: Row) -> str:
    """Details of an entry of the audit log; as JSON in ASCII, for somebody typed them."""
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in entry["details"].items())


JOBS = Listing(
    columns=(
        Column("JOB", lambda job: str(job["job"]), right=True),
        Column("NAME", lambda job: job["name"], most=24),
        Column("USER", lambda job: job["user"], spare=3, most=16),
        Column("STATE", _state),
        Column("MACHINES", lambda job: str(job["machines_wanted"]), right=True),
        Column(
            "PLACE", lambda job: "" if job["position"] is None else str(job["position"]), spare=2
        ),
        Column("AGE", lambda job: ago(job["submitted_at"]), spare=1),
        Column("RAN", lasted),
        Column("ATTEMPT", lambda job: str(job["attempt"]), wide=True, right=True),
        Column("SOURCE", lambda job: job["source"]["sha256"][:12], wide=True),
        Column("WHY", lambda job: job["reason"], wrap=True),
    ),
    csv=(
        *("job", "name", "user", "state", "outcome", "limit", "machines_wanted", "position"),
        *("attempt", "submitted_at", "started_at", "finished_at", "reason"),
    ),
    id="job",
    empty="No jobs wait or run.",
)

MACHINES = Listing(
    columns=(
        Column("MACHINE", lambda machine: machine["machine"]),
        Column("VOLUNTEER", lambda machine: machine["volunteer"], most=24),
        Column("ADDRESS", lambda machine: machine["address"], spare=1),
        Column("STATE", lambda machine: machine["state"]),
        Column("EXIT", ended_how),
        Column("LOG", lambda machine: say_size(machine["log_bytes"]), right=True, spare=2),
        Column("OUTPUTS", _kept, spare=3),
        Column("WHY", lambda machine: machine["reason"], wrap=True),
    ),
    csv=(
        *("machine", "role", "volunteer", "address", "state", "exit_code", "signal", "limit"),
        *("log_bytes", "outputs", "reason"),
    ),
    id="machine",
    empty="It has no machines yet.",
)

VOLUNTEERS = Listing(
    columns=(
        Column("VOLUNTEER", lambda volunteer: volunteer["volunteer"]),
        Column("STATE", lambda volunteer: volunteer["state"]),
        Column("JOB", lambda volunteer: "" if volunteer["job"] is None else str(volunteer["job"])),
        Column("ADDRESS", lambda volunteer: volunteer["address"] or "-"),
        Column("CORES", lambda volunteer: str(volunteer["cores"] or "-"), right=True, spare=2),
        Column("MEMORY", _memory, right=True, spare=3),
        Column("ARCH", lambda volunteer: volunteer["arch"] or "-", spare=5),
        Column("SANDBOX", lambda volunteer: volunteer["sandbox"] or "-", spare=4),
        Column("HEARD", lambda volunteer: ago(volunteer["heard_at"]) or "-", right=True),
        Column("KERNEL", lambda volunteer: volunteer["kernel"], wide=True),
        Column("ENFORCED", lambda volunteer: " ".join(volunteer["enforced"]), wide=True),
        Column("VERSION", lambda volunteer: volunteer["versions"].get("syndicate", ""), wide=True),
        Column("WHY", lambda volunteer: volunteer["reason"], wrap=True),
    ),
    csv=(
        *("volunteer", "state", "job", "attempt", "address", "cores", "memory", "arch", "kernel"),
        *("sandbox", "registered_at", "heard_at", "reason"),
    ),
    id="volunteer",
    empty="No volunteer has registered. Look at a volunteer's log for what keeps it.",
)

AUDIT = Listing(
    columns=(
        Column("AT", lambda entry: moment(entry["at"])),
        Column("WHO", lambda entry: entry["who"] or "(stranger)", most=20),
        Column("ROLE", lambda entry: entry["role"], spare=2),
        Column("DID", lambda entry: entry["did"]),
        Column("ON", lambda entry: entry["on"]),
        Column("OUTCOME", lambda entry: entry["outcome"]),
        Column("FROM", lambda entry: entry["address"], spare=3),
        Column("TOKEN", lambda entry: entry["token"], wide=True),
        Column("DETAILS", _told, wrap=True, spare=1),
    ),
    csv=("at", "kind", "who", "role", "token", "address", "did", "on", "outcome"),
    id="at",
    empty="Nothing of that kind was recorded.",
)

TOKENS = Listing(
    columns=(
        Column("ID", lambda token: token["id"]),
        Column("USER", lambda token: token["user"]),
        Column("ROLE", lambda token: token["role"]),
        Column("STATE", lambda token: token["state"]),
        Column("HOST", lambda token: token["host"] or ""),
        Column("EXPIRES", lambda token: moment(token["expires_at"]) or "never"),
        Column("MADE", lambda token: moment(token["created_at"]), wide=True),
        Column("REVOKED BY", lambda token: token["revoked_by"] or "", wide=True),
    ),
    csv=(
        *("id", "user", "role", "state", "host", "created_at", "expires_at"),
        *("revoked_at", "revoked_by"),
    ),
    id="id",
    empty="There are no tokens.",
)

CERTIFICATES = Listing(
    columns=(
        Column("VOLUNTEER", lambda certificate: certificate["volunteer"]),
        Column("STATE", lambda certificate: certificate["state"]),
        Column("EXPIRES", lambda certificate: moment(certificate["expires_at"])),
        Column("ASKED FROM", lambda certificate: certificate["address"]),
        Column("SERIAL", lambda certificate: certificate["serial"], wide=True),
        Column("REVOKED BY", lambda certificate: certificate["revoked_by"] or "", wide=True),
    ),
    csv=(
        *("volunteer", "state", "serial", "address", "issued_at", "expires_at"),
        *("revoked_at", "revoked_by"),
    ),
    id="volunteer",
    empty="No volunteer has asked for a certificate yet.",
)
