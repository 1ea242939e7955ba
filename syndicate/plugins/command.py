"""``syndicate-manager``: what an operator does to a manager's state directory, on its own host.

It works on files and not through the API, so that it is of use when the manager does not run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from syndicate import __version__
from syndicate.cli.ending import run_to_end
from syndicate.cli.grammar import Verbs

_VERBS = {
    "init": "founding:init",
    "backup": "saving:backup",
    "restore": "saving:restore",
}


@click.group(
    cls=Verbs,
    places={verb: f"syndicate.plugins.verbs.{place}" for verb, place in _VERBS.items()},
    examples=(
        "syndicate-manager init    -c /etc/syndicate/manager.toml",
        "syndicate-manager backup  -c /etc/syndicate/manager.toml /backup/monday.tar",
        "syndicate-manager restore -c /etc/syndicate/manager.toml /backup/monday.tar",
    ),
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="syndicate-manager")
def cli() -> None:
    """Look after a manager's state directory. The manager itself: twistd syndicate-manager."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say, and return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    return run_to_end("syndicate-manager", cli, words, _of_file)


def _of_file(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def main() -> NoReturn:
    """The console script."""
    sys.exit(run())
