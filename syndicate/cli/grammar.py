"""How the verbs are put together: loaded when they are called, examples first, typos understood."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: Characters that the first sentence of a verb's help has at the most.
_SENTENCE = 250


def _misplaced(ctx: click.Context, error: click.NoSuchOption) -> click.UsageError:
    """What to say of an option that is none here, but may be elsewhere on the line."""
    root = ctx.find_root()
    if ctx is root and not error.possibilities:
        return click.UsageError(f"{error.message} Those of a command are written behind it.", ctx)
    for option in root.command.params:
        if error.option_name in option.opts and option.expose_value and ctx is not root:
            words = " ".join(filter(None, (error.option_name, option.metavar)))
            return click.UsageError(
                f"{error.option_name} goes before the verb, as in: {root.command_path} {words} …",
                ctx,
            )
    return error


class Verb(click.Command):
    """A verb whose help begins with examples.

    :param examples: command lines, each with what it does after two spaces or more.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs["context_settings"] = {**_CONTEXT, **kwargs.get("context_settings", {})}
        super().__init__(*args, **kwargs)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _misplaced(ctx, error) from error

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What it looks like in use, then what it does."""
        write_examples(self.examples, formatter)
        super().format_help_text(ctx, formatter)


def write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """The section of examples."""
    if examples:
        with formatter.section("Examples"):
            indent = " " * formatter.current_indent
            for line in examples:
                command, _, does = line.partition("  ")
                if does and len(indent + line) > formatter.width:
                    formatter.write(f"{indent}{command}\n{indent}    {does.strip()}\n")
                else:
                    formatter.write(f"{indent}{line}\n")


class Verbs(click.Group):
    """A group whose verbs are imported when they are called.

    :param places: ``module:attribute`` of each verb; the words before ``:`` in `sections` order.
    :param aliases: short names, which the help does not list.
    """

    def __init__(
        self,
        *args: Any,
        places: Mapping[str, str],
        aliases: Mapping[str, str] | None = None,
        examples: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        kwargs["context_settings"] = {**_CONTEXT, **kwargs.get("context_settings", {})}
        super().__init__(*args, **kwargs)
        self.places, self.aliases, self.examples = places, aliases or {}, examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _misplaced(ctx, error) from error

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What it looks like in use, then what it does."""
        write_examples(self.examples, formatter)
        super().format_help_text(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each verb with the whole of its first sentence, on more lines where one is too short."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, verb.get_short_help_str(limit=_SENTENCE))
            for name, verb in verbs
            if verb is not None and not verb.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were given, which is that of their use."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        place = self.places.get(self.aliases.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or the one that was meant."""
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-"):
            near = difflib.get_close_matches(word, [*self.places, *self.aliases], 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" See: {ctx.command_path} --help"
            ctx.fail(f"There is no command {word!r}.{hint}")
        return super().resolve_command(ctx, args)
