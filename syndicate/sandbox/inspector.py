"""Looking into the tarballs that users send, in a child that could do no harm if it were taken
over by one.
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from zope.interface import implementer

from syndicate.domain.errors import SandboxFailed
from syndicate.sandbox.cgroups import ControlGroups
from syndicate.sandbox.interface import ISourceInspector, SourceFacts, SourceRules
from syndicate.sandbox.launching import IHostReactor
from syndicate.sandbox.orders import Identity
from syndicate.sandbox.spares import Done, Launchers

#: Who looks, where we may choose: nobody.
_NOBODY = 65534
#: Inspections at once; each may take a whole processor.
_AT_ONCE = 2
#: Bytes of memory for one.
_MEMORY = 512 << 20
#: Seconds for one.
_PATIENCE = 120.0


@implementer(ISourceInspector)
class LauncherInspector:
    """Inspects in launchers, shut into an empty directory as another user.

    :param scratch: a directory of ours, in which the empty one is made.
    :param cpu: seconds of processor time that one inspection may take.
    """

    def __init__(
        self, reactor: IHostReactor, scratch: Path, rules: SourceRules, cpu: int = 60
    ) -> None:
        self._launchers = Launchers(reactor, ControlGroups("inspector"), keep=1)
        self._directory = scratch / "empty"
        self._rules = rules
        self._cpu = cpu
        self._turns = DeferredSemaphore(_AT_ONCE)
        self._identity: Identity = {"mode": "root", "uid": _NOBODY}
        if os.geteuid() != 0:
            self._identity["mode"] = "user"

    def inspect(self, path: Path) -> Deferred[SourceFacts]:
        return Deferred.fromCoroutine(self._inspect(path))

    async def _inspect(self, path: Path) -> SourceFacts:
        self._directory.mkdir(mode=0o555, parents=True, exist_ok=True)
        await self._turns.acquire()
        try:
            done = await self._look(path)
        except SandboxFailed:
            if self._identity["mode"] != "user":
                raise
            # Where user namespaces are not allowed, what is left is that it may open, write and
            # start nothing beyond its limits.
            self._identity["mode"] = "same"
            done = await self._look(path)
        finally:
            self._turns.release()
        members, unpacked, _ = done.numbers
        return SourceFacts(members, unpacked, done.data)

    def _look(self, path: Path) -> Deferred[Done]:
        return self._launchers.perform(
            {
                "action": "inspect",
                "identity": self._identity,
                "source": str(path),
                "directory": str(self._directory),
                "rules": attrs.asdict(self._rules),
                "cpu": self._cpu,
                "memory": _MEMORY,
            },
            _PATIENCE,
        )

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._launchers.close())
