"""The verb ``doctor``: what keeps this shell from its cluster, and this host from being of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from syndicate.cli import exits
from syndicate.cli.doctor.findings import FAIL
from syndicate.cli.grammar import Verb
from syndicate.cli.output import Column, Listing, chosen, output_option, show
from syndicate.cli.session import Session, pass_session
from syndicate.domain.errors import SyndicateError

FINDINGS = Listing(
    columns=(
        Column("PART", lambda row: row["part"], spare=1),
        Column("CHECK", lambda row: row["check"]),
        Column("RESULT", lambda row: row["result"]),
        Column("SEEN, AND WHAT TO DO", lambda row: row["seen"], wrap=True),
    ),
    csv=("part", "check", "result", "seen", "advice"),
    id="check",
    empty="Nothing was looked at.",
)


@click.command(
    cls=Verb,
    examples=(
        "syndicate doctor                 all of it",
        "syndicate doctor cluster         from this shell to the manager, and how it is",
        "syndicate doctor host            whether a lab or a volunteer can run here",
        "sudo syndicate doctor host       the same for root, whom both need to do all they can",
        "syndicate doctor -o json         for programs",
    ),
)
@click.argument("part", type=click.Choice(["cluster", "host"]), required=False)
@output_option
@pass_session
def doctor(session: Session, part: str | None, output: str | None) -> int:
    """Look for what keeps this shell from its cluster, or this host from a lab or a volunteer.

    Each check takes seconds at the most and leaves nothing behind. The exit code is 0 when none
    fails, else that of the first one that does: 69 when the manager is not reached, 4 when it does
    not take the token, 1 for what this host lacks. Without a cluster that part is skipped, unless
    you ask for it.
    """
    try:
        output = chosen(session, output)
    except SyndicateError:  # settings that are wrong are a finding
        output = "table"
    rows: list[dict[str, Any]] = []
    code = exits.PASSED
    if part != "host":
        from syndicate.cli.doctor import cluster

        for finding in cluster.examine(session, wanted=part == "cluster"):
            rows.append(finding.row("cluster"))
            code = code or (finding.code if finding.result == FAIL else exits.PASSED)
    if part != "cluster":
        from syndicate.cli.doctor import host

        for finding in host.examine():
            rows.append(finding.row("host"))
            code = code or (finding.code if finding.result == FAIL else exits.PASSED)
    if output in ("table", "wide"):
        rows = list(_for_people(rows))
    show(session, FINDINGS, rows, output)
    return code


def _for_people(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each part named once, and below what was seen what to do, in lines of its own."""
    part = ""
    for row in rows:
        yield {**row, "part": "" if row["part"] == part else row["part"]}
        part = row["part"]
        if row["advice"]:
            yield {**dict.fromkeys(row, ""), "seen": f"→ {row['advice']}"}
