"""Where labs keep their files, and what each writes down of itself.

Kept light: the command line reads it to find the lab that runs when nobody named a cluster.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.errors import Corrupt, Invalid

#: The environment variable that names the directory of labs.
STATE_VARIABLE = "SYNDICATE_LAB_STATE"

#: The lab that is meant when none is named.
DEFAULT_NAME = "lab"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?")
_DESCRIPTION = "lab.json"
_FORMAT = 1


@attrs.define
class Host:
    """One host of a lab: a network namespace with one address, and the daemon in it."""

    #: ``manager``, or ``v1`` and so on.
    name: str
    #: Its network namespace, and the bridge's end of its cable.
    namespace: str
    address: str
    #: First and last user number that its jobs may have; None for the manager.
    uids: tuple[int, int] | None = None
    #: The daemon's process, and when that began in clock ticks since boot; together they are
    #: never those of another process. None before the first start.
    pid: int | None = None
    began: int | None = None


@attrs.define
class Description:
    """A lab as its ``lab.json`` tells of it."""

    name: str
    #: ``building`` until all hosts have been up once, ``up``, and ``kept`` when only files are
    #: left.
    stage: str
    #: Which of this machine's labs it is: the number in the names it uses, ``syn-<index>-…``.
    index: int
    #: Its network, ``10.77.0.0/24``, and the address of this machine in it.
    net: str
    gateway: str
    #: Of the boot in which it was brought up.
    boot: str
    url: str
    authority: str
    token_file: str
    hosts: dict[str, Host] = attrs.field(factory=dict)

    @property
    def console_key(self) -> Path:
        """The file with the SSH key for the manager's console."""
        return Path(self.token_file).with_name("console")

    @property
    def bridge(self) -> str:
        """The bridge's name; all other names begin with it."""
        return f"syn-{self.index}"

    @property
    def volunteers(self) -> list[Host]:
        """All hosts but the manager, in the order of their numbers."""
        return [host for host in self.hosts.values() if host.name != "manager"]

    @property
    def manager_on(self) -> str | None:
        """The volunteer whose host the manager shares; None when it has one of its own."""
        where = self.hosts["manager"].namespace
        return next((host.name for host in self.volunteers if host.namespace == where), None)


def labs_directory() -> Path:
    """The directory with one directory per lab: ``$SYNDICATE_LAB_STATE``, or the user's own."""
    chosen = os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    # What platformdirs says on Linux, without its import time in every command.
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state or Path.home() / ".local/state") / "syndicate" / "labs"


def lab_directory(name: str) -> Path:
    """The directory of the lab of that name.

    :raises Invalid: a name that is none.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} is no name for a lab: use up to 31 letters a-z, digits and inner hyphens."
        )
    return labs_directory() / name


def all_labs() -> Iterator[str]:
    """The names of this user's labs, in any stage."""
    directory = labs_directory()
    if directory.is_dir():
        for found in sorted(directory.iterdir()):
            if _NAME.fullmatch(found.name) and (found / _DESCRIPTION).is_file():
                yield found.name


def read(directory: Path) -> Description | None:
    """What the lab in a directory has written down; None when there is none.

    :raises Corrupt: a description that cannot be understood.
    """
    path = directory / _DESCRIPTION
    try:
        found = json.loads(path.read_bytes())
        return _description(found)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(
            f"{path} does not describe a lab ({error}); `syndicate lab down` takes it away."
        ) from error


def _description(found: dict[str, Any]) -> Description:
    if found.pop("format") != _FORMAT:
        raise ValueError("written by another version")
    hosts = {name: _host(values) for name, values in found.pop("hosts").items()}
    return Description(hosts=hosts, **found)


def _host(values: dict[str, Any]) -> Host:
    uids = values.pop("uids")
    return Host(uids=uids and (uids[0], uids[1]), **values)


def write(directory: Path, description: Description) -> None:
    """Write a description down, whole or not at all."""
    text = json.dumps({"format": _FORMAT, **attrs.asdict(description)}, indent=1)
    write_private(directory / _DESCRIPTION, text + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only the owner of its directory may read, whole or not at all."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    owner = path.parent.stat()
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(text)
    scratch.replace(path)


def this_boot() -> str:
    """An identifier of the time since this machine started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
