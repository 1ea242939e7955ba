"""The noun ``volunteers``."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.listings import VOLUNTEERS
from syndicate.cli.output import chosen, moment, output_option, show, write_facts
from syndicate.cli.session import Session, pass_session
from syndicate.domain.errors import NotFound
from syndicate.domain.quantities import say_size

_HERE = "syndicate.cli.verbs.volunteers"

#: Seconds from one look at a volunteer that drains to the next.
LOOK = 1.0


@click.group(
    cls=Verbs,
    places={
        "list": f"{_HERE}:list_volunteers",
        "show": f"{_HERE}:show_volunteer",
        "drain": f"{_HERE}:drain",
        "quarantine": f"{_HERE}:quarantine",
        "resume": f"{_HERE}:resume",
    },
    invoke_without_command=True,
    examples=("syndicate volunteers", "syndicate volunteers show v1"),
)
@output_option
@click.pass_context
def volunteers(ctx: click.Context, output: str | None) -> None:
    """Show and steer the machines of the cluster."""
    if ctx.invoked_subcommand is None:
        _list(ctx.find_object(Session) or ctx.fail("no session"), output)
    elif output is not None:
        ctx.fail("give -o after the verb")


@click.command("list", cls=Verb, examples=("syndicate volunteers list -o csv",))
@output_option
@pass_session
def list_volunteers(session: Session, output: str | None) -> None:
    """Show all of them."""
    _list(session, output)


def _list(session: Session, output: str | None) -> None:
    found = session.connection.get("/v1/volunteers")["volunteers"]
    show(session, VOLUNTEERS, found, chosen(session, output))


@click.command("show", cls=Verb, examples=("syndicate volunteers show v1",))
@click.argument("name")
@output_option
@pass_session
def show_volunteer(session: Session, name: str, output: str | None) -> None:
    """Show one of them, by name or address."""
    volunteer = _named(session, name)
    output = chosen(session, output)
    if output not in ("table", "wide"):
        show(session, VOLUNTEERS, [volunteer], output, single=True)
        return
    # Of one that has not come back since the manager's start nothing is known.
    known = bool(volunteer["arch"])
    write_facts(
        {
            "volunteer": volunteer["volunteer"],
            "state": volunteer["state"],
            "why": volunteer["reason"],
            "job": volunteer["job"] and f"{volunteer['job']}, attempt {volunteer['attempt']}",
            "address": volunteer["address"],
            "has": f"{volunteer['cores']} cores, {say_size(volunteer['memory'])} of memory"
            if known
            else "-",
            "kernel": f"{volunteer['kernel']}, {volunteer['arch']}" if known else "-",
            "sandbox": volunteer["sandbox"],
            "enforces": ", ".join(volunteer["enforced"]),
            "lacks": " ".join(volunteer.get("remarks", ())),
            # A kill needs nothing of the host; what it says is of all else.
            "faults": ", ".join(("kill", *volunteer.get("faults", ()))) if known else "-",
            "no faults": "; ".join(
                f"{kind}: {reason}" for kind, reason in volunteer.get("unsupported", {}).items()
            ),
            "versions": ", ".join(f"{k} {v}" for k, v in volunteer["versions"].items()),
            "registered": moment(volunteer["registered_at"]),
            "heard": moment(volunteer["heard_at"]),
        }
    )


def _named(session: Session, name: str) -> dict[str, Any]:
    """A volunteer by name or address."""
    found: list[dict[str, Any]] = session.connection.get("/v1/volunteers")["volunteers"]
    for volunteer in found:
        if name in (volunteer["volunteer"], volunteer["address"]):
            return volunteer
    known = ", ".join(each["volunteer"] for each in found) or "none"
    raise NotFound(f"There is no volunteer {name!r}; there are: {known}.")


_reason = click.option("--reason", default="", metavar="TEXT", help="Shown to everybody.")


@click.command(
    "drain",
    cls=Verb,
    examples=(
        "syndicate volunteers drain v1 --reason 'new kernel'",
        "syndicate volunteers drain v1 --wait   until its present job has ended",
    ),
)
@click.argument("name")
@_reason
@click.option("-w", "--wait", is_flag=True, help="Wait until it does nothing any more.")
@pass_session
def drain(session: Session, name: str, reason: str, wait: bool) -> None:
    """Give one of them no further job; the present one goes on to its end. For operators."""
    volunteer = _say(session, name, "drain", reason)
    while wait and volunteer["state"] in ("busy", "cleaning"):
        time.sleep(LOOK)
        volunteer = _named(session, volunteer["volunteer"])
    _say_until(session, volunteer)


@click.command(
    "quarantine",
    cls=Verb,
    examples=("syndicate volunteers quarantine v1 --reason 'its disk makes noises'",),
)
@click.argument("name")
@_reason
@pass_session
def quarantine(session: Session, name: str, reason: str) -> None:
    """The same for one that is not to be trusted. For operators."""
    _say_until(session, _say(session, name, "quarantine", reason))


@click.command("resume", cls=Verb, examples=("syndicate volunteers resume v1",))
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> None:
    """Let one that was drained or quarantined have jobs again. For operators."""
    volunteer = _say(session, name, "resume", "")
    if volunteer["state"] == "unclean":
        session.say(f"{name} gets jobs once it is clean. {volunteer['reason']}")


def _say_until(session: Session, volunteer: dict[str, Any]) -> None:
    """Say what it still works on."""
    if volunteer["state"] == "busy":
        session.say(f"{volunteer['volunteer']} works on job {volunteer['job']} to its end.")


def _say(session: Session, name: str, verb: str, reason: str) -> dict[str, Any]:
    asked = {"reason": reason} if reason else {}
    path = f"/v1/volunteers/{quote(name, safe='')}/{verb}"
    found: dict[str, Any] = session.connection.post(path, asked)["volunteer"]
    away = found["state"] == "gone"
    session.say(f"{name} is away. {found['reason']}" if away else f"{name} is {found['state']}.")
    return found
