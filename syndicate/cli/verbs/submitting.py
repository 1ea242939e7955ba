"""Verbs that begin a job: ``submit``, ``run``, ``resubmit``."""

from __future__ import annotations

import secrets
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from syndicate.cli import exits
from syndicate.cli.grammar import Verb
from syndicate.cli.listings import JOBS
from syndicate.cli.output import FORMATS, chosen, show, visible, write_json
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB, SIZE, SPAN

_Function = TypeVar("_Function", bound=Callable[..., Any])
Record = dict[str, Any]

#: Options of a job that go before what its file says, by the key they set.
_KEYS = {
    "machines": "machines",
    "name": "name",
    "wall": "limits.wall",
    "cpu": "limits.cpu",
    "cores": "limits.cores",
    "memory": "limits.memory",
    "output_limit": "limits.output",
    "disk": "limits.disk",
    "pids": "limits.pids",
    "files": "limits.files",
    "inodes": "limits.inodes",
    "linger": "linger",
    "client": "client.source",
    "clients": "clients",
    "seed": "seed",
}


def _job_options(function: _Function) -> _Function:
    options = [
        click.argument("source", type=click.Path(path_type=Path)),
        click.option("-n", "--machines", type=int, help="One master, and the rest slaves."),
        click.option("--name", help="What to call it."),
        click.option("--wall", type=SPAN, metavar="TIME", help="Most time it may run: 10m."),
        click.option("--cpu", type=SPAN, metavar="TIME", help="Most processor time: 1h."),
        click.option("--cores", type=float, help="Most cores kept busy at once."),
        click.option("--memory", type=SIZE, metavar="SIZE", help="Of each machine: 512M."),
        click.option("--output-limit", type=SIZE, metavar="SIZE", help="Most it may print."),
        click.option("--disk", type=SIZE, metavar="SIZE", help="Most it may write."),
        click.option("--pids", type=int, help="Most processes of a machine."),
        click.option("--files", type=int, help="Most open files of a process."),
        click.option("--inodes", type=int, help="Most files and directories on its disk."),
        click.option("--linger", is_flag=True, default=None, help="Wait for daemons it leaves."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of a job file."
        ),
        click.option("--client", metavar="PATH", help="Its own benchmark client's source."),
        click.option("--clients", type=int, help="How many benchmark clients; 0 for none."),
        click.option("--seed", type=int, help="Given to all targets as SYNDICATE_SEED."),
        click.option("--no-wait", is_flag=True, help="Refuse it when it cannot start at once."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command(
    cls=Verb,
    examples=(
        "syndicate submit src/ -n 3              a directory with a Makefile: master, two slaves",
        "syndicate submit job.toml -f            a job file; print its output as it comes",
        "syndicate submit src.tar.gz -n 2 --wait --wall 10m --set env.DEBUG=1",
        "job=$(syndicate submit src/ -o id)      for scripts",
    ),
)
@_job_options
@click.option("-f", "--follow", is_flag=True, help="Print its output until it is finished.")
@click.option("--wait", is_flag=True, help="Return when it is finished, with its exit code.")
@click.option("--dry-run", is_flag=True, help="Only show which volunteers it could run on.")
@click.option("-o", "--output", type=click.Choice(FORMATS), help="How to print the job.")
@pass_session
def submit(
    session: Session,
    /,
    source: Path,
    follow: bool,
    wait: bool,
    dry_run: bool,
    output: str | None,
    **options: Any,
) -> int:
    """Queue a job: a job file, a directory or a tarball with a Makefile at its top.

    The Makefile has the targets master and slave; see: syndicate help jobfile. The exit code is
    that of the job with --follow or --wait.
    """
    if follow and output is not None:
        raise click.UsageError("--follow prints the job's output, so there is no -o with it.")
    body, packages = _prepare(source, options)
    try:
        if dry_run:
            return _dry_run(session, body, output)
        job = _send(session, body, packages)
    finally:
        _close(packages)
    return _after(session, job, follow, wait, output)


@click.command(
    cls=Verb,
    examples=(
        "syndicate run src/ -n 3                 submit, print the output, exit as the job does",
        "syndicate run job.toml                  Ctrl-C twice cancels it",
    ),
)
@_job_options
@pass_session
def run(session: Session, /, source: Path, **options: Any) -> int:
    """Submit a job, print its output, and exit with its code. Ctrl-C twice cancels it."""
    body, packages = _prepare(source, options)
    try:
        job = _send(session, body, packages)
    finally:
        _close(packages)
    _tell_queued(session, job)
    from syndicate.cli.interrupting import cancelled_by_two

    with cancelled_by_two(session, job["job"]):
        return _end(session, _followed(session, job, output=True))


@click.command(cls=Verb, examples=("syndicate resubmit 17 -f", "syndicate resubmit 17 --seed new"))
@click.argument("job", type=JOB)
@click.option(
    "--seed",
    type=click.Choice(["same", "new"]),
    default="same",
    show_default=True,
    help="What SYNDICATE_SEED is.",
)
@click.option("-f", "--follow", is_flag=True, help="Print its output until it is finished.")
@click.option("--wait", is_flag=True, help="Return when it is finished, with its exit code.")
@click.option("-o", "--output", type=click.Choice(FORMATS), help="How to print the job.")
@pass_session
def resubmit(
    session: Session, job: str, seed: str, follow: bool, wait: bool, output: str | None
) -> int:
    """Queue a job once more, just as it was."""
    former = session.job(job)
    spec = {key: former[key] for key in ("name", "limits", "resources", "outputs", "env", "linger")}
    spec.update(former["source"], machines=former["machines_wanted"], seed=former["seed"])
    if seed == "new":
        spec["seed"] = secrets.randbelow(1 << 31)
    spec["clients"] = former["clients"]
    if former["clients"]:
        client = former["client"]
        spec |= {"client_sha256": client["sha256"], "client_size": client["size"]}
    new = session.connection.post("/v1/jobs", _body(spec))["job"]
    return _after(session, new, follow, wait, output)


def _body(spec: Record, *, no_wait: bool = False) -> Record:
    # The token makes one job of it, however often it has to be sent.
    return {"submission": str(uuid.uuid4()), "no_wait": no_wait, "spec": spec}


def _prepare(source: Path, options: Record) -> tuple[Record, list[Any]]:
    """The body of the submission, and the packages of its source and of its client's."""
    from syndicate.cli import jobfile, packing

    no_wait, texts = options.pop("no_wait"), options.pop("settings")
    try:
        settings = [jobfile.parse_setting(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--set") from error
    given = {_KEYS[name]: name for name, value in options.items() if value is not None}
    for key, _ in settings:
        if key in given:
            option = f"--{given[key].replace('_', '-')}"
            raise click.UsageError(f"--set {key} and {option} say the same: give one of them.")
    settings += [(key, options[name]) for key, name in given.items()]
    draft = jobfile.draft(source, settings)
    package = packing.package(draft.source, ("master", "slave"))
    spec = {**draft.spec, "sha256": package.sha256, "size": package.size}
    packages = [package]
    if draft.client is not None:
        try:
            packages.append(packing.package(draft.client, ("client",)))
        except BaseException:
            _close(packages)
            raise
        spec |= {"client_sha256": packages[1].sha256, "client_size": packages[1].size}
        spec.setdefault("clients", 1)
    return _body(spec, no_wait=no_wait), packages


def _close(packages: list[Any]) -> None:
    for package in packages:
        package.close()


def _send(session: Session, body: Record, packages: list[Any]) -> Record:
    connection = session.connection
    for package in packages:
        connection.upload(f"/v1/blobs/{package.sha256}", package.file, package.size)
    job: Record = connection.post("/v1/jobs", body)["job"]
    return job


def _dry_run(session: Session, body: Record, output: str | None) -> int:
    found = session.connection.post("/v1/jobs?dry_run=1", body)
    if output in ("json", "jsonl"):
        write_json(found)
    else:
        for volunteer in found["matching"]:
            click.echo(volunteer)
        session.say(visible(found["reason"]) or "It could start at once.")
    return exits.PASSED if found["enough"] else exits.TRY_LATER


def _after(session: Session, job: Record, follow: bool, wait: bool, output: str | None) -> int:
    """What comes after a job is queued."""
    if not follow:
        output = chosen(session, output)
        if output == "id" or (output == "table" and not sys.stdout.isatty()):
            click.echo(str(job["job"]))
            sys.stdout.flush()
    _tell_queued(session, job)
    if follow or wait:
        try:
            job = _followed(session, job, output=follow)
        except KeyboardInterrupt:
            number = job["job"]
            session.say(
                f"\nJob {number} goes on. See it: syndicate logs {number} -f"
                f" - end it: syndicate cancel {number}"
            )
            return exits.INTERRUPTED
    if not follow and output not in ("id", "table"):
        show(session, JOBS, [job], output or "table", single=True)
    return _end(session, job) if follow or wait else exits.PASSED


def _followed(session: Session, job: Record, *, output: bool) -> Record:
    from syndicate.cli.following import follow

    return follow(session, job, output=output)


def _end(session: Session, job: Record) -> int:
    from syndicate.cli.following import tell_end

    tell_end(session, job)
    return exits.of_job(job)


def _tell_queued(session: Session, job: Record) -> None:
    count = job["machines_wanted"]
    machines = "1 machine" if count == 1 else f"{count} machines"
    if clients := job["clients"]:
        machines += ", 1 client" if clients == 1 else f", {clients} clients"
    about = f"Job {job['job']} ({visible(job['name'])}, {machines}) is {job['state']}."
    session.say(f"{about} {visible(job['reason'])}".rstrip())
