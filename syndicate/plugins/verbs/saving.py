"""Verbs that save a manager's state and bring it back: ``backup``, ``restore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from syndicate.cli.grammar import Verb
from syndicate.config.manager import load_manager
from syndicate.domain.quantities import say_size

if TYPE_CHECKING:
    from syndicate.plugins.restore import Restored

_config = click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="The manager's TOML file."
)
_state = click.option(
    "--state", type=click.Path(path_type=Path), help="The state directory, instead of a file."
)


def state_directory(config: Path | None, state: Path | None) -> Path:
    """The state directory that a command is about."""
    if (config is None) == (state is None):
        raise click.UsageError("Say which state directory: --config FILE, or --state DIRECTORY.")
    return state if state is not None else load_manager(config or Path()).manager.state


@click.command(
    cls=Verb,
    examples=(
        "syndicate-manager backup -c manager.toml /backup/monday       a directory",
        "syndicate-manager backup -c manager.toml /backup/monday.tar   or one file",
    ),
)
@_config
@_state
@click.argument("target", type=click.Path(path_type=Path))
def backup(config: Path | None, state: Path | None, target: Path) -> None:
    """Copy a manager's state while it runs: database, sources, outputs, logs, authority, tokens.

    TARGET must not be there yet; with a name that ends with .tar or .tar.gz it becomes one file.
    It holds the authority's key and tokens: keep it as safe as the state itself.
    """
    from syndicate.plugins.backup import make

    made = make(state_directory(config, state), target)
    click.echo(f"Saved {made.jobs} jobs in {made.files} files, {say_size(made.size)}: {target}")
    for name in made.missing:
        click.echo(f"Not there any more, and not saved: {name}", err=True)


@click.command(
    cls=Verb,
    examples=(
        "syndicate-manager restore -c manager.toml /backup/monday.tar",
        "syndicate-manager restore -c manager.toml --force /backup/monday   old state aside",
    ),
)
@_config
@_state
@click.option("--force", is_flag=True, help="Move a state that is there aside; nothing is deleted.")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
def restore(config: Path | None, state: Path | None, *, force: bool, source: Path) -> None:
    """Bring a backup back as the state directory of a manager that does not run.

    All of it is checked before anything is put in place: every file by its digest, the database by
    its own check, and that all is there which its records refer to.
    """
    from syndicate.plugins.restore import bring_back

    place = state_directory(config, state)
    done = bring_back(source, place, force=force)
    click.echo(f"Restored {done.jobs} jobs as of {done.made_at}: {place}")
    if done.aside is not None:
        click.echo(f"What was there before is now: {done.aside}")
    _tell_of_revocations(done)
    click.echo("Start the manager. Its next job gets number " + str(done.next_job) + ".")


def _tell_of_revocations(done: Restored) -> None:
    carried = done.carried
    if carried.tokens or carried.volunteers:
        names = ", ".join((*carried.tokens, *carried.volunteers))
        click.echo(
            f"Revoked since then, and revoked still: {len(carried.tokens)} tokens and "
            f"{len(carried.volunteers)} volunteers: {names}"
        )
    if carried.remark:
        click.echo(
            f"{carried.remark} Whoever was revoked since {done.made_at} and is not named above is "
            "let in again: look at syndicate token list and syndicate certificate list, and revoke "
            "them again (syndicate token revoke ID, syndicate certificate revoke NAME).",
            err=True,
        )
