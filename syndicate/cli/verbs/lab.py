"""The noun ``lab``: a whole cluster on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from typing import Any

import click

from syndicate.cli import exits
from syndicate.cli.asking import agreed, yes_option
from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.output import Column, Listing, chosen, output_option, show
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import SPAN
from syndicate.domain.errors import NotFound
from syndicate.lab import state
from syndicate.lab.cluster import Lab
from syndicate.lab.root import become_root

_HERE = "syndicate.cli.verbs.lab"

name_option = click.option(
    "--name",
    metavar="NAME",
    help="Which lab; if not given, the one called 'lab', else the only one there is.",
)


@click.group(
    cls=Verbs,
    places={
        "up": f"{_HERE}:up",
        "down": f"{_HERE}:down",
        "status": f"{_HERE}:status",
        "exec": f"{_HERE}:execute",
        "env": f"{_HERE}:env",
        "list": f"{_HERE}:list_labs",
        "kill": f"{_HERE}:kill",
        "restart": f"{_HERE}:restart",
        "torture": "syndicate.cli.verbs.torture:torture",
    },
    examples=(
        "syndicate lab up -n 6               one manager and six volunteers on this machine",
        "syndicate lab exec v1 -- ip addr    run a command on a host",
        "syndicate lab down                  end it, and leave nothing",
    ),
)
def lab() -> None:
    """A cluster on this machine, each host a network namespace that runs the real daemons."""


def _lab(session: Session, name: str | None) -> Lab:
    """The lab that is meant: named, or the one of the default name, or the only one.

    :raises NotFound: there are several, and none was named.
    """
    name = name or session.lab
    if name is None:
        labs = list(state.all_labs())
        if state.DEFAULT_NAME in labs or not labs:
            name = state.DEFAULT_NAME
        elif len(labs) == 1:
            name = labs[0]
        else:
            raise NotFound(f"There are several labs: {', '.join(labs)}. Say which: --name NAME")
    return Lab(name, say=session.say)


def _as_root(session: Session) -> None:
    become_root(sys.argv[1:], session.say)


@click.command(
    cls=Verb,
    examples=(
        "syndicate lab up -n 6",
        "syndicate lab up --name other --net 10.99.1.0/24    a second one beside it",
    ),
)
@click.option("-n", "--volunteers", type=int, default=5, show_default=True, help="How many.")
@click.option("--net", metavar="NET", help="Its network; the first free one of 10.77.x.0/24.")
@click.option(
    "--manager-on",
    metavar="HOST",
    help="The volunteer whose host the manager shares, such as v1; else it has one of its own.",
)
@click.option("--wait", type=SPAN, default=60.0, metavar="TIME", help="Most time to wait for it.")
@name_option
@pass_session
def up(
    session: Session,
    volunteers: int,
    net: str | None,
    manager_on: str | None,
    wait: float,
    name: str | None,
) -> None:
    """Bring a lab up, and wait until all its volunteers have registered."""
    _as_root(session)
    found = Lab(name or session.lab or state.DEFAULT_NAME, say=session.say)
    began = time.monotonic()
    found.up(volunteers, net, wait, manager_on)
    took = time.monotonic() - began
    about = found.description
    session.say(
        f"Lab {found.name!r} is up after {took:.1f} s: {len(about.volunteers)} volunteers in"
        f" {about.net}."
    )
    which = "" if found.name == state.DEFAULT_NAME else f" --lab {found.name}"
    session.say(
        f"Use it:  syndicate{which} volunteers · syndicate{which} submit DIR -n 3 -f\n"
        f"End it:  syndicate lab down{' --name ' + found.name if which else ''}"
    )
    click.echo(about.url)


@click.command(
    cls=Verb,
    examples=(
        "syndicate lab down",
        "syndicate lab down --keep-state",
        "syndicate lab down --yes           without asking",
    ),
)
@click.option("--keep-state", is_flag=True, help="Keep jobs and logs for the next up.")
@yes_option
@name_option
@pass_session
def down(session: Session, keep_state: bool, yes: bool, name: str | None) -> None:
    """End a lab, in whatever state it is, and leave nothing of it."""
    _as_root(session)
    found = _lab(session, name)
    there = found.directory.exists()
    if there and not agreed(f"End lab {found.name!r}{'' if keep_state else _AND_ALL}?", yes):
        return
    if not found.down(keep_state=keep_state):
        session.say(f"There is no lab {found.name!r}.")


_AND_ALL = ", with all its jobs and logs"


HOSTS = Listing(
    columns=(
        Column("HOST", lambda host: host["host"]),
        Column("ADDRESS", lambda host: host["address"]),
        Column("STATE", lambda host: host["state"]),
        Column("PID", lambda host: str(host["pid"] or ""), right=True),
        Column("NAMESPACE", lambda host: host["namespace"]),
        Column("USERS", lambda host: "-".join(map(str, host["uids"] or ())), wide=True),
        Column("LOG", lambda host: host["log"], wide=True),
    ),
    csv=("host", "address", "state", "pid", "namespace", "log"),
    id="host",
    empty="It has no hosts.",
)


@click.command(cls=Verb, examples=("syndicate lab status", "syndicate lab status -o wide"))
@name_option
@output_option
@pass_session
def status(session: Session, name: str | None, output: str | None) -> int:
    """Show a lab's hosts. The exit code is 0 when all of them are ready."""
    found = _lab(session, name)
    rows: list[dict[str, Any]] = []
    for each in found.status():
        host = each.host
        stands = "ready" if each.ready else "not ready" if each.runs else "ended"
        rows.append(
            {
                "host": host.name,
                "address": host.address,
                "state": stands,
                "pid": host.pid if each.runs else None,
                "namespace": host.namespace,
                "uids": list(host.uids) if host.uids else None,
                "log": str(found.directory / host.name / "log"),
            }
        )
    show(session, HOSTS, rows, chosen(session, output))
    return exits.PASSED if all(row["state"] == "ready" for row in rows) else exits.FAILED


@click.command(
    "exec",
    cls=Verb,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    examples=("syndicate lab exec v1 -- ip addr", "syndicate lab exec manager bash"),
)
@name_option
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def execute(session: Session, name: str | None, host: str, command: tuple[str, ...]) -> None:
    """Run a command on a host: in its network, among this machine's files and processes."""
    _as_root(session)
    if command[0] == "--":
        command = command[1:]
    words = _lab(session, name).exec_command(host, command)
    sys.stdout.flush()
    os.execvp(words[0], words)


@click.command(cls=Verb, examples=('eval "$(syndicate lab env)"',))
@name_option
@pass_session
def env(session: Session, name: str | None) -> None:
    """Print what a shell must know for its commands to use this lab."""
    about = _lab(session, name).description
    for key, value in (
        ("SYNDICATE_URL", about.url),
        ("SYNDICATE_TOKEN_FILE", about.token_file),
        ("SYNDICATE_AUTHORITY", about.authority),
        ("SYNDICATE_CONSOLE_KEY", about.console_key),
    ):
        click.echo(f"export {key}={shlex.quote(str(value))}")


LABS = Listing(
    columns=(
        Column("LAB", lambda each: each["lab"]),
        Column("STATE", lambda each: each["state"]),
        Column("VOLUNTEERS", lambda each: str(each["volunteers"]), right=True),
        Column("NETWORK", lambda each: each["net"]),
        Column("URL", lambda each: each["url"]),
    ),
    csv=("lab", "state", "volunteers", "net", "url"),
    id="lab",
    empty="There is no lab. Bring one up: syndicate lab up",
)


@click.command("list", cls=Verb, examples=("syndicate lab list",))
@output_option
@pass_session
def list_labs(session: Session, output: str | None) -> None:
    """Show your labs."""
    rows = []
    for name in state.all_labs():
        about = state.read(state.lab_directory(name))
        if about is None:
            continue
        ended = about.stage == "up" and about.boot != state.this_boot()
        rows.append(
            {
                "lab": name,
                "state": "ended with the machine" if ended else about.stage,
                "volunteers": len(about.volunteers),
                "net": about.net,
                "url": about.url,
            }
        )
    show(session, LABS, rows, chosen(session, output))


@click.command(
    cls=Verb, examples=("syndicate lab kill v1", "syndicate lab kill manager --signal TERM")
)
@name_option
@click.argument("host")
@click.option("--signal", "word", default="KILL", show_default=True, help="Which signal.")
@pass_session
def kill(session: Session, name: str | None, host: str, word: str) -> None:
    """Send a signal to a host's daemon, by default the one that leaves it no time."""
    number = getattr(signal, f"SIG{word.upper().removeprefix('SIG')}", None)
    if not isinstance(number, signal.Signals):
        raise click.BadParameter(f"there is no signal {word!r}.", param_hint="--signal")
    _as_root(session)
    _lab(session, name).kill(host, number)


@click.command(cls=Verb, examples=("syndicate lab restart v1",))
@name_option
@click.argument("host")
@pass_session
def restart(session: Session, name: str | None, host: str) -> None:
    """Start a host's daemon, after ending the one that runs, if any, in order."""
    _as_root(session)
    _lab(session, name).restart(host)
