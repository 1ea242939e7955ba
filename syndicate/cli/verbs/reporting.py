"""The verb ``report``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from syndicate.cli import streams
from syndicate.cli.grammar import Verb
from syndicate.cli.output import (
    STYLES,
    Listing,
    chosen,
    output_option,
    print_parts,
    show,
    visible,
)
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB

if TYPE_CHECKING:
    from syndicate.report.samples import Samples

#: Columns of a terminal that leave no room for more than one character between those of a table.
NARROW = 90


@click.command(
    cls=Verb,
    short_help="Tell what came of a job, of its machines and of its faults.",
    examples=(
        "syndicate report 17              what came of it, of its machines and faults",
        "syndicate report 17 -o wide      what was noted on each fault, and marks, too",
        "syndicate report latest -o json  the same for programs",
        "syndicate report latest -o csv   the figures of operations, one a line",
    ),
)
@click.argument("job", type=JOB)
@output_option
@pass_session
def report(session: Session, job: str, output: str | None) -> None:
    """Tell what came of a job: its verdict, its machines, its faults and what the clients saw of
    each, and how fast its operations were, in all and during each fault.

    What the columns and keys mean is said on the page on results in the documentation.
    """
    from syndicate.report.build import build
    from syndicate.report.render import render
    from syndicate.report.values import to_plain

    output = chosen(session, output)
    found = session.job(job)
    number = found["job"]
    made = build(
        found,
        list(streams.events_so_far(session.connection, number)),
        session.connection.get(f"/v1/jobs/{number}/faults")["faults"],
        _samples(session, number, found["attempt"]),
    )
    if output not in ("table", "wide"):
        plain = to_plain(made)
        # As CSV it is the figures, one line for each operation and fault, as one would plot them.
        rows = list(_figures(plain)) if output == "csv" else [plain]
        show(session, FIGURES, rows, output, single=True)
        return
    if found["state"] != "finished":
        session.say(f"Job {number} is still {found['state']}: this is what there is so far.")
    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < NARROW
    gap = 1 if narrow else 2
    print_parts(session, render(made, shown=visible, styles=STYLES, wide=output == "wide", gap=gap))


FIGURES = Listing(
    columns=(),
    csv=("fault", "kind", *("op", "count", "errors", "p50", "p95", "p99", "slowest")),
    id="job",
    empty="",
)


def _figures(plain: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The figures of the whole job, then those during each fault."""
    yield from plain["operations"]
    for fault in plain["faults"]:
        for figures in fault["operations"]:
            yield {"fault": fault["fault"], "kind": fault["kind"], **figures}


def _samples(session: Session, number: int, attempt: int) -> Samples:
    from syndicate.report.samples import read_samples

    def once() -> Samples:
        with session.connection.stream(f"/v1/jobs/{number}/samples", timeout=60.0) as chunks:
            return read_samples(chunks, attempt)

    return session.connection.persist(once)
