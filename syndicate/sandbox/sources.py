"""Unpacked sources, kept for a while: the next attempt of a job, and the next job of the same
source, need not unpack again. They are lower layers, so no job can change them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from syndicate.sandbox.confine.discard import discard
from syndicate.sandbox.interface import SourceRules
from syndicate.sandbox.orders import Identity
from syndicate.sandbox.spares import Launchers

#: How many trees, and how many bytes of them, are kept beside those in use.
TREES = 4
BYTES = 1 << 30
#: Seconds of processor time and bytes of memory that unpacking may take.
CPU = 300
MEMORY = 1 << 30


@attrs.define
class Tree:
    """A source unpacked for one user."""

    sha256: str
    uid: int
    path: Path
    unpacked: int = 0
    users: int = 0


class Sources:
    """The unpacked sources of one volunteer.

    :param directory: where they are kept; all in it is ours.
    """

    def __init__(self, launchers: Launchers, directory: Path, rules: SourceRules) -> None:
        self._launchers = launchers
        self.directory = directory
        self._rules = rules
        #: The least recently used first.
        self._trees: dict[tuple[str, int], Tree] = {}

    def uids_with(self, sha256: str) -> Iterator[int]:
        """The users who have that source unpacked already."""
        return (uid for digest, uid in self._trees if digest == sha256)

    async def take(self, source: Path, sha256: str, identity: Identity) -> Tree:
        """Get a tree to be used, unpacked now if need be; `give_back` it afterwards.

        :raises InvalidSource: it breaks the rules.
        :raises StorageFull: there is no room for it.
        """
        key = (sha256, identity["uid"])
        tree = self._trees.pop(key, None) or await self._unpack(source, sha256, identity)
        self._trees[key] = tree
        tree.users += 1
        return tree

    def give_back(self, tree: Tree) -> list[Path]:
        """Use it no more.

        :returns: trees that are too many now, already out of the way and to be discarded.
        """
        tree.users -= 1
        idle = [tree for tree in self._trees.values() if not tree.users]
        too_many = []
        while len(idle) > TREES or sum(tree.unpacked for tree in idle) > BYTES:
            oldest = idle.pop(0)
            del self._trees[oldest.sha256, oldest.uid]
            too_many.append(oldest.path)
        return too_many

    def forget(self) -> list[Path]:
        """Keep nothing any more; returns what is to be discarded."""
        trees, self._trees = self._trees, {}
        return [tree.path for tree in trees.values()]

    async def _unpack(self, source: Path, sha256: str, identity: Identity) -> Tree:
        path = self.directory / f"{sha256[:16]}-{identity['uid']}-{os.urandom(4).hex()}"
        path.mkdir(mode=0o755)
        if identity["mode"] == "root":
            os.chown(path, identity["uid"], identity["uid"])
        try:
            done = await self._launchers.perform(
                {
                    "action": "unpack",
                    "identity": identity,
                    "source": str(source),
                    "directory": str(path),
                    "rules": attrs.asdict(self._rules),
                    "cpu": CPU,
                    "memory": MEMORY,
                }
            )
        except BaseException:
            discard(str(path))
            raise
        return Tree(sha256, identity["uid"], path, done.numbers[1])
