"""The verb ``fetch``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from syndicate.cli import exits, listings, streams
from syndicate.cli.downloads import OUTPUTS, download, place, replacing, unpack
from syndicate.cli.grammar import Verb
from syndicate.cli.output import visible
from syndicate.cli.session import Session, pass_session
from syndicate.cli.types import JOB
from syndicate.domain.errors import Invalid
from syndicate.report import folder


@click.command(
    cls=Verb,
    short_help="Bring everything of a job into a directory.",
    examples=(
        "syndicate fetch 17              into the directory job-17",
        "syndicate fetch latest -d out   into out",
    ),
)
@click.argument("job", type=JOB)
@click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to; job-JOB here unless given.",
)
@pass_session
def fetch(session: Session, job: str, directory: Path | None) -> int:
    """Bring everything of a job: result.json, machines.json, faults.jsonl, events.jsonl,
    samples.csv, job.json, and of each attempt what its machines printed (MACHINE.out,
    MACHINE.err) and the outputs they kept (MACHINE/).

    Prints the directory. The exit code is 1 when something had to be left out.
    """
    found = session.job(job)
    number = found["job"]
    top = directory or Path(f"job-{number}")
    try:
        top.mkdir(parents=True, exist_ok=True)
        _write_records(session, found, top)
        left_out = _fetch_files(session, number, top)
        _fetch_samples(session, number, top)
    except OSError as error:
        raise Invalid(
            f"{error.filename or top} cannot be written: {error.strerror}. Another directory can be"
            " given with -d."
        ) from error
    if found["state"] != "finished":
        session.say(f"Job {number} is still {found['state']}: this is what there is so far.")
    for line in listings.left_out(found["machines"]):
        session.say(visible(line))
    click.echo(str(top))
    return exits.FAILED if left_out else exits.PASSED


def _write_records(session: Session, job: dict[str, Any], top: Path) -> None:
    place(top, "job.json").write_text(json.dumps(job, ensure_ascii=False, indent=2) + "\n")
    events = streams.events_so_far(session.connection, job["job"])
    with place(top, "events.jsonl").open("w") as file:
        file.writelines(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    faults = session.connection.get(f"/v1/jobs/{job['job']}/faults")["faults"]
    with place(top, folder.FAULTS).open("w") as file:
        folder.write_faults(file, faults)
    with place(top, folder.MACHINES).open("w") as file:
        folder.write_machines(file, job)
    with place(top, folder.RESULT).open("w") as file:
        folder.write_result(file, job)


def _fetch_samples(session: Session, number: int, top: Path) -> None:
    def once() -> None:
        with (
            session.connection.stream(f"/v1/jobs/{number}/samples", timeout=60.0) as chunks,
            replacing(place(top, folder.SAMPLES)) as file,
        ):
            folder.write_samples(file, chunks)

    session.connection.persist(once)


def _fetch_files(session: Session, number: int, top: Path) -> int:
    left_out = 0

    def refused(text: str) -> None:
        nonlocal left_out
        left_out += 1
        session.say(visible(text))

    for file in session.connection.get(f"/v1/jobs/{number}/files")["files"]:
        target = place(top, file["path"])
        download(session.connection, number, file["path"], file["size"], target)
        if target.name == OUTPUTS:
            for _ in unpack(target, target.parent, refused):
                pass
            target.unlink()
    return left_out
