"""The verb ``logs``."""

from __future__ import annotations

import sys

import click

from syndicate.cli import exits, streams
from syndicate.cli.connection import PATIENCE
from syndicate.cli.grammar import Verb
from syndicate.cli.logprinter import JsonListPrinter, JsonPrinter, LogPrinter
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB, SPAN


@click.command(
    cls=Verb,
    examples=(
        "syndicate logs 17                        what all machines printed, in order of time",
        "syndicate logs latest -f                 and go on as it comes",
        "syndicate logs 17 -m slave0 --stream err one machine, standard error only",
        "syndicate logs 17 -n 100 -T              the last 100 lines, with times",
    ),
)
@click.argument("job", type=JOB)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is finished.")
@click.option("-n", "--tail", type=click.IntRange(min=0), help="Only the last so many lines.")
@click.option("-m", "--machine", metavar="MACHINE", help="Only of this one: slave[1], slave1.")
@click.option("--stream", type=click.Choice(["out", "err"]), help="Only this stream.")
@click.option("--since", type=SPAN, metavar="TIME", help="Only the last so long: 5m.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt, not the latest.")
@click.option("-T", "--times", is_flag=True, help="The time of each line.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "jsonl"]),
    default="text",
    help="text for people; for programs one list, or an object a line.",
)
@pass_session
def logs(
    session: Session,
    job: str,
    follow: bool,
    tail: int | None,
    machine: str | None,
    stream: str | None,
    since: float | None,
    attempt: int | None,
    times: bool,
    output: str,
) -> int:
    """Print what a job's machines printed, each line with its machine's name."""
    found = session.job(job)
    query = {
        "machine": machine and session.machine_named(found, machine),
        "stream": stream,
        "tail": tail,
        "since": since,
        "attempt": attempt,
        "follow": 1 if follow else None,
    }
    session.connection.patience = PATIENCE
    printer = _printer(session, found, machine, times) if output == "text" else _JSON[output]()
    asked = {key: value for key, value in query.items() if value is not None}
    try:
        for record in streams.log_lines(session.connection, found["job"], asked):
            printer.print(record)
            if follow:
                sys.stdout.flush()
    except KeyboardInterrupt:
        if follow:
            number = found["job"]
            session.say(f"\nJob {number} goes on. End it: syndicate cancel {number}")
        return exits.INTERRUPTED
    finally:
        printer.close()
    return exits.PASSED


_JSON = {"json": JsonListPrinter, "jsonl": JsonPrinter}


def _printer(
    session: Session, job: dict[str, object], machine: str | None, times: bool
) -> LogPrinter:
    names = [each["machine"] for each in job["machines"]]  # type: ignore[attr-defined]
    return LogPrinter(
        names=names,
        prefix=machine is None,
        times=times,
        colored=session.colored(sys.stdout),
        raw=not sys.stdout.isatty(),
    )
