"""``syndicate``: the command line. It speaks the JSON API and holds nothing itself.

A command must be over in a moment, so everything is imported when it is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from syndicate import __version__
from syndicate.cli.ending import run_to_end
from syndicate.cli.grammar import Verbs
from syndicate.cli.session import Session

_VERBS = {
    "submit": "submitting:submit",
    "run": "submitting:run",
    "queue": "looking:queue",
    "status": "looking:status",
    "why": "looking:why",
    "logs": "logs:logs",
    "wait": "waiting:wait",
    "cancel": "waiting:cancel",
    "resubmit": "submitting:resubmit",
    "fetch": "fetching:fetch",
    "report": "reporting:report",
    "fault": "fault:fault",
    "volunteers": "volunteers:volunteers",
    "lab": "lab:lab",
    "token": "trusting:token",
    "certificate": "trusting:certificate",
    "audit": "auditing:audit",
    "console": "visiting:console",
    "doctor": "doctor:doctor",
    "config": "site:config",
    "completion": "site:completion",
    "version": "site:version",
    "help": "topics:help_topic",
}


@click.group(
    cls=Verbs,
    places={verb: f"syndicate.cli.verbs.{place}" for verb, place in _VERBS.items()},
    aliases={"q": "queue"},
    examples=(
        "syndicate lab up -n 6                        a cluster on this machine",
        "syndicate submit examples/mapreduce -n 4 -f  run a job on it and watch",
        "syndicate queue                              what waits and runs",
        "syndicate status 1                           how job 1 stands, or ended",
    ),
    no_args_is_help=True,
)
@click.option("--url", metavar="URL", help="The manager, such as https://10.77.0.2:7080.")
@click.option("--token-file", metavar="FILE", help="Holds the token that says who you are.")
@click.option("--authority", metavar="FILE", help="The certificate of the cluster's authority.")
@click.option("--lab", metavar="NAME", help="The lab of this name on this machine.")
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colours."
)
@click.version_option(__version__, prog_name="syndicate")
@click.pass_context
def cli(
    ctx: click.Context,
    url: str | None,
    token_file: str | None,
    authority: str | None,
    lab: str | None,
    color: str,
) -> None:
    """Run master/slave programs on the machines of a cluster."""
    flags = {"url": url, "token_file": token_file, "authority": authority}
    session = Session(flags, lab, color)
    ctx.obj = session
    ctx.color = session.colored(sys.stdout)
    ctx.call_on_close(session.close)


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say, and return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if "_SYNDICATE_COMPLETE" in os.environ:
        cli.main(words, prog_name="syndicate")
    return run_to_end("syndicate", cli, words)


def open_streams() -> None:
    """Open what the shell has closed (``>&-``), so that no file or connection takes its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # What is not open has the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def main() -> NoReturn:
    """The console script."""
    open_streams()
    sys.exit(run())
