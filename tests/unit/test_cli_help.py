"""What help says is whole, and fits a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from syndicate.cli.grammar import Verb
from syndicate.cli.main import cli


def commands(
    command: click.Command = cli, parent: click.Context | None = None, name: str = "syndicate"
) -> Iterator[tuple[click.Context, click.Command]]:
    """A command and all below it."""
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=80, max_content_width=80
    )
    yield context, command
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            assert found is not None, word
            yield from commands(found, context, word)


ALL = list(commands())
GROUPS = [each for each in ALL if isinstance(each[1], click.Group)]


@pytest.mark.parametrize(
    ("context", "command"), GROUPS, ids=[context.command_path for context, _ in GROUPS]
)
def test_no_sentence_of_a_list_of_verbs_is_cut_off(
    context: click.Context, command: click.Command
) -> None:
    listed = command.get_help(context).partition("Commands:")[2]
    assert listed
    assert "..." not in listed


@pytest.mark.parametrize(
    ("context", "command"), ALL, ids=[context.command_path for context, _ in ALL]
)
def test_help_fits_eighty_columns(context: click.Context, command: click.Command) -> None:
    long = [line for line in command.get_help(context).splitlines() if len(line) > 80]
    assert not long


def test_an_example_that_is_too_long_is_explained_on_the_next_line() -> None:
    verb = Verb("x", examples=("x short  brief", f"x {'y' * 50}  {'z' * 40}"))
    context = click.Context(verb, info_name="x", terminal_width=80)
    lines = verb.get_help(context).splitlines()
    assert "  x short  brief" in lines
    assert lines[lines.index(f"  x {'y' * 50}") + 1] == f"      {'z' * 40}"
