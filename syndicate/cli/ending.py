"""How a program of ours ends, whatever comes of its command: with a word, and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

import click

from syndicate.cli import exits
from syndicate.domain.errors import SyndicateError


def _of_output(error: OSError) -> str:
    return f"the output cannot be written: {error.strerror}"


def run_to_end(
    program: str,
    command: click.Command,
    words: Sequence[str],
    say: Callable[[OSError], str] = _of_output,
) -> int:
    """Do what some words say; nothing is raised.

    :param program: what it is called.
    :param say: what an error of the operating system means, which commands have not turned into one
        of ours.
    :returns: the exit code.
    """
    try:
        # Not `command.main`, which takes a broken pipe for an end with code 1.
        with command.make_context(program, list(words)) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return exits.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return exits.INTERRUPTED
    except BrokenPipeError:
        _let_go_of_output()
        return exits.BROKEN_PIPE
    except SyndicateError as error:
        click.echo(f"{program}: {error}", err=True)
        return exits.of_error(error)
    except OSError as error:
        click.echo(f"{program}: {say(error)}.", err=True)
        _let_go_of_output()
        return exits.FAILED
    return code if isinstance(code, int) else exits.PASSED


def _let_go_of_output() -> None:
    # Python would complain when it flushes at its end.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
