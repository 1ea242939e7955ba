"""Jobs that are over: out of memory and into the store's archive, by age and count.

What is loaded at the start is bounded so, whatever the number of jobs there have ever been. A job
in the archive cannot change any more; it is read when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import NotFound, SyndicateError
from syndicate.domain.fault import Fault, FaultState
from syndicate.domain.job import Job, JobSpec
from syndicate.manager.book import Book, Submission
from syndicate.manager.desk import FaultDesk
from syndicate.manager.journal import Journal
from syndicate.manager.keys import fault_key, job_key, job_of
from syndicate.manager.ledger import Ledger
from syndicate.plain import from_plain, to_plain
from syndicate.store.interface import Archive, Delete, IStore, Operation, Page, Put

log = Logger()

#: Seconds between two looks at what is old.
LOOK = 30.0
#: Seconds between two looks at which submission tokens have had their time.
EXPIRE = 3600.0
#: Seconds that a finished job stays in memory whatever the count, for answers on their way.
SETTLED = 20.0
#: Seconds for which a submission token is good at the least.
TOKENS = 7 * 24 * 3600.0
#: Most jobs of one batch.
PORTION = 200


@attrs.frozen
class Keep:
    """How much of the past is held in memory: both bounds hold."""

    #: Finished jobs.
    jobs: int = 1000
    #: Seconds since they finished.
    age: float = 7 * 24 * 3600.0


@attrs.define(eq=False)
class History:
    """Puts jobs into the archive, and reads them there.

    :param held: numbers of jobs of which a volunteer still holds something.
    """

    _clock: IReactorTime
    _store: IStore
    _journal: Journal
    _book: Book
    _ledger: Ledger
    _desk: FaultDesk
    _held: Callable[[], Collection[int]]
    _keep: Keep
    #: How many jobs are in the archive.
    archived: int = attrs.field(init=False, default=0)
    _looking: IDelayedCall | None = attrs.field(init=False, default=None)
    _expiring: IDelayedCall | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)

    async def open(self) -> None:
        """Find out what is in the archive, and begin to look after the old."""
        self.archived = await self._store.archive_size("job")
        for key, _ in await self._store.archive("job", Page(limit=1)):
            self._book.pass_over(job_of(key))
        self._look()
        self._expire()

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        for timer in (self._looking, self._expiring):
            if timer is not None and timer.active():
                timer.cancel()

    # Into the archive.

    def _look(self) -> None:
        self._looking = None
        if self._closed:
            return
        over = self._over()
        if not over:
            self._looking = self._clock.callLater(LOOK, self._look)
            return
        written = self._set_aside(over)
        # One portion after the other, and nothing of the next in memory before that.
        written.addCallback(lambda _: self._look())

    def _over(self) -> list[Job]:
        """The jobs whose time in memory is over; no more than one batch takes."""
        now, held, book = self._clock.seconds(), self._held(), self._book
        too_many = len(book.finished) - self._keep.jobs
        found: list[Job] = []
        for number in book.finished:
            job = book.jobs[number]
            age = now - (job.finished_at or 0.0)
            if age < SETTLED or (len(found) >= too_many and age < self._keep.age):
                break
            if number not in held and not self._pending(number):
                found.append(job)
                if len(found) == PORTION:
                    break
        return found

    def _pending(self, number: int) -> bool:
        return any(fault.state is FaultState.REQUESTED for fault in self._ledger.of(number))

    def _set_aside(self, jobs: list[Job]) -> Deferred[None]:
        operations: list[Operation] = []
        for job in jobs:
            faults = self._ledger.of(job.number)
            value = {"job": to_plain(job), "faults": [to_plain(fault) for fault in faults]}
            operations.append(Archive("job", job_key(job.number), value, job.user))
            operations += [Delete("fault", fault_key(job.number, f.number)) for f in faults]
            submission = self._book.submission_of(job.number)
            if submission is not None:
                until = job.submitted_at + TOKENS
                token, made = submission
                operations.append(Archive("submission", token, to_plain(made), job.user, until))
        written = self._journal.write(*operations)
        return written.addCallback(lambda _: self._forget(jobs))

    def _forget(self, jobs: list[Job]) -> None:
        for job in jobs:
            if self._book.jobs.get(job.number) is not job:
                self._put_back(job.number)
                continue
            self._book.forget(job.number)
            self._ledger.forget(job.number)
            self._desk.forget(job.number)
            self.archived += 1
        log.info("{count} finished jobs went into the archive.", count=len(jobs))

    def _put_back(self, number: int) -> None:
        """Something was told of a job while it was on its way: the job's record is back already,
        so what goes with it has to be as well.
        """
        operations: list[Operation] = []
        for fault in self._ledger.of(number):
            value = {"job": number, "fault": to_plain(fault)}
            operations.append(Put("fault", fault_key(number, fault.number), value))
        submission = self._book.submission_of(number)
        if submission is not None:
            operations.append(Put("submission", submission[0], to_plain(submission[1])))
        self._journal.write(*operations)

    def _expire(self) -> None:
        self._expiring = None
        if self._closed:
            return
        self._expiring = self._clock.callLater(EXPIRE, self._expire)
        expiring = self._store.expire(self._clock.seconds())
        expiring.addErrback(_tell)

    # Out of it.

    async def job(self, number: int) -> Job:
        """A job, in memory or in the archive.

        :raises NotFound: there is none.
        """
        return (await self.job_and_faults(number))[0]

    async def job_and_faults(self, number: int) -> tuple[Job, list[Fault]]:
        """A job, in memory or in the archive, and all of its faults.

        :raises NotFound: there is none.
        """
        if number not in self._book.jobs and self.archived:
            stored = await self._store.archived("job", job_key(number))
            if stored is not None:
                return _read(stored)
        job = self._book.stored(number)
        if job is None:
            raise NotFound(f"There is no job {number}.")
        return job, self._ledger.of(number)

    async def page(self, below: int | None, limit: int, user: str | None) -> list[Job]:
        """The newest jobs in the archive, the newest first.

        :param below: only lower numbers.
        """
        found: list[Job] = []
        while self.archived and len(found) < limit:
            # In portions, so that others have their turn in between.
            portion = min(PORTION, limit - len(found))
            page = Page(below=_key(below), limit=portion, label=user)
            stored = await self._store.archive("job", page)
            found += [_read(value)[0] for _, value in stored]
            if len(stored) < portion:
                break
            below = found[-1].number
        return found

    async def oldest(self, after: int, below: int | None) -> list[Job]:
        """Some of the oldest jobs in the archive, the oldest first.

        :param after: only higher numbers.
        :param below: only lower numbers.
        """
        page = Page(job_key(after), _key(below), PORTION, newest=False)
        stored = await self._store.archive("job", page)
        return [_read(value)[0] for _, value in stored]

    async def submitted(self, user: str, token: str, spec: JobSpec) -> Job | None:
        """The job that this submission token has made before, if it has.

        :raises Conflict: it made one of something else.
        """
        known = self._book.submitted(user, token, spec)
        if known is not None or not self.archived:
            return known
        stored = await self._store.archived("submission", f"{user}/{token}")
        if stored is None:
            return None
        made = from_plain(stored, Submission)
        made.check(token, spec)
        return await self.job(made.job)


def _key(number: int | None) -> str | None:
    return None if number is None else job_key(number)


def _read(stored: Any) -> tuple[Job, list[Fault]]:
    return (
        from_plain(stored["job"], Job),
        [from_plain(fault, Fault) for fault in stored["faults"]],
    )


def _tell(failure: Any) -> None:
    failure.trap(SyndicateError)
    log.warn("Old submission tokens stay for now: {why}", why=failure.getErrorMessage())
