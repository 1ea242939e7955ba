"""Data in the form that was asked for: tables for people, the rest for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from syndicate.cli.session import Session
from syndicate.domain import harmless
from syndicate.domain.quantities import say_span

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("table", "wide", "json", "jsonl", "csv", "id")

#: Characters that a column of sentences should have.
SENTENCE = 26

Row = Mapping[str, Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])

#: The colour of each state and outcome, the same in all tables.
STYLES = {
    "running": "cyan",
    "busy": "cyan",
    "passed": "green",
    "free": "green",
    "failed": "red",
    "lost": "red",
    "killed": "red",
    "quarantined": "red",
    "unclean": "red",
    "drained": "yellow",
    "timed out": "red",
    "refused": "red",
    "gone": "red",
    "cancelled": "yellow",
    "queued": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


class Column(NamedTuple):
    """A column of a table."""

    title: str
    #: Its text for a row.
    text: Callable[[Row], str]
    #: Whether it is shown by ``-o wide`` only.
    wide: bool = False
    right: bool = False
    #: Whether it may be broken into several lines.
    wrap: bool = False
    #: How dispensable it is where a terminal is narrow; 0 is not at all.
    spare: int = 0
    #: Characters that are shown of it at the most, where it has to fit a terminal.
    most: int | None = None


class Listing(NamedTuple):
    """How a kind of thing is shown."""

    columns: Sequence[Column]
    #: The keys of its JSON that ``-o csv`` gives.
    csv: Sequence[str]
    #: The key of its JSON by which commands name it.
    id: str
    #: Said on a table with nothing in it.
    empty: str


def output_option(function: _Function) -> _Function:
    """``-o FORMAT``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        help="The form of the output; table unless your configuration says otherwise.",
    )(function)


def chosen(session: Session, output: str | None) -> str:
    """The form to use: the option, else the user's own, else a table."""
    if output is None:
        found = session.settings.find("output")
        output = found[0] if found else "table"
        if output not in FORMATS:
            raise click.UsageError(
                f"There is no output format {output!r} ({found and found[1]}); there are:"
                f" {', '.join(FORMATS)}."
            )
    return output


def show(
    session: Session, listing: Listing, rows: Sequence[Row], output: str, *, single: bool = False
) -> None:
    """Print rows on standard output.

    :param single: whether it is one thing and not a list; matters to JSON.
    """
    if output == "json":
        write_json(rows[0] if single else list(rows))
    elif output == "jsonl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif output == "csv":
        _write_csv(listing.csv, rows)
    elif output == "id":
        for row in rows:
            click.echo(str(row[listing.id]))
    elif not rows:
        session.say(listing.empty)
    else:
        columns = [column for column in listing.columns if output == "wide" or not column.wide]
        print_table(session, columns, rows)


def write_json(value: object) -> None:
    """JSON for people to read and programs too."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def _write_csv(keys: Sequence[str], rows: Iterable[Row]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(keys)
    for row in rows:
        writer.writerow(["" if row.get(key) is None else row[key] for key in keys])


def print_table(session: Session, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """A table: fitted to the terminal, and never cut short where there is none."""
    print_parts(session, [make_table(columns, rows, fitted=sys.stdout.isatty())])


def print_parts(session: Session, parts: Iterable[Any]) -> None:
    """Print what rich can; where there is no terminal, without the spaces that end its lines."""
    console = session_console(session)
    if sys.stdout.isatty():
        for part in parts:
            console.print(part)
        return
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=True)


def session_console(session: Session, *, stderr: bool = False) -> Console:
    """The console of rich for a stream, with colours only where they may be."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    colored = session.colored(stream)
    return Console(
        file=stream,
        force_terminal=colored or None,
        no_color=not colored,
        highlight=False,
        emoji=False,
        markup=False,
        width=None if stream.isatty() else 10_000,
    )


def make_table(columns: Sequence[Column], rows: Iterable[Row], *, fitted: bool) -> Any:
    """A table of rich."""
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if fitted:
        columns = _fitting(columns, rows, shutil.get_terminal_size().columns)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.title,
            max_width=column.most if fitted else None,
            justify="right" if column.right else "left",
            no_wrap=not (fitted and column.wrap),
            overflow="fold" if column.wrap else "ellipsis",
        )
    for row in rows:
        texts = [visible(column.text(row)) for column in columns]
        table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in texts))
    return table


def _fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Sequence[Column]:
    """Those columns that have room: what cannot be spared is not cut short for what can."""
    widths = {}
    for column in columns:
        longest = max((len(column.text(row)) for row in rows), default=0)
        most = (SENTENCE if longest else 0) if column.wrap else column.most
        width_of_texts = longest if most is None else min(longest, most)
        widths[column] = max(len(column.title), width_of_texts)
    kept = list(columns)
    # Two characters are between columns, and none after the last one.
    while sum(widths[column] + 2 for column in kept) - 2 > width and any(
        column.spare for column in kept
    ):
        kept.remove(max(kept, key=lambda column: column.spare))
    return kept


def write_facts(facts: Mapping[str, str | None]) -> None:
    """What there is to say of one thing, a line each; what is empty is passed over.

    On a terminal, what is longer than a line is broken between words.
    """
    width = max(map(len, facts))
    room = shutil.get_terminal_size().columns - width - 2 if sys.stdout.isatty() else 0
    for name, text in facts.items():
        if text:
            lines = _broken(visible(text), room)
            click.echo(f"{click.style(f'{name:<{width}}', bold=True)}  {lines[0]}")
            for line in lines[1:]:
                click.echo(f"{'':{width}}  {line}")


def _broken(text: str, room: int) -> list[str]:
    """A text in lines of so many characters; as it is where there is no room to speak of."""
    if len(text) <= room or room < SENTENCE:
        return [text]
    import textwrap

    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)


def visible(text: str) -> str:
    """Text with its control characters made visible, but for tabs."""
    return harmless.visible(text, tabs=True)


def moment(timestamp: str | None) -> str:
    """A time for people to read, in whole seconds; forms for programs have all of it."""
    return "" if timestamp is None else f"{timestamp[:19]}Z"


def ago(timestamp: str | None) -> str:
    """How long ago something was: ``3m20s``."""
    return "" if timestamp is None else say_span(round(seconds_since(timestamp)))


def seconds_since(timestamp: str, until: str | None = None) -> float:
    """The seconds from one time to another, or to now; never less than none."""
    start = datetime.fromisoformat(timestamp)
    end = datetime.fromisoformat(until) if until else datetime.now(UTC)
    return max(0.0, (end - start).total_seconds())
