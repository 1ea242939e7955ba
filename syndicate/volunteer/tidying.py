"""What a volunteer does between two jobs: it cleans up, and does what its operator wants.

A host is fit for the next job when what the last one left is gone, which the sandbox and the
network prove by looking, and the operator's ``after_job`` has been done. What fails is told to the
manager and tried again after a while; the manager counts, and says when it has had enough.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from syndicate.domain.errors import NotClean
from syndicate.wire.interface import Holding

log = Logger()

#: Seconds until it is tried again to clean; twice as long each time, up to `LONGEST_PAUSE`.
FIRST_PAUSE = 10.0
LONGEST_PAUSE = 300.0

#: Does what the operator wants after a job; fails with `NotClean`.
AfterJob = Callable[[Holding | None], Awaitable[None]]
#: Removes what is left, and proves that it is gone; fails with `NotClean`.
Remove = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Tidying:
    """Keeps at it until the host is fit for a job.

    :param after_job: None for nothing.
    :param tell: brings to the manager that all is well (an empty text), or what is not; waits
        until it has been taken.
    """

    _clock: IReactorTime
    _after_job: AfterJob | None
    _tell: Callable[[str], Awaitable[None]]
    #: What is not clean; empty while all is well.
    problem: str = ""
    #: Whether something is being done of which the manager is told later.
    busy: bool = False
    _tries: int = 0
    _timer: IDelayedCall | None = None
    _doing: Deferred[None] | None = None
    _stopped: bool = False

    @property
    def unfit(self) -> str:
        """Why no job can be taken now; empty if one can."""
        return self.problem or ("It does what is to be done after each job." if self.busy else "")

    def follow(self, last: Holding) -> bool:
        """A job was removed, cleanly; tells whether there is more to do before the next."""
        if self._after_job is None or self._stopped:
            return False
        self._begin(None, last)
        return True

    def failed(self, problem: str, remove: Remove, last: Holding | None = None) -> None:
        """Something could not be removed; it is tried again. Whoever calls this tells the manager
        of the first failure.
        """
        self.problem = problem
        if self._stopped:
            return
        pause = min(FIRST_PAUSE * 2**self._tries, LONGEST_PAUSE)
        self._tries += 1
        log.error("Not clean, trying again in {pause:g} s: {why}", pause=pause, why=problem)
        self._timer = self._clock.callLater(pause, self._begin, remove, last)

    async def stop(self) -> None:
        """Let go, whatever it is at, and wait for its end."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._doing is not None:
            self._doing.cancel()
            await self._doing

    def _begin(self, remove: Remove | None, last: Holding | None) -> None:
        self.busy = True
        self._doing = Deferred.fromCoroutine(self._tidy(remove, last))
        self._doing.addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            log.failure("tidying up broke off", failure)

    async def _tidy(self, remove: Remove | None, last: Holding | None) -> None:
        try:
            if remove is not None:
                await remove()
            if self._after_job is not None:
                await self._after_job(last)
        except NotClean as error:
            self.busy = False
            self.failed(str(error), remove or _nothing, last)
            await self._tell(str(error))
            return
        self.problem, self.busy, self._tries = "", False, 0
        log.info("Clean.")
        await self._tell("")


async def _nothing() -> None:
    """All was removed before; only the operator's command has to be done again."""
