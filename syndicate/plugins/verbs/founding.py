"""The verb ``init``: what a manager and its volunteers need before they start."""

from __future__ import annotations

from pathlib import Path

import click

from syndicate.cli.grammar import Verb
from syndicate.config.manager import ManagerConfig, load_manager


@click.command(
    cls=Verb,
    examples=("syndicate-manager init -c /etc/syndicate/manager.toml",),
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The manager's TOML file.",
)
def init(config: Path) -> None:
    """Make the cluster's authority, the manager's certificate and the first tokens.

    What is there already is kept, so it can be called again at any time. No secret is printed: they
    are in files that only their owner can read. Call it as the user that the manager runs as.
    """
    from syndicate.plugins.founding import found

    settings = load_manager(config)
    founded = found(settings)
    for path in founded.made:
        click.echo(f"made {path}")
    if not founded.made:
        click.echo(f"All is there already in {settings.manager.state}.")
    _say_what_next(settings)


def _say_what_next(settings: ManagerConfig) -> None:
    state = settings.manager.state
    names = ", ".join(settings.manager.names) or "none but syndicate-manager and localhost"
    click.echo(
        f"""
The certificate is for these names and addresses of this host: {names}.

Copy to every volunteer, and name the copies in its volunteer.toml:
  {state}/authority/ca.pem   as /etc/syndicate/ca.pem, for all to read
  {state}/tokens/join        as /etc/syndicate/join, mode 0600; a secret
Copy to everybody who uses the cluster:
  {state}/authority/ca.pem   and a token: syndicate token new --user NAME
For yourself:
  {state}/tokens/staff, {state}/tokens/operator
Never copy ca.key, but to a backup that is as safe as this host: syndicate-manager backup."""
    )
