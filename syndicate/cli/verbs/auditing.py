"""The verb ``audit``: who did what."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from syndicate.cli.grammar import Verb
from syndicate.cli.listings import AUDIT
from syndicate.cli.output import chosen, output_option, show
from syndicate.cli.session import Session, pass_session


@click.command(
    cls=Verb,
    examples=(
        "syndicate audit                         what was done last",
        "syndicate audit --who ann --did cancel  what ann has cancelled",
        "syndicate audit --on 'job 17'           all that was done to job 17",
        "syndicate audit --kind stranger         who was not let in",
    ),
)
@click.option("--who", metavar="USER", help="Only what this one did.")
@click.option("--did", metavar="WORDS", help="Only this, as the column DID has it.")
@click.option("--on", metavar="WORDS", help="Only what was done to this, such as 'job 17'.")
@click.option(
    "--kind", type=click.Choice(["person", "client", "stranger"]), help="Only by such as these."
)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many, the latest.",
)
@output_option
@pass_session
def audit(
    session: Session,
    who: str | None,
    did: str | None,
    on: str | None,
    kind: str | None,
    limit: int,
    output: str | None,
) -> None:
    """Show who did what to which job, volunteer or token; for operators."""
    asked = {"who": who, "did": did, "on": on, "kind": kind, "limit": limit}
    query = urlencode({key: value for key, value in asked.items() if value})
    found = session.connection.get(f"/v1/audit?{query}")["entries"]
    show(session, AUDIT, found, chosen(session, output))
