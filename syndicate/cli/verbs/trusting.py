"""The nouns ``token`` and ``certificate``: who is let in."""

from __future__ import annotations

from urllib.parse import quote

import click

from syndicate.cli.asking import agreed, yes_option
from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.listings import CERTIFICATES, TOKENS
from syndicate.cli.output import chosen, moment, output_option, show, write_json
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import SPAN

_HERE = "syndicate.cli.verbs.trusting"
_ROLES = ("user", "staff", "operator", "volunteer")


@click.group(
    cls=Verbs,
    places={
        "new": f"{_HERE}:new_token",
        "list": f"{_HERE}:list_tokens",
        "revoke": f"{_HERE}:revoke_token",
    },
)
def token() -> None:
    """Secrets that say who somebody is, and what he may do."""


@click.command(
    "new",
    cls=Verb,
    examples=(
        "syndicate token new --user ann --expires 180d > ann.token",
        "syndicate token new --role volunteer --user lab3 --expires 7d",
        "syndicate token new --role volunteer --host v7     good for v7 alone",
    ),
)
@click.option("--role", type=click.Choice(_ROLES), default="user", show_default=True)
@click.option("--user", metavar="NAME", help="Whose it is.")
@click.option("--expires", type=SPAN, metavar="TIME", help="After how long: 180d. Never, if unset.")
@click.option("--host", metavar="NAME", help="The only name by which a volunteer may join with it.")
@output_option
@pass_session
def new_token(
    session: Session,
    role: str,
    user: str | None,
    expires: float | None,
    host: str | None,
    output: str | None,
) -> None:
    """Make a token, and print its secret: the only time that it is to be seen."""
    if user is None and host is None:
        raise click.UsageError("Say whose it is: --user NAME.")
    asked = {"role": role, "user": user or host, "expires_in": expires}
    if host is not None:
        asked["host"] = host
    made = session.connection.post("/v1/tokens", asked)
    output = chosen(session, output)
    if output in ("json", "jsonl"):
        write_json(made)
    elif output == "id":
        click.echo(made["id"])
    else:
        click.echo(made["secret"])
        until = f"until {moment(made['expires_at'])}" if made["expires_at"] else "for ever"
        whose = made["user"]
        session.say(f"A token of the role {role} for {whose}, good {until}. Keep it secret.")


@click.command("list", cls=Verb, examples=("syndicate token list", "syndicate token list -o csv"))
@output_option
@pass_session
def list_tokens(session: Session, output: str | None) -> None:
    """Show all tokens, never their secrets; for staff."""
    found = session.connection.get("/v1/tokens")["tokens"]
    show(session, TOKENS, found, chosen(session, output))


@click.command("revoke", cls=Verb, examples=("syndicate token revoke 4f21ab90cc3e",))
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@yes_option
@pass_session
def revoke_token(session: Session, ids: tuple[str, ...], yes: bool) -> None:
    """Let nobody in with a token any more, by the id that ``token list`` shows."""
    for each in ids:
        if not agreed(f"Revoke the token {each} for ever?", yes):
            continue
        revoked = session.connection.post(f"/v1/tokens/{quote(each, safe='')}/revoke", {})["token"]
        session.say(f"The token {revoked['id']} of {revoked['user']} is good no more.")


@click.group(
    cls=Verbs,
    places={"list": f"{_HERE}:list_certificates", "revoke": f"{_HERE}:revoke_certificate"},
)
def certificate() -> None:
    """Certificates, by which volunteers are known."""


@click.command("list", cls=Verb, examples=("syndicate certificate list",))
@output_option
@pass_session
def list_certificates(session: Session, output: str | None) -> None:
    """Show the volunteers that have been given certificates; for staff."""
    found = session.connection.get("/v1/certificates")["certificates"]
    show(session, CERTIFICATES, found, chosen(session, output))


@click.command("revoke", cls=Verb, examples=("syndicate certificate revoke v7",))
@click.argument("names", nargs=-1, required=True, metavar="VOLUNTEER...")
@yes_option
@pass_session
def revoke_certificate(session: Session, names: tuple[str, ...], yes: bool) -> None:
    """Let a volunteer in no more; for operators. Its host still has the join token, so revoke that
    too, or it can come back by another name.
    """
    for name in names:
        if not agreed(f"Revoke the certificate of {name}?", yes):
            continue
        session.connection.post(f"/v1/certificates/{quote(name, safe='')}/revoke", {})
        session.say(
            f"{name} is let in no more. To change that: "
            f"syndicate token new --role volunteer --host {name}"
        )
