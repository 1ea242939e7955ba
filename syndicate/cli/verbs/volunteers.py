"""The noun ``volunteers``."""

from __future__ import annotations

import click

from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.listings import VOLUNTEERS
from syndicate.cli.output import chosen, output_option, show, write_facts
from syndicate.cli.session import Session, pass_session
from syndicate.domain.errors import NotFound
from syndicate.domain.quantities import say_size

_HERE = "syndicate.cli.verbs.volunteers"


@click.group(
    cls=Verbs,
    places={"list": f"{_HERE}:list_volunteers", "show": f"{_HERE}:show_volunteer"},
    invoke_without_command=True,
    examples=("syndicate volunteers", "syndicate volunteers show v1"),
)
@output_option
@click.pass_context
def volunteers(ctx: click.Context, output: str | None) -> None:
    """Show the machines of the cluster."""
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
    found = session.connection.get("/v1/volunteers")["volunteers"]
    for volunteer in found:
        if name in (volunteer["volunteer"], volunteer["address"]):
            break
    else:
        known = ", ".join(each["volunteer"] for each in found) or "none"
        raise NotFound(f"There is no volunteer {name!r}; there are: {known}.")
    output = chosen(session, output)
    if output not in ("table", "wide"):
        show(session, VOLUNTEERS, [volunteer], output, single=True)
        return
    write_facts(
        {
            "volunteer": volunteer["volunteer"],
            "state": volunteer["state"],
            "why": volunteer["reason"],
            "job": volunteer["job"] and f"{volunteer['job']}, attempt {volunteer['attempt']}",
            "address": volunteer["address"],
            "has": f"{volunteer['cores']} cores, {say_size(volunteer['memory'])} of memory",
            "kernel": f"{volunteer['kernel']}, {volunteer['arch']}",
            "sandbox": volunteer["sandbox"],
            "enforces": ", ".join(volunteer["enforced"]),
            "versions": ", ".join(f"{k} {v}" for k, v in volunteer["versions"].items()),
            "registered": volunteer["registered_at"],
            "heard": volunteer["heard_at"],
        }
    )
