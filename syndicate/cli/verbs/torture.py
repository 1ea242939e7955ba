"""``syndicate lab torture``: hurt a cluster of its own on this machine, and see what holds."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterable

import click

from syndicate.cli import exits
from syndicate.cli.grammar import Verb
from syndicate.cli.session import Session, pass_session
from syndicate.lab.cluster import Lab
from syndicate.lab.disks import Disks
from syndicate.lab.root import become_root
from syndicate.lab.state import lab_directory
from syndicate.torture import telling
from syndicate.torture.daemons import OnSmallDisks
from syndicate.torture.run import Torture
from syndicate.torture.schedule import draw


@click.command(
    cls=Verb,
    examples=(
        "syndicate lab torture --minutes 5                a new seed, which it prints",
        "syndicate lab torture --minutes 5 --seed 4f1d    the same blows and jobs again",
        "syndicate lab torture --seed 4f1d --plan         only show them",
    ),
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.1, 24 * 60),
    default=5.0,
    show_default=True,
    help="How long blows fall; what is hurt then gets time to recover.",
)
@click.option("--seed", metavar="SEED", help="Of which blows and jobs are made; else a new one.")
@click.option(
    "-n",
    "--volunteers",
    type=click.IntRange(1, 50),
    default=5,
    show_default=True,
    help="How many; each may take 96 MiB of memory for its disk, the manager 256.",
)
@click.option("--plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--name", default="torture", show_default=True, help="The name of its lab.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="For whom."
)
@pass_session
def torture(
    session: Session,
    minutes: float,
    seed: str | None,
    volunteers: int,
    plan: bool,
    name: str,
    output: str,
) -> int:
    """Kill, stop, cut off, fill up and reboot the hosts of a lab of its own under a stream of
    jobs, and check that nothing was lost, changed, done twice or left behind.

    The exit code is 0 when nothing was violated.
    """
    seed = seed or secrets.token_hex(4)
    schedule = draw(seed, minutes * 60, volunteers)
    if plan:
        _print(output, telling.plan_as_json(schedule), telling.plan_lines(schedule))
        return exits.PASSED
    become_root(_with_seed(sys.argv[1:], seed), session.say)
    directory = lab_directory(name)
    disks = Disks(directory)
    lab = Lab(name, directory, say=session.say, daemons=OnSmallDisks(disks))
    lab.down()  # what one that was killed has left
    session.say(f"The seed is {seed}: {len(schedule.acts)} blows, {len(schedule.tasks)} jobs.")
    result = Torture(lab, disks, schedule, session.say).run()
    _print(output, telling.as_json(result), telling.lines(result))
    return exits.FAILED if result.violations else exits.PASSED


def _print(output: str, plain: object, lines: Iterable[str]) -> None:
    if output == "json":
        click.echo(json.dumps(plain, indent=1))
    else:
        for line in lines:
            click.echo(line)


def _with_seed(arguments: list[str], seed: str) -> list[str]:
    return arguments if "--seed" in arguments else [*arguments, "--seed", seed]
