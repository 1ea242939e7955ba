"""Verbs that show how things are: ``queue``, ``status``, ``why``."""

from __future__ import annotations

import sys
import time
from typing import Any
from urllib.parse import urlencode

import click

from syndicate.cli.connection import PATIENCE
from syndicate.cli.grammar import Verb
from syndicate.cli.listings import JOBS, MACHINES, lasted, left_out
from syndicate.cli.output import (
    Listing,
    chosen,
    make_table,
    moment,
    output_option,
    session_console,
    show,
    visible,
    write_facts,
)
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB
from syndicate.domain.quantities import say_size, say_span

#: Seconds from one look at the queue to the next, with ``--watch``.
WATCH = 1.0


@click.command(
    cls=Verb,
    examples=(
        "syndicate queue                what waits and runs, and why",
        "syndicate q --all --user ann   everything of ann's, finished too",
        "syndicate q -a -n 50 --below 1200   finished jobs page by page, the newest first",
        "syndicate q --state failed     those that ended so",
        "syndicate queue -o jsonl       one JSON object a line",
    ),
)
@click.option("-a", "--all", "everything", is_flag=True, help="Finished jobs too.")
@click.option("--user", metavar="NAME", help="Only the jobs of this user.")
@click.option("--state", metavar="STATE[,STATE…]", help="Only in these states, or ended so.")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="At most so many jobs.")
@click.option("--below", type=click.IntRange(min=1), help="Only jobs with lower numbers.")
@click.option("-w", "--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@output_option
@pass_session
def queue(
    session: Session,
    everything: bool,
    user: str | None,
    state: str | None,
    limit: int | None,
    below: int | None,
    watch: bool,
    output: str | None,
) -> None:
    """Show the jobs that wait and run."""
    output = chosen(session, output)
    asked: dict[str, object] = {"all": everything and "1", "user": user, "state": state}
    asked |= {"limit": limit, "below": below}
    path = "/v1/jobs?" + urlencode({key: value for key, value in asked.items() if value})
    if not watch:
        show(session, JOBS, session.connection.get(path)["jobs"], output)
        return
    if output not in ("table", "wide"):
        raise click.UsageError("--watch shows a table; for programs there is: status JOB -o json")
    _watch(session, path, output)


def _watch(session: Session, path: str, output: str) -> None:
    from rich.live import Live

    columns = [column for column in JOBS.columns if output == "wide" or not column.wide]
    session.connection.patience = PATIENCE
    if not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal.")
    with Live(console=session_console(session), auto_refresh=False, screen=False) as live:
        while True:
            jobs = session.connection.get(path)["jobs"]
            live.update(make_table(columns, jobs, fitted=True), refresh=True)
            time.sleep(WATCH)


@click.command(
    cls=Verb,
    examples=(
        "syndicate status            the cluster",
        "syndicate status 17         a job and its machines, finished or not",
        "syndicate status latest -o json",
    ),
)
@click.argument("job", type=JOB, required=False)
@output_option
@pass_session
def status(session: Session, job: str | None, output: str | None) -> None:
    """Show how the cluster is, or one job."""
    output = chosen(session, output)
    if job is None:
        _show_cluster(session, output)
        return
    found = session.job(job)
    if output in ("table", "wide"):
        _describe(found)
        if found["state"] == "finished" and not found["machines"]:
            session.say("It was never given machines.")
        else:
            show(session, MACHINES, found["machines"], output)
        for line in left_out(found["machines"]):
            click.echo(visible(line))
    else:
        show(session, JOBS, [found], output, single=True)


def _show_cluster(session: Session, output: str) -> None:
    found = session.connection.get("/v1/status")
    if output not in ("table", "wide"):
        # Flat, for those forms that have no room for what is within something.
        row = found if output in ("json", "jsonl") else _flat(found)
        listing = Listing((), tuple(row), "cluster", "")
        show(session, listing, [row], output, single=True)
        return
    write_facts(
        {
            "cluster": f"{found['cluster']} (Syndicate {found['version']})",
            "manager": f"{session.settings.url}, since {moment(found['started_at'])}",
            "volunteers": say_counts(found["volunteers"]),
            "jobs": say_counts(found["jobs"]),
            "store": say_store(found["store"]),
            "you": f"{found['you']['user']} ({found['you']['role']})",
        }
    )


def say_store(found: dict[str, Any]) -> str:
    """What there is to say of the store, which on a good day is not much."""
    about = [str(found["engine"])] if found.get("engine") else []
    about += [say_size(found["size"])] if "size" in found else []
    wrong = [f"{key}: {visible(found[key])}" for key in STORE_WRONG if found.get(key)]
    return "; ".join([", ".join(about), *wrong])


#: What the store says when something is not as it should be.
STORE_WRONG = ("problem", "stalled", "refuses")


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, dict):
            row.update(
                {f"{key}_{within.replace(' ', '_')}": each for within, each in value.items()}
            )
        else:
            row[key] = value
    return row


def say_counts(counts: dict[str, int]) -> str:
    """How many there are in each state, those that none is in left out."""
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"


def _describe(job: dict[str, Any]) -> None:
    limits = job["limits"]
    place = f", place {job['position']}" if job["position"] is not None else ""
    ran = lasted(job)
    write_facts(
        {
            "job": f"{job['job']} ({job['name']}) of {job['user']}",
            "state": f"{job['outcome'] or job['state']}{place}",
            "why": job["reason"],
            "machines": str(job["machines_wanted"])
            + (f", attempt {job['attempt']}" if job["attempt"] else ""),
            "submitted": moment(job["submitted_at"]),
            "started": moment(job["started_at"]),
            "finished": moment(job["finished_at"]) + (f", after {ran}" if ran else "")
            if job["finished_at"]
            else None,
            "limits": f"{say_span(limits['wall'])}, processor {say_span(limits['cpu'])},"
            f" memory {say_size(limits['memory'])}, output {say_size(limits['output'])},"
            f" disk {say_size(limits['disk'])}",
            "outputs": " ".join(job["outputs"]),
        }
    )
    click.echo()


#: "It has failed", but "it was cancelled", and "it is running".
_BEEN = {
    **dict.fromkeys(("passed", "failed", "timed out"), "has"),
    **dict.fromkeys(("cancelled", "lost", "refused"), "was"),
}


#: Of a job that waits, each of ``volunteers`` has whether it ``fits``, and what it ``lacks``.
WHY = Listing(
    columns=(),
    csv=("job", "state", "outcome", "reason", "machines_wanted", "fitting"),
    id="job",
    empty="",
)


@click.command(
    cls=Verb,
    examples=(
        "syndicate why 17",
        "syndicate why 17 -o json   the same for programs",
    ),
)
@click.argument("job", type=JOB)
@output_option
@pass_session
def why(session: Session, job: str, output: str | None) -> None:
    """Say why a job waits, or ended as it did, and which volunteers it could run on."""
    output = chosen(session, output)
    found = session.job(job)
    about = {key: found[key] for key in ("job", "state", "outcome", "reason", "machines_wanted")}
    about["volunteers"] = None
    if found["state"] == "queued":
        volunteers = session.connection.get("/v1/volunteers")["volunteers"]
        about["volunteers"] = [_suits(each, found["resources"]) for each in volunteers]
    candidates = about["volunteers"] or []
    about["fitting"] = sum(each["fits"] for each in candidates)
    if output not in ("table", "wide"):
        show(session, WHY, [about], output, single=True)
        return
    stands = found["outcome"] or found["state"]
    been = _BEEN.get(stands, "is")
    click.echo(f"Job {found['job']} {been} {stands}: {visible(found['reason'])}")
    for each in candidates:
        click.echo(f"  {each['volunteer']:<12}  {_say_suits(each)}")
    if found["state"] == "queued":
        wanted, fitting = about["machines_wanted"], about["fitting"]
        click.echo(f"It wants {wanted} machines; {fitting} volunteers could be one.")


def _suits(volunteer: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Whether a volunteer could be a machine of a job; of a host that is not known it is not said
    what it lacks.
    """
    known = bool(volunteer["arch"])
    lacks = _lacks(volunteer, wanted) if known else None
    stands = {key: volunteer[key] for key in ("volunteer", "state", "job")}
    return {**stands, "fits": lacks == [], "lacks": lacks}


def _say_suits(found: dict[str, Any]) -> str:
    if found["lacks"] is None:
        return "is gone, and its host is not known"
    if found["lacks"]:
        return f"lacks {', '.join(found['lacks'])}"
    busy = "" if found["job"] is None else f" with job {found['job']}"
    return f"fits, is {found['state']}{busy}"


def _lacks(volunteer: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    lacks = []
    if volunteer["cores"] < wanted["cores"]:
        lacks.append(f"cores ({volunteer['cores']} of {wanted['cores']:g})")
    if volunteer["memory"] < wanted["memory"]:
        lacks.append(f"memory ({say_size(volunteer['memory'])} of {say_size(wanted['memory'])})")
    if wanted["arch"] and volunteer["arch"] not in wanted["arch"]:
        lacks.append(f"architecture ({volunteer['arch']}, not {' or '.join(wanted['arch'])})")
    return lacks
