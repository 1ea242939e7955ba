"""``volunteer.toml`` as frozen values."""

from __future__ import annotations

import ipaddress
import platform
from collections.abc import Callable
from pathlib import Path

import attrs

from syndicate.config.console import CONSOLE_PORT, ConsoleConfig
from syndicate.config.manager import API_PORT, WIRE_PORT
from syndicate.config.reading import load
from syndicate.config.values import (
    key,
    parse_path,
    parse_port,
    parse_text,
    parse_texts,
)
from syndicate.domain.quantities import parse_size, parse_span
from syndicate.domain.values import parse_truth, parse_whole


def _parse_ports(value: object) -> tuple[int, ...]:
    if isinstance(value, list):
        return tuple(parse_port(port) for port in value)
    raise ValueError(f"{value!r} is not a list of ports")


def _parse_address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(parse_text(value)))
    except ValueError as error:
        raise ValueError(f"{value!r} is not the address of a host, such as '192.0.2.17'") from error


def _parse_places(value: object) -> tuple[tuple[str, int], ...]:
    if isinstance(value, list):
        return tuple(_parse_place(place) for place in value)
    raise ValueError(f"{value!r} is not a list of places such as '192.0.2.10:7080'")


def _parse_place(value: object) -> tuple[str, int]:
    address, colon, port = parse_text(value).rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"{value!r} is not a place such as '192.0.2.10:7080' or '[::1]:7080'")
    return _parse_address(address.removeprefix("[").removesuffix("]")), parse_port(int(port))


def _parse_after_job(value: object) -> str | tuple[str, ...]:
    if value in ("clean", "reboot"):
        return str(value)
    if isinstance(value, list) and value:
        return parse_texts(value)
    raise ValueError(f"{value!r} is not 'clean', 'reboot' or a command such as ['/usr/bin/tidy']")


def _parse_command(value: object) -> tuple[str, ...]:
    if not parse_texts(value):
        raise ValueError("is empty; a command is a list such as ['/usr/sbin/reboot']")
    return parse_texts(value)


def _parse_range(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is not a range such as [20000, 20015]")
    first, last = (parse_whole(each) for each in value)
    if not 1000 <= first <= last:
        raise ValueError(f"{value!r} is not a range of user ids from 1000 up")
    return first, last


def _parse_one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(map(repr, words))}")
        return str(value)

    return parse


@attrs.frozen
class VolunteerConsole(ConsoleConfig):
    """``[console]`` of a volunteer: none unless a port is set."""

    port: int = key(parse_port, default=0)


@attrs.frozen
class Registration:
    """``[volunteer]``: who it is and whom it serves."""

    manager: str = key(parse_text)
    authority: Path = key(parse_path)
    join_token_file: Path = key(parse_path)
    name: str = key(parse_text, factory=platform.node)
    state: Path = key(parse_path, default=Path("/var/lib/syndicate/volunteer"))
    wire_port: int = key(parse_port, default=WIRE_PORT)
    api_port: int = key(parse_port, default=API_PORT)
    #: By which other machines of a job reach it; found out from the route when empty.
    address: str = key(_parse_address, default="")
    #: What makes it fit for the next job beside its being clean.
    after_job: str | tuple[str, ...] = key(_parse_after_job, default="clean")
    #: Seconds within which that must be done, or the host have gone down.
    after_job_deadline: float = key(parse_span, default=120.0)
    reboot_command: tuple[str, ...] = key(_parse_command, default=("/usr/bin/systemctl", "reboot"))


@attrs.frozen
class SandboxConfig:
    """``[sandbox]``: how jobs are confined."""

    mode: str = key(_parse_one_of("auto", "root", "user"), default="auto")
    uids: tuple[int, int] = key(_parse_range, default=(20000, 20015))
    #: Given to jobs as ``/etc/resolv.conf``; none when not set.
    resolv_conf: Path | None = key(parse_path, default=None)
    #: Where the links into ``/usr`` are kept that every job's root begins with; several volunteers
    #: on one machine may name the same directory. In ``state`` when not set.
    skeletons: Path | None = key(parse_path, default=None)
    #: Whether jobs are refused the system calls that no target of a Makefile needs.
    seccomp: bool = key(parse_truth, default=True)


@attrs.frozen
class NetworkConfig:
    """``[network]``: what jobs are kept from connecting to."""

    #: Ports of daemons beside those of ``[volunteer]``: the manager's, and those on this host.
    ports: tuple[int, ...] = key(_parse_ports, default=(CONSOLE_PORT,))
    #: Further places.
    closed: tuple[tuple[str, int], ...] = key(_parse_places, default=())
    #: Places that jobs may connect to all the same.
    open: tuple[tuple[str, int], ...] = key(_parse_places, default=())
    #: By what jobs are told from others.
    match: str = key(_parse_one_of("auto", "group", "user"), default="auto")


@attrs.frozen
class Cache:
    """``[cache]``: sources kept for later jobs, in bytes."""

    size: int = key(parse_size, default=10 << 30)


@attrs.frozen
class VolunteerConfig:
    """The whole of ``volunteer.toml``."""

    volunteer: Registration
    sandbox: SandboxConfig = SandboxConfig()
    cache: Cache = Cache()
    console: VolunteerConsole = VolunteerConsole()
    network: NetworkConfig = NetworkConfig()


def load_volunteer(path: Path) -> VolunteerConfig:
    """Read ``volunteer.toml``.

    :raises Invalid: what is wrong with it: every mistake with its place.
    """
    return load(path, VolunteerConfig)
