"""The noun ``fault``: staff hurt a job by hand, and everybody sees what became of its faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from syndicate.cli.asking import agreed, yes_option
from syndicate.cli.grammar import Verb, Verbs
from syndicate.cli.output import Column, Listing, chosen, output_option, show
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB, SPAN
from syndicate.domain.fault import say_kind
from syndicate.domain.quantities import say_span

_HERE = "syndicate.cli.verbs.fault"


def _since(fault: Mapping[str, Any], key: str) -> str:
    """How long after it was requested."""
    if fault[key] is None:
        return ""
    from syndicate.cli.output import seconds_since

    return say_span(seconds_since(fault["requested_at"], fault[key]))


def _kind(fault: Mapping[str, Any]) -> str:
    return say_kind(fault["kind"], fault["amount"], fault["with_disk"])


FAULTS = Listing(
    columns=(
        Column("FAULT", lambda fault: fault["id"]),
        Column("KIND", _kind),
        Column("MACHINES", lambda fault: " ".join(fault["machines"]) or "all", wrap=True),
        Column("BY", lambda fault: fault["by"], spare=1),
        Column("STATE", lambda fault: fault["state"]),
        Column("REQUESTED", lambda fault: fault["requested_at"][11:-4], spare=2),
        Column("APPLIED", lambda fault: _since(fault, "applied_at"), right=True, spare=4),
        Column("VERIFIED", lambda fault: _since(fault, "verified_at"), right=True, spare=5),
        Column("HEALED", lambda fault: _since(fault, "healed_at"), right=True, spare=3),
        Column("SEEN", lambda fault: fault["note"], wide=True, wrap=True),
        Column("ENDED", lambda fault: fault.get("ended") or "", wide=True),
    ),
    csv=(
        *("id", "kind", "amount", "machines", "by", "state", "attempt", "requested_at"),
        *("applied_at", "verified_at", "healed_at", "uncertainty", "note", "ended"),
    ),
    id="id",
    empty="It has had no faults.",
)

_LASTING = click.option("--for", "span", type=SPAN, metavar="TIME", help="Heal it after: 10s.")


@click.group(
    cls=Verbs,
    places={
        **{kind: f"{_HERE}:{kind}" for kind in ("kill", "revive", "disconnect", "reconnect")},
        **{kind: f"{_HERE}:{kind}" for kind in ("pause", "resume", "loss", "rate", "delay")},
        **{verb: f"{_HERE}:{verb}" for verb in ("partition", "heal", "revoke")},
        "list": f"{_HERE}:list_faults",
    },
    examples=(
        "syndicate fault kill 17 'slave[1]' --for 10s   killed, and revived after ten seconds",
        "syndicate fault disconnect 17 master",
        "syndicate fault list 17                        what became of all of them",
    ),
)
def fault() -> None:
    """Hurt a job by hand (staff only), and see its faults."""


def _do(
    session: Session,
    output: str | None,
    job: str,
    kind: str,
    machines: tuple[str, ...],
    **more: Any,
) -> None:
    """Do the same to each machine, one after another, and show what became of it."""
    output = chosen(session, output)
    number = session.job(job)["job"]
    arguments = {key: value for key, value in more.items() if value is not None}
    done = [
        session.connection.post(
            f"/v1/jobs/{number}/faults/{kind}",
            {**arguments, **({"machine": machine} if machine else {})},
        )
        for machine in machines
    ]
    show(session, FAULTS, done, output)


def _of_machines(kind: str, text: str, *, lasting: bool) -> click.Command:
    """The command of a fault that needs machines, and perhaps a time."""

    def act(
        session: Session,
        job: str,
        machines: tuple[str, ...],
        span: float | None,
        output: str | None,
    ) -> None:
        _do(session, output, job, kind, machines, **{"for": span})

    act.__doc__ = text
    command = click.argument("machines", nargs=-1, required=True)(pass_session(act))
    command = click.argument("job", type=JOB)(output_option(command))
    if lasting:
        command = _LASTING(command)
    else:
        command = click.option("--for", "span", hidden=True, type=SPAN)(command)
    example = f"syndicate fault {kind} 17 'slave[0]'"
    return click.command(kind, cls=Verb, examples=(example,))(command)


kill = _of_machines("kill", "Kill every process of a machine.", lasting=True)
disconnect = _of_machines("disconnect", "Cut a machine off from master and slaves.", lasting=True)
reconnect = _of_machines("reconnect", "Let a machine reach the others again.", lasting=False)
pause = _of_machines("pause", "Freeze every process of a machine.", lasting=True)
resume = _of_machines("resume", "Let a paused machine go on.", lasting=False)


@click.command(cls=Verb, examples=("syndicate fault revive 17 'slave[1]' --no-disk",))
@click.argument("job", type=JOB)
@click.argument("machines", nargs=-1, required=True)
@click.option("--no-disk", is_flag=True, help="On an emptied disk, as the tarball made it.")
@output_option
@pass_session
def revive(
    session: Session, job: str, machines: tuple[str, ...], no_disk: bool, output: str | None
) -> None:
    """Start a killed machine's target again."""
    _do(session, output, job, "revive", machines, with_disk=not no_disk)


def _amount(kind: str, argument: str, text: str) -> click.Command:
    def act(
        session: Session,
        job: str,
        amount: Any,
        machines: tuple[str, ...],
        span: float | None,
        output: str | None,
    ) -> None:
        _do(session, output, job, kind, machines, **{argument: amount, "for": span})

    act.__doc__ = text
    command = click.argument("machines", nargs=-1, required=True)(pass_session(act))
    taken = click.FLOAT if kind == "loss" else click.STRING
    command = click.argument("amount", metavar=argument.upper(), type=taken)(command)
    command = output_option(command)
    command = _LASTING(click.argument("job", type=JOB)(command))
    sample = {"loss": "30", "rate": "100K", "delay": "50ms"}[kind]
    example = f"syndicate fault {kind} 17 {sample} 'slave[0]' --for 10s"
    return click.command(kind, cls=Verb, examples=(example,))(command)


loss = _amount("loss", "percent", "Lose some of the packets that a machine sends.")
rate = _amount("rate", "rate", "Let a machine send only so many bytes a second.")
delay = _amount("delay", "delay", "Hold back what a machine sends for so long.")


@click.command(
    cls=Verb,
    examples=(
        "syndicate fault partition 17 --group master,slave0 --group slave1,slave2",
        "syndicate fault partition 17 --group master --group slave0 --one-way",
        "syndicate fault partition 17 --shape ring --group master,slave0,slave1,slave2",
    ),
)
@click.argument("job", type=JOB)
@click.option(
    "--group",
    "groups",
    multiple=True,
    required=True,
    metavar="MACHINE[,MACHINE…]",
    help="Machines that stay together; once for each group.",
)
@click.option(
    "--shape",
    type=click.Choice(["split", "bridge", "ring"]),
    default="split",
    show_default=True,
    help="How they are divided; the chapter on faults says what each is.",
)
@click.option("--one-way", is_flag=True, help="Only from earlier groups to later ones.")
@_LASTING
@output_option
@pass_session
def partition(
    session: Session,
    job: str,
    groups: tuple[str, ...],
    shape: str,
    one_way: bool,
    span: float | None,
    output: str | None,
) -> None:
    """Divide a job's machines into groups that do not reach each other."""
    named = [group.split(",") for group in groups]
    more = {"groups": named, "shape": shape, "one_way": one_way, "for": span}
    _do(session, output, job, "partition", ("",), **more)


@click.command(cls=Verb, examples=("syndicate fault heal 17", "syndicate fault heal 17 f3"))
@click.argument("job", type=JOB)
@click.argument("which", required=False)
@output_option
@pass_session
def heal(session: Session, job: str, which: str | None, output: str | None) -> None:
    """End one fault that is in force, or all of them, and show those that ended."""
    output = chosen(session, output)
    faults = f"/v1/jobs/{session.job(job)['job']}/faults"
    healed = session.connection.post(f"{faults}/heal", {} if which is None else {"id": which})
    names = set(healed["healed"])
    # Of nothing there is nothing more to find out.
    all_of_it = session.connection.get(faults)["faults"] if names else []
    listing = FAULTS._replace(empty="Nothing of that is in force.")
    show(session, listing, [fault for fault in all_of_it if fault["id"] in names], output)
    session.say(f"{len(names)} healed.")


@click.command("list", cls=Verb, examples=("syndicate fault list 17 -o wide",))
@click.argument("job", type=JOB)
@output_option
@pass_session
def list_faults(session: Session, job: str, output: str | None) -> None:
    """Show the faults of a job: what, when, by whom, and what became of it."""
    number = session.job(job)["job"]
    found = session.connection.get(f"/v1/jobs/{number}/faults")["faults"]
    show(session, FAULTS, found, chosen(session, output))


@click.command(cls=Verb, examples=("syndicate fault revoke 17 'client[0]'",))
@click.argument("job", type=JOB)
@click.argument("machine")
@yes_option
@pass_session
def revoke(session: Session, job: str, machine: str, yes: bool) -> None:
    """Take a client's handle away: it can hurt its job no more."""
    number = session.job(job)["job"]
    if not agreed(f"Revoke the handle of {machine} of job {number}?", yes):
        return
    session.connection.post(f"/v1/jobs/{number}/handles/{quote(machine, safe='')}/revoke", {})
    session.say(f"The handle of {machine} of job {number} is revoked.")
