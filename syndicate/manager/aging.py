"""Removes logs and outputs of jobs that were over long ago, where the site wants that."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from syndicate.blobs.interface import IBlobStore, ILogStore
from syndicate.domain.job import Job
from syndicate.manager.book import Book
from syndicate.manager.history import History
from syndicate.manager.journal import Journal
from syndicate.store.interface import Put, Snapshot

log = Logger()

#: Seconds between two looks.
LOOK = 3600.0
#: Kind and key of the record that says up to which job's number files were removed.
REMOVED = ("counter", "files")


@attrs.define(eq=False)
class Aging:
    """Goes through the archive in the order of the numbers.

    :param after: seconds after its end at which a job's files are removed; None for never.
    :param needed: digests that jobs in memory refer to.
    """

    _clock: IReactorTime
    _journal: Journal
    _book: Book
    _history: History
    _blobs: IBlobStore
    _logs: ILogStore
    _after: float | None
    _needed: Callable[[], frozenset[str]]
    #: The number of the last job whose files were removed.
    removed: int = attrs.field(init=False, default=0)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)
    _busy: bool = attrs.field(init=False, default=False)

    def open(self, snapshot: Snapshot) -> None:
        """Begin to look."""
        self.removed = snapshot.records.get(REMOVED, {"removed": 0})["removed"]
        if self._after is not None:
            self._timer = self._clock.callLater(0, self._look)

    def close(self) -> None:
        """Look no more; what is being removed is the last."""
        self._closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._clock.callLater(LOOK, self._look)
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._remove_old()).addBoth(self._over)

    def _over(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure):
            log.warn("Old files stay for now: {why}", why=result.getErrorMessage())

    async def _remove_old(self) -> None:
        before = self.removed
        while not self._closed:
            # None above the lowest that is in memory: it goes into the archive later.
            below = min(self._book.jobs, default=None)
            jobs = await self._history.oldest(self.removed, below)
            for job in jobs:
                if self._closed or not self._is_old(job):
                    jobs = []
                    break
                await self._remove_files(job)
                self.removed = job.number
            if not jobs:
                break
        if self.removed > before and not self._closed:
            log.info("Logs and outputs of jobs up to {number} are removed.", number=self.removed)
            await self._journal.write(Put(*REMOVED, {"removed": self.removed}))

    def _is_old(self, job: Job) -> bool:
        assert self._after is not None
        return self._clock.seconds() - (job.finished_at or 0.0) >= self._after

    async def _remove_files(self, job: Job) -> None:
        await self._logs.delete(job.number)
        for machine in job.machines:
            # Another job may have made the very same.
            if machine.outputs and machine.outputs not in self._needed():
                used = self._blobs.used(machine.outputs)
                if used is not None and self._clock.seconds() - used >= (self._after or 0.0):
                    await self._blobs.delete(machine.outputs)
