"""What a site lets in: its operator's decisions, and whether a job fits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from syndicate.domain.errors import Forbidden, InvalidJob
from syndicate.domain.job import JobSpec, Limits
from syndicate.domain.quantities import say_size, say_span
from syndicate.manager.history import Keep
from syndicate.manager.liveness import Patience
from syndicate.manager.uploads import Room

#: The least that anything can run in; below it the sandbox itself could not be made.
LEAST = Limits(
    wall=0.1,
    cpu=0.1,
    cores=0.05,
    memory=4 << 20,
    pids=8,
    files=16,
    output=1,
    disk=4 << 20,
    inodes=100,
    fault_calls=0.1,
    calls=1.0,
    samples=1.0,
    connections=2,
)
#: How limits are written for people.
SAID: Mapping[str, Callable[[Any], str]] = {
    "wall": say_span,
    "cpu": say_span,
    **dict.fromkeys(("cores", "fault_calls", "calls", "samples"), "{:g}".format),
    "memory": say_size,
    "output": say_size,
    "disk": say_size,
}


@attrs.frozen
class Site:
    """What the site's operator has decided."""

    cluster: str = "syndicate"
    patience: Patience = Patience()
    #: The most that a job may ask for, and what it gets that does not ask.
    most: Limits = Limits(
        wall=24 * 3600.0,
        cpu=2400 * 3600.0,
        memory=64 << 30,
        pids=32768,
        files=65536,
        output=1 << 30,
        disk=256 << 30,
        inodes=16_000_000,
        fault_calls=1000.0,
        calls=1000.0,
        samples=100_000.0,
        connections=256,
    )
    usual: Limits = Limits()
    most_machines: int = 1000
    #: The site's own benchmark client: digest and size of its source, and how many a job gets;
    #: none without a digest.
    client_sha256: str = ""
    client_size: int = 0
    clients_per_job: int = 0
    #: Whether a job may bring its own.
    own_clients: bool = True
    #: Jobs that one user may have waiting.
    queued_per_user: int = 1000
    #: Faults of one job, in all its attempts; each is kept in memory as long as the job is.
    faults_per_job: int = 10_000
    #: How much of the past is held in memory.
    keep: Keep = Keep()
    #: What blobs and those who send them may have.
    room: Room = Room()
    #: Seconds after their end at which the logs and outputs of jobs in the archive are removed.
    files_for: float | None = None
    #: Port, public host key and its fingerprint of the SSH console; empty if there is none.
    console: tuple[int, str, str] | tuple[()] = ()


def with_clients(site: Site, spec: JobSpec) -> JobSpec:
    """The job with the site's own clients, unless it brings its own or says how many.

    :raises Forbidden: the site does not let it bring its own.
    :raises InvalidJob: it asks for the site's, and there is none.
    """
    if spec.client_sha256:
        if not site.own_clients:
            raise Forbidden("This site does not let jobs bring their own benchmark client.")
        return spec
    if spec.clients > 0 and not site.client_sha256:
        raise InvalidJob(
            "This site has no benchmark client: give one with the job (--client PATH, or "
            "client.source in its job file), or ask for no clients."
        )
    wanted = site.clients_per_job if spec.clients < 0 else spec.clients
    return attrs.evolve(
        spec,
        clients=wanted if site.client_sha256 else 0,
        client_sha256=site.client_sha256 if wanted else "",
        client_size=site.client_size if wanted else 0,
    )


def check(site: Site, spec: JobSpec) -> None:
    """Refuse a job that asks for more than the site gives, or for less than anything can run in.

    :raises InvalidJob: with all that is wrong.
    """
    most, problems = site.most, []
    if not 0 <= spec.clients <= site.most_machines:
        problems.append(f"clients must be 0 to {site.most_machines}, not {spec.clients}")
    if not 1 <= spec.machines <= site.most_machines:
        problems.append(f"machines must be 1 to {site.most_machines}, not {spec.machines}")
    for field in attrs.fields(Limits):
        asked, allowed = getattr(spec.limits, field.name), getattr(most, field.name)
        least, say = getattr(LEAST, field.name), SAID.get(field.name, str)
        if not least <= asked <= allowed:
            problems.append(
                f"limits.{field.name} must be {say(least)} to {say(allowed)}, not {say(asked)}"
            )
    if problems:
        raise InvalidJob("This job cannot be: " + "; ".join(problems) + ".", problems=problems)
