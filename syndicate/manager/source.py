"""Whether a source is fit for a job: found out once for each tarball, before anything waits."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from syndicate.blobs.interface import IBlobStore
from syndicate.domain import makefile
from syndicate.domain.errors import InvalidSource, NotFound
from syndicate.domain.job import Role
from syndicate.sandbox.interface import ISourceInspector

#: How many verdicts on tarballs are remembered.
REMEMBERED = 10_000

#: The targets that a job's source must have, and a client's.
TARGETS = (Role.MASTER.value, Role.SLAVE.value)
CLIENT_TARGETS = (Role.CLIENT.value,)


@attrs.define(eq=False)
class SourceGate:
    """Lets through sources that unpack safely and whose Makefile has the targets."""

    _blobs: IBlobStore
    _inspector: ISourceInspector
    _known: OrderedDict[tuple[str, tuple[str, ...]], str] = attrs.field(
        init=False, factory=OrderedDict
    )

    async def check(self, sha256: str, size: int, targets: tuple[str, ...] = TARGETS) -> None:
        """Raise what is wrong with a source.

        :param targets: what its Makefile must have.
        :raises InvalidSource: it is not held, has another size, will not be unpacked, or its
            Makefile surely lacks a target.
        """
        held = self._blobs.size(sha256)
        if held is None:
            raise InvalidSource(
                f"The manager does not hold the source {sha256[:12]}…; upload it first."
            )
        if held != size:
            raise InvalidSource(f"The source has {held} bytes, not {size}; pack it again.")
        # Counts as a use, so that it is not swept before its job is queued.
        path = self._blobs.path(sha256)
        problem = self._known.get((sha256, targets))
        if problem is None:
            problem = await self._inspect(path, targets)
            self._known[sha256, targets] = problem
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if problem:
            raise InvalidSource(problem)

    async def _inspect(self, path: Path, targets: tuple[str, ...]) -> str:
        try:
            facts = await self._inspector.inspect(path)
        except InvalidSource as error:
            return str(error)
        except NotFound as error:
            raise InvalidSource(f"The source went away while it was read: {error}") from error
        lacking = makefile.missing(facts.makefile, targets)
        if lacking:
            names = " and ".join(repr(name) for name in lacking)
            needed = " and ".join(repr(name) for name in targets)
            return (
                f"The Makefile has no target {names}; it needs {needed}. "
                "Add what is missing and submit again."
            )
        return ""

    def close(self) -> Deferred[None]:
        """End the inspector."""
        return self._inspector.close()
