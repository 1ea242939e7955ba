"""``manager.toml`` as frozen values."""

from __future__ import annotations

from pathlib import Path

import attrs

from syndicate.config.console import ConsoleConfig
from syndicate.config.reading import load
from syndicate.config.values import (
    key,
    parse_path,
    parse_port,
    parse_text,
    parse_texts,
)
from syndicate.domain.job import Limits
from syndicate.domain.quantities import parse_size, parse_span
from syndicate.domain.values import parse_cores, parse_rate, parse_truth, parse_whole

#: Where volunteers dial, and where people and their programs do.
WIRE_PORT = 7070
API_PORT = 7080


def _parse_some_cores(value: object) -> float:
    if not (cores := parse_cores(value)):
        raise ValueError(f"{value!r} is not a number of cores")
    return cores


@attrs.frozen
class Listening:
    """``[manager]``: where the manager keeps its state and listens."""

    state: Path = key(parse_path, default=Path("/var/lib/syndicate/manager"))
    cluster: str = key(parse_text, default="syndicate")
    address: str = key(parse_text, default="0.0.0.0")
    wire_port: int = key(parse_port, default=WIRE_PORT)
    api_port: int = key(parse_port, default=API_PORT)
    #: Names and addresses that the server's certificate holds beside its own.
    names: tuple[str, ...] = key(parse_texts, default=())


@attrs.frozen
class Liveness:
    """``[liveness]``, in seconds: see `syndicate.manager.liveness.Patience`."""

    ping: float = key(parse_span, default=5.0)
    deadline: float = key(parse_span, default=15.0)
    grace: float = key(parse_span, default=30.0)
    start_grace: float = key(parse_span, default=30.0)


@attrs.frozen
class Maxima:
    """``[maxima]``: the most that one job may ask for, per machine, and what is kept."""

    machines: int = key(parse_whole, default=1000)
    wall: float = key(parse_span, default=24 * 3600.0)
    cpu: float = key(parse_span, default=2400 * 3600.0)
    cores: float = key(_parse_some_cores, default=1024.0)
    memory: int = key(parse_size, default=64 << 30)
    pids: int = key(parse_whole, default=32768)
    files: int = key(parse_whole, default=65536)
    output: int = key(parse_size, default=1 << 30)
    disk: int = key(parse_size, default=256 << 30)
    inodes: int = key(parse_whole, default=16_000_000)
    fault_calls: float = key(parse_rate, default=1000.0)
    calls: float = key(parse_rate, default=1000.0)
    samples: float = key(parse_rate, default=100_000.0)
    connections: int = key(parse_whole, default=256)
    #: Bytes of one source tarball, packed and unpacked.
    source: int = key(parse_size, default=1 << 30)
    unpacked: int = key(parse_size, default=4 << 30)


@attrs.frozen
class Defaults:
    """``[defaults]``: the limits of a job that does not say; never above ``[maxima]``."""

    wall: float = key(parse_span, default=Limits().wall)
    cpu: float = key(parse_span, default=Limits().cpu)
    cores: float = key(_parse_some_cores, default=Limits().cores)
    memory: int = key(parse_size, default=Limits().memory)
    pids: int = key(parse_whole, default=Limits().pids)
    files: int = key(parse_whole, default=Limits().files)
    output: int = key(parse_size, default=Limits().output)
    disk: int = key(parse_size, default=Limits().disk)
    inodes: int = key(parse_whole, default=Limits().inodes)
    fault_calls: float = key(parse_rate, default=Limits().fault_calls)
    calls: float = key(parse_rate, default=Limits().calls)
    samples: float = key(parse_rate, default=Limits().samples)
    connections: int = key(parse_whole, default=Limits().connections)


@attrs.frozen
class Clients:
    """``[clients]``: the site's own benchmark client."""

    #: A directory or a tarball with the target ``client``; none when not set.
    source: Path | None = key(parse_path, default=None)
    #: How many every job gets that does not say.
    per_job: int = key(parse_whole, default=1)
    #: Whether jobs may bring their own.
    own: bool = key(parse_truth, default=True)


@attrs.frozen
class AuditConfig:
    """``[audit]``: how much of the audit log is kept; each of its three streams has as much."""

    #: Bytes after which a file is full, and how many full ones are kept.
    file_size: int = key(parse_size, default=16 << 20)
    files: int = key(parse_whole, default=8)


@attrs.frozen
class HistoryConfig:
    """``[history]``: how long what is over is held."""

    #: Finished jobs in memory, by number and by age in seconds; older ones are in the archive.
    jobs: int = key(parse_whole, default=1000)
    age: float = key(parse_span, default=7 * 24 * 3600.0)
    #: Seconds after which the logs and outputs of a job in the archive are removed; never if None.
    files: float | None = key(parse_span, default=None)


@attrs.frozen
class Storage:
    """``[storage]``: what is taken from users, and how much of the disk for it."""

    #: Bytes of all sources, outputs and unfinished uploads.
    blobs: int = key(parse_size, default=100 << 30)
    #: Bytes of the disk that sources, outputs and logs leave free for the database.
    reserve: int = key(parse_size, default=64 << 20)
    #: Uploads at once, of all users, and of one.
    uploads: int = key(parse_whole, default=64)
    uploads_per_user: int = key(parse_whole, default=8)
    #: Jobs that one user may have waiting.
    queued_per_user: int = key(parse_whole, default=1000)
    #: Faults of one job, in all its attempts.
    faults_per_job: int = key(parse_whole, default=10_000)


@attrs.frozen
class ManagerConfig:
    """The whole of ``manager.toml``."""

    manager: Listening = Listening()
    liveness: Liveness = Liveness()
    maxima: Maxima = Maxima()
    defaults: Defaults = Defaults()
    clients: Clients = Clients()
    audit: AuditConfig = AuditConfig()
    history: HistoryConfig = HistoryConfig()
    storage: Storage = Storage()
    console: ConsoleConfig = ConsoleConfig()


def load_manager(path: Path) -> ManagerConfig:
    """Read ``manager.toml``.

    :raises Invalid: what is wrong with it: every mistake with its place.
    """
    return load(path, ManagerConfig)
