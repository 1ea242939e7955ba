"""The daemons' TOML files as frozen values; all mistakes are reported at once."""

from __future__ import annotations

import difflib
import ipaddress
import platform
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.errors import Invalid
from syndicate.domain.job import Limits
from syndicate.domain.quantities import parse_size, parse_span

WIRE_PORT = 7070
API_PORT = 7080
CONSOLE_PORT = 7022


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _cores(value: object) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1e6:  # type: ignore[operator]
        raise ValueError(f"{value!r} is not a number of cores")
    return float(value)  # type: ignore[arg-type]


def _rate(value: object) -> float:
    if type(value) not in (int, float) or not 0 < value <= 1e9:  # type: ignore[operator]
        raise ValueError(f"{value!r} is not a number for each second")
    return float(value)  # type: ignore[arg-type]


def _truth(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{value!r} is not true or false")
    return value


def _port(value: object) -> int:
    if not 0 <= _whole(value) <= 65535:
        raise ValueError(f"{value!r} is not a port from 0 to 65535")
    return _whole(value)


def _ports(value: object) -> tuple[int, ...]:
    if isinstance(value, list):
        return tuple(_port(port) for port in value)
    raise ValueError(f"{value!r} is not a list of ports")


def _address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(_text(value)))
    except ValueError as error:
        raise ValueError(f"{value!r} is not the address of a host, such as '192.0.2.17'") from error


def _places(value: object) -> tuple[tuple[str, int], ...]:
    if isinstance(value, list):
        return tuple(_place(place) for place in value)
    raise ValueError(f"{value!r} is not a list of places such as '192.0.2.10:7080'")


def _place(value: object) -> tuple[str, int]:
    address, colon, port = _text(value).rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"{value!r} is not a place such as '192.0.2.10:7080' or '[::1]:7080'")
    return _address(address.removeprefix("[").removesuffix("]")), _port(int(port))


def _text(value: object) -> str:
    if type(value) is not str or not value:
        raise ValueError(f"{value!r} is not a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_text(each) for each in value)
    raise ValueError(f"{value!r} is not a list of texts")


def _path(value: object) -> Path:
    return Path(_text(value))


def _after_job(value: object) -> str | tuple[str, ...]:
    if value in ("clean", "reboot"):
        return str(value)
    if isinstance(value, list) and value:
        return _texts(value)
    raise ValueError(f"{value!r} is not 'clean', 'reboot' or a command such as ['/usr/bin/tidy']")


def _command(value: object) -> tuple[str, ...]:
    if not _texts(value):
        raise ValueError("is empty; a command is a list such as ['/usr/sbin/reboot']")
    return _texts(value)


def _range(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is not a range such as [20000, 20015]")
    first, last = (_whole(each) for each in value)
    if not 1000 <= first <= last:
        raise ValueError(f"{value!r} is not a range of user ids from 1000 up")
    return first, last


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(map(repr, words))}")
        return str(value)

    return read


def _key(read: Callable[[object], Any], **options: Any) -> Any:
    return attrs.field(metadata={"read": read}, **options)


@attrs.frozen
class Listening:
    """``[manager]``: where the manager keeps its state and listens."""

    state: Path = _key(_path, default=Path("/var/lib/syndicate/manager"))
    cluster: str = _key(_text, default="syndicate")
    address: str = _key(_text, default="0.0.0.0")
    wire_port: int = _key(_port, default=WIRE_PORT)
    api_port: int = _key(_port, default=API_PORT)
    #: Names and addresses that the server's certificate holds beside its own.
    names: tuple[str, ...] = _key(_texts, default=())


@attrs.frozen
class Liveness:
    """``[liveness]``, in seconds: see `syndicate.manager.liveness.Patience`."""

    ping: float = _key(parse_span, default=5.0)
    deadline: float = _key(parse_span, default=15.0)
    grace: float = _key(parse_span, default=30.0)
    start_grace: float = _key(parse_span, default=30.0)


@attrs.frozen
class Maxima:
    """``[maxima]``: the most that one job may ask for, per machine, and what is kept."""

    machines: int = _key(_whole, default=1000)
    wall: float = _key(parse_span, default=24 * 3600.0)
    cpu: float = _key(parse_span, default=2400 * 3600.0)
    cores: float = _key(_cores, default=1024.0)
    memory: int = _key(parse_size, default=64 << 30)
    pids: int = _key(_whole, default=32768)
    files: int = _key(_whole, default=65536)
    output: int = _key(parse_size, default=1 << 30)
    disk: int = _key(parse_size, default=256 << 30)
    inodes: int = _key(_whole, default=16_000_000)
    fault_calls: float = _key(_rate, default=1000.0)
    calls: float = _key(_rate, default=1000.0)
    samples: float = _key(_rate, default=100_000.0)
    connections: int = _key(_whole, default=256)
    #: Bytes of one source tarball, packed and unpacked.
    source: int = _key(parse_size, default=1 << 30)
    unpacked: int = _key(parse_size, default=4 << 30)


@attrs.frozen
class Defaults:
    """``[defaults]``: the limits of a job that does not say; never above ``[maxima]``."""

    wall: float = _key(parse_span, default=Limits().wall)
    cpu: float = _key(parse_span, default=Limits().cpu)
    cores: float = _key(_cores, default=Limits().cores)
    memory: int = _key(parse_size, default=Limits().memory)
    pids: int = _key(_whole, default=Limits().pids)
    files: int = _key(_whole, default=Limits().files)
    output: int = _key(parse_size, default=Limits().output)
    disk: int = _key(parse_size, default=Limits().disk)
    inodes: int = _key(_whole, default=Limits().inodes)
    fault_calls: float = _key(_rate, default=Limits().fault_calls)
    calls: float = _key(_rate, default=Limits().calls)
    samples: float = _key(_rate, default=Limits().samples)
    connections: int = _key(_whole, default=Limits().connections)


@attrs.frozen
class Clients:
    """``[clients]``: the site's own benchmark client."""

    #: A directory or a tarball with the target ``client``; none when not set.
    source: Path | None = _key(_path, default=None)
    #: How many every job gets that does not say.
    per_job: int = _key(_whole, default=1)
    #: Whether jobs may bring their own.
    own: bool = _key(_truth, default=True)


@attrs.frozen
class ConsoleConfig:
    """``[console]``: the SSH console; there is none where nobody may log in."""

    port: int = _key(_port, default=CONSOLE_PORT)
    address: str = _key(_text, default="127.0.0.1")
    operators: tuple[str, ...] = _key(_texts, default=())
    viewers: tuple[str, ...] = _key(_texts, default=())
    #: Holds ``<user>.keys``; ``console/keys`` below the state directory when not set.
    keys: Path | None = _key(_path, default=None)


@attrs.frozen
class VolunteerConsole(ConsoleConfig):
    """``[console]`` of a volunteer: none unless a port is set."""

    port: int = _key(_port, default=0)


@attrs.frozen
class AuditConfig:
    """``[audit]``: how much of the audit log is kept; each of its three streams has as much."""

    #: Bytes after which a file is full, and how many full ones are kept.
    file_size: int = _key(parse_size, default=16 << 20)
    files: int = _key(_whole, default=8)


@attrs.frozen
class HistoryConfig:
    """``[history]``: how long what is over is held."""

    #: Finished jobs in memory, by number and by age in seconds; older ones are in the archive.
    jobs: int = _key(_whole, default=1000)
    age: float = _key(parse_span, default=7 * 24 * 3600.0)
    #: Seconds after which the logs and outputs of a job in the archive are removed; never if None.
    files: float | None = _key(parse_span, default=None)


@attrs.frozen
class Storage:
    """``[storage]``: what is taken from users, and how much of the disk for it."""

    #: Bytes of all sources, outputs and unfinished uploads.
    blobs: int = _key(parse_size, default=100 << 30)
    #: Bytes of the disk that sources, outputs and logs leave free for the database.
    reserve: int = _key(parse_size, default=64 << 20)
    #: Uploads at once, of all users, and of one.
    uploads: int = _key(_whole, default=64)
    uploads_per_user: int = _key(_whole, default=8)
    #: Jobs that one user may have waiting.
    queued_per_user: int = _key(_whole, default=1000)


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


@attrs.frozen
class Registration:
    """``[volunteer]``: who it is and whom it serves."""

    manager: str = _key(_text)
    authority: Path = _key(_path)
    join_token_file: Path = _key(_path)
    name: str = _key(_text, factory=platform.node)
    state: Path = _key(_path, default=Path("/var/lib/syndicate/volunteer"))
    wire_port: int = _key(_port, default=WIRE_PORT)
    api_port: int = _key(_port, default=API_PORT)
    #: By which other machines of a job reach it; found out from the route when empty.
    address: str = _key(_address, default="")
    #: What makes it fit for the next job beside its being clean.
    after_job: str | tuple[str, ...] = _key(_after_job, default="clean")
    #: Seconds within which that must be done, or the host have gone down.
    after_job_deadline: float = _key(parse_span, default=120.0)
    reboot_command: tuple[str, ...] = _key(_command, default=("/usr/bin/systemctl", "reboot"))


@attrs.frozen
class SandboxConfig:
    """``[sandbox]``: how jobs are confined."""

    mode: str = _key(_one_of("auto", "root", "user"), default="auto")
    uids: tuple[int, int] = _key(_range, default=(20000, 20015))
    #: Given to jobs as ``/etc/resolv.conf``; none when not set.
    resolv_conf: Path | None = _key(_path, default=None)
    #: Where the links into ``/usr`` are kept that every job's root begins with; several volunteers
    #: on one machine may name the same directory. In ``state`` when not set.
    skeletons: Path | None = _key(_path, default=None)
    #: Whether jobs are refused the system calls that no target of a Makefile needs.
    seccomp: bool = _key(_truth, default=True)


@attrs.frozen
class NetworkConfig:
    """``[network]``: what jobs are kept from connecting to."""

    #: Ports of daemons beside those of ``[volunteer]``: the manager's, and those on this host.
    ports: tuple[int, ...] = _key(_ports, default=(CONSOLE_PORT,))
    #: Further places.
    closed: tuple[tuple[str, int], ...] = _key(_places, default=())
    #: Places that jobs may connect to all the same.
    open: tuple[tuple[str, int], ...] = _key(_places, default=())
    #: By what jobs are told from others.
    match: str = _key(_one_of("auto", "group", "user"), default="auto")


@attrs.frozen
class Cache:
    """``[cache]``: sources kept for later jobs, in bytes."""

    size: int = _key(parse_size, default=10 << 30)


@attrs.frozen
class VolunteerConfig:
    """The whole of ``volunteer.toml``."""

    volunteer: Registration
    sandbox: SandboxConfig = SandboxConfig()
    cache: Cache = Cache()
    console: VolunteerConsole = VolunteerConsole()
    network: NetworkConfig = NetworkConfig()


def load_manager(path: Path) -> ManagerConfig:
    """Read ``manager.toml``.

    :raises Invalid: what is wrong with it: every mistake with its place.
    """
    problems: list[str] = []
    table = _read(path)
    sections = {
        "manager": _section(Listening, table, "manager", problems),
        "liveness": _section(Liveness, table, "liveness", problems),
        "maxima": _section(Maxima, table, "maxima", problems),
        "defaults": _section(Defaults, table, "defaults", problems),
        "clients": _section(Clients, table, "clients", problems),
        "audit": _section(AuditConfig, table, "audit", problems),
        "history": _section(HistoryConfig, table, "history", problems),
        "storage": _section(Storage, table, "storage", problems),
        "console": _section(ConsoleConfig, table, "console", problems),
    }
    _finish(path, table, sections, problems)
    return ManagerConfig(**sections)


def load_volunteer(path: Path) -> VolunteerConfig:
    """Read ``volunteer.toml``.

    :raises Invalid: what is wrong with it: every mistake with its place.
    """
    problems: list[str] = []
    table = _read(path)
    sections = {
        "volunteer": _section(Registration, table, "volunteer", problems),
        "sandbox": _section(SandboxConfig, table, "sandbox", problems),
        "cache": _section(Cache, table, "cache", problems),
        "console": _section(VolunteerConsole, table, "console", problems),
        "network": _section(NetworkConfig, table, "network", problems),
    }
    _finish(path, table, sections, problems)
    return VolunteerConfig(**sections)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Invalid(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The configuration {path} is no TOML: {error}.") from error


def _section(
    kind: type[attrs.AttrsInstance], table: Mapping[str, Any], name: str, problems: list[str]
) -> Any:
    given = table.get(name, {})
    if not isinstance(given, dict):
        problems.append(f"{name}: is not a section; write [{name}] above its keys")
        return None
    fields = {field.name: field for field in attrs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            problems.append(f"{name}.{key}: no such key{did_you_mean(key, fields)}")
            continue
        try:
            values[key] = fields[key].metadata["read"](value)
        except ValueError as error:
            problems.append(f"{name}.{key}: {error}")
    for key, field in fields.items():
        if field.default is attrs.NOTHING and key not in given:
            problems.append(f"{name}.{key}: is missing")
    return None if problems else kind(**values)


def _finish(
    path: Path, table: Mapping[str, Any], sections: Mapping[str, Any], problems: list[str]
) -> None:
    for name in table:
        if name not in sections:
            problems.append(f"{name}: no such section{did_you_mean(name, sections)}")
    if problems:
        listed = "\n  ".join(problems)
        raise Invalid(f"The configuration {path} has mistakes:\n  {listed}", problems=problems)


def did_you_mean(word: str, known: Mapping[str, object]) -> str:
    """``; did you mean 'cores'?`` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
