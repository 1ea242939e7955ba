"""The verb ``console``: the manager's SSH console."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import click

from syndicate.cli.grammar import Verb
from syndicate.cli.session import Session, pass_session
from syndicate.domain.errors import Forbidden, NotFound, Unavailable


@click.command(
    cls=Verb,
    examples=(
        "syndicate console            a prompt in the running manager",
        "syndicate console queue      one word of it",
        "syndicate console why 17",
    ),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "-l", "--user", metavar="NAME", help="Who you are there; that of your token if unset."
)
@click.option("-i", "--key", metavar="FILE", help="Your SSH key; ssh chooses if unset.")
@click.option("-p", "--port", type=click.IntRange(1, 65535), help="The manager knows it.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@pass_session
def console(
    session: Session, user: str | None, key: str | None, port: int | None, words: tuple[str, ...]
) -> NoReturn:
    """Go into the manager's console, or have it answer one word."""
    if shutil.which("ssh") is None:
        raise Unavailable("There is no ssh on the path. On Debian it is in openssh-client.")
    key = key or session.settings.console_key
    if key:
        _insist_on(Path(key).expanduser())
    found = session.connection.get("/v1/console")
    if user is None:
        user = str(session.connection.get("/v1/status")["you"]["user"])
    host = urlsplit(session.settings.url).hostname or ""
    known = _pin(found["fingerprint"], found["host_key"])
    # Without a terminal ssh would say that it makes none.
    argv = [
        "ssh",
        *([] if words or sys.stdin.isatty() else ["-T"]),
        "-l",
        user,
        "-p",
        str(port or found["port"]),
    ]
    # The host key came by the API, whose certificate was checked: nobody needs to be asked.
    options = {
        "HostKeyAlias": _ALIAS,
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlgorithms": found["host_key"].split()[0],
    }
    if key:
        argv += ["-i", str(Path(key).expanduser())]
        options["IdentitiesOnly"] = "yes"
    argv += [f"-o{name}={value}" for name, value in options.items()]
    session.close()
    os.execvp("ssh", [*argv, "--", host, *words])


def _insist_on(key: Path) -> None:
    """Refuse a key that ssh could not use; it would go on, and be let in by nobody.

    The public half is enough where an agent or a token has the private one.

    :raises NotFound: there is none.
    :raises Forbidden: it cannot be read.
    """
    halves = [half for half in (key, key.with_name(f"{key.name}.pub")) if half.is_file()]
    mend = "Name yours with -i, or as console_key; see: syndicate config show"
    if not halves:
        raise NotFound(f"There is no SSH key {key}. {mend}")
    if not any(os.access(half, os.R_OK) for half in halves):
        raise Forbidden(f"The SSH key {key} cannot be read by you. {mend}")


_ALIAS = "syndicate-console"


def _pin(fingerprint: str, host_key: str) -> Path:
    """A file that says which host key is the right one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "syndicate/consoles"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    plain = "".join(letter if letter.isalnum() else "-" for letter in fingerprint)
    path = cache / plain
    draft = path.with_name(f"{plain}.{os.getpid()}")
    draft.write_text(f"{_ALIAS} {host_key}\n")
    draft.replace(path)
    return path
