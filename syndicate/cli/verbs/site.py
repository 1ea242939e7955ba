"""The smaller nouns: ``config``, ``completion``, ``version``."""

from __future__ import annotations

import sys
from typing import Any

import click

from syndicate import __version__
from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.output import output_option, write_facts, write_json
from syndicate.cli.session import Session, pass_session
from syndicate.domain.errors import SyndicateError

_HERE = "syndicate.cli.verbs.site"


@click.group(cls=Verbs, places={"show": f"{_HERE}:show_config"})
def config() -> None:
    """What the command line goes by."""


@click.command("show", cls=Verb, examples=("syndicate config show",))
@pass_session
def show_config(session: Session) -> None:
    """Show which cluster is used, and where that is from."""
    settings = session.settings
    facts: dict[str, str | None] = {}
    for key in ("url", "authority", "token_file", "token", "console_key", "output"):
        facts[key] = settings.describe(key) or (None if key == "token" else "not set")
    if settings.find("url") is None and settings.labs:
        facts["url"] = f"not set; several labs are up: {', '.join(settings.labs)}"
    write_facts(facts)


@click.command(
    cls=Verb,
    examples=(
        'eval "$(syndicate completion bash)"                 in ~/.bashrc',
        "syndicate completion zsh > ~/.zfunc/_syndicate      zsh",
        "syndicate completion fish > ~/.config/fish/completions/syndicate.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete verbs, options and job numbers."""
    from click.shell_completion import get_completion_class

    found: Any = get_completion_class(shell)
    root = ctx.find_root().command
    click.echo(found(root, {}, "syndicate", "_SYNDICATE_COMPLETE").source())


@click.command(cls=Verb, examples=("syndicate version",))
@output_option
@pass_session
def version(session: Session, output: str | None) -> None:
    """Show the version, and the manager's if there is one that answers."""
    found: dict[str, Any] = {"version": __version__, "python": sys.version.split()[0]}
    try:
        found["manager"] = session.connection.get("/v1/version")
    except SyndicateError:
        found["manager"] = None
    if output in ("json", "jsonl"):
        write_json(found)
        return
    click.echo(f"Syndicate {__version__} on Python {found['python']}")
    if manager := found["manager"]:
        click.echo(f"The manager of {manager['cluster']!r} has {manager['version']}")
