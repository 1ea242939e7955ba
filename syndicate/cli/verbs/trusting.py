"""The nouns ``token`` and ``certificate``: who is let in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import click

from syndicate.cli.asking import agreed, yes_option
from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.listings import CERTIFICATES, TOKENS
from syndicate.cli.output import Listing, chosen, moment, output_option, show, write_json
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import SPAN

_HERE = "syndicate.cli.verbs.trusting"
_ROLES = ("user", "staff", "operator", "volunteer")


def _list_of(noun: str, listing: Listing, text: str) -> click.Command:
    """The verb that shows all of a kind."""

    def show_all(session: Session, output: str | None) -> None:
        found = session.connection.get(f"/v1/{noun}s")[f"{noun}s"]
        show(session, listing, found, chosen(session, output))

    show_all.__doc__ = text
    examples = (f"syndicate {noun} list", f"syndicate {noun} list -o csv")
    return click.command("list", cls=Verb, examples=examples)(output_option(pass_session(show_all)))


def _revocation(
    noun: str, metavar: str, question: str, say: Callable[[Mapping[str, Any]], str], text: str
) -> click.Command:
    """The verb that ends some of a kind.

    :param question: what is asked before, with a place for a name.
    :param say: what is said after, of what was ended.
    """

    def revoke(session: Session, names: tuple[str, ...], yes: bool) -> None:
        for name in names:
            if not agreed(question.format(name), yes):
                continue
            place = f"/v1/{noun}s/{quote(name, safe='')}/revoke"
            session.say(say(session.connection.post(place, {})[noun]))

    revoke.__doc__ = text
    command = click.argument("names", nargs=-1, required=True, metavar=metavar)(
        yes_option(pass_session(revoke))
    )
    sample = {"token": "4f21ab90cc3e", "certificate": "v7"}[noun]
    return click.command("revoke", cls=Verb, examples=(f"syndicate {noun} revoke {sample}",))(
        command
    )


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
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    default="user",
    show_default=True,
    help="What it lets its holder do.",
)
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


list_tokens = _list_of("token", TOKENS, "Show all tokens, never their secrets; for staff.")


def _said_of_token(revoked: Mapping[str, Any]) -> str:
    return f"The token {revoked['id']} of {revoked['user']} is good no more."


revoke_token = _revocation(
    "token",
    "ID...",
    "Revoke the token {} for ever?",
    _said_of_token,
    "Let nobody in with a token any more, by the id that 'token list' shows.",
)


@click.group(
    cls=Verbs,
    places={"list": f"{_HERE}:list_certificates", "revoke": f"{_HERE}:revoke_certificate"},
)
def certificate() -> None:
    """Certificates, by which volunteers are known."""


list_certificates = _list_of(
    "certificate",
    CERTIFICATES,
    "Show the volunteers that have been given certificates; for staff.",
)


def _said_of_certificate(revoked: Mapping[str, Any]) -> str:
    name = revoked["volunteer"]
    return (
        f"{name} is let in no more. To change that: "
        f"syndicate token new --role volunteer --host {name}"
    )


revoke_certificate = _revocation(
    "certificate",
    "VOLUNTEER...",
    "Revoke the certificate of {}?",
    _said_of_certificate,
    """Let a volunteer in no more; for operators. Its host still has the join token, so revoke that
    too, or it can come back by another name.
    """,
)
