"""Whose something in the kernel is: of this run of the tests, or of another on this machine.

Each name carries something of the run: a lab's number is told by the alias of its bridge, hosts of
`tests.support.hosts` carry the number of the process that made them, and a volunteer's control
groups carry the hash of its state directory, which is in the temporary folder of its run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from syndicate.lab import network

#: What the names of the hosts of this run begin with, see `tests.support.hosts`.
HOSTS = f"syn-n{os.getpid()}"

_SOMEBODYS_HOSTS = re.compile(r"syn-n\d+")
_LABS = re.compile(r"syn-(\d+)(-.*)?")
_GROUP = re.compile(r"syndicate-(?P<name>.+)-(?P<digest>[0-9a-f]{8})(-network)?")

#: How deep below the temporary folder of a run a state directory, or what holds it, can be.
_DEPTH = 5

#: Numbers of labs that were seen to be ours. One whose bridge is gone does not tell any more.
_our_labs: set[int] = set()


class Others:
    """Knows what belongs to others, as it is at one moment.

    :param place: the temporary folder of this run.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._labs = {claim.index: claim.directory for claim in _claims()}
        _our_labs.update(
            index
            for index, directory in self._labs.items()
            if directory is not None and directory.is_relative_to(place)
        )
        self._folders: list[Path] | None = None

    def have(self, name: str) -> bool:
        """Whether a namespace, an interface or a control group is another's. What nobody can be
        told to own is ours.
        """
        if hosts := _SOMEBODYS_HOSTS.match(name.removeprefix("syndicate-")):
            return hosts[0] != HOSTS
        if lab := _LABS.fullmatch(name):
            return self._is_others_lab(int(lab[1]))
        if group := _GROUP.fullmatch(name):
            return not self._is_our_volunteer(group["name"], group["digest"])
        return False

    def _is_others_lab(self, index: int) -> bool:
        directory = self._labs.get(index)
        if directory is not None:
            return not directory.is_relative_to(self._place)
        # One that is being made or unmade; the bridge goes last, and ours have their records.
        return index not in _our_labs | self._recorded()

    def _recorded(self) -> set[int]:
        """The numbers of labs whose records are in this run's folder."""
        found = set()
        for record in self._all_folders():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.add(int(json.loads((record / "lab.json").read_text())["index"]))
        return found

    def _all_folders(self) -> list[Path]:
        if self._folders is None:
            self._folders = list(_folders(self._place.resolve(), _DEPTH))
        return self._folders

    def _is_our_volunteer(self, name: str, digest: str) -> bool:
        # Of a lab that was removed there may be no more than what held it.
        below = ("", "/state", f"/{name}/state", f"/state/{name}/state")
        return any(
            _digest(f"{folder}{more}") == digest for folder in self._all_folders() for more in below
        )


@functools.cache
def _digest(state: str) -> str:
    """What a volunteer's tag ends with, see `syndicate.sandbox.host.tag_of`.

    :param state: a path without symbolic links, so that it need not be looked at.
    """
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:8]


def _claims() -> list[network.Claim]:
    if not Path("/sys/class/net").is_dir():
        return []
    try:
        return network.claims()
    except (OSError, subprocess.SubprocessError):
        return []


def _folders(place: Path, depth: int) -> Iterator[Path]:
    """A folder and those below it, also where they vanish meanwhile."""
    yield place
    if depth == 0:
        return
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _folders(Path(entry.path), depth - 1)
