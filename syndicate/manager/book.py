"""The jobs, in memory and in the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from syndicate.domain.errors import Conflict, NotFound
from syndicate.domain.events import FaultChanged, JobEvent, Remark, Submitted
from syndicate.domain.job import Job, JobSpec, JobState
from syndicate.domain.lifecycle import Order, fold, unfold
from syndicate.manager.feed import Feed
from syndicate.manager.journal import Journal
from syndicate.manager.keys import fault_key, job_key
from syndicate.plain import from_plain, to_plain
from syndicate.plain_events import event_to_plain
from syndicate.store.interface import NEXT_JOB, Append, Operation, Put, Snapshot


@attrs.frozen
class Submission:
    """Which job a submission token made, and of what, so that the same is not queued twice."""

    job: int
    sha256: str
    name: str

    def check(self, token: str, spec: JobSpec) -> None:
        """Check that a token that has come again has come with the same.

        :raises Conflict: it made a job of something else.
        """
        if (self.sha256, self.name) != (spec.sha256, spec.name):
            raise Conflict(
                f"The submission token {token!r} has made job {self.job} of another source or "
                "name; make a new token for a new job."
            )


@attrs.define(eq=False)
class Book:
    """The jobs by number, those that wait, and the submission tokens. Jobs that are finished leave
    it after a while, with their tokens; see `syndicate.manager.history`.
    """

    _clock: IReactorTime
    _journal: Journal
    feed: Feed
    jobs: dict[int, Job] = attrs.field(init=False, factory=dict)
    #: Numbers of queued jobs, in order.
    _queued: dict[int, None] = attrs.field(init=False, factory=dict)
    #: Numbers of finished jobs, in the order in which they finished.
    finished: dict[int, None] = attrs.field(init=False, factory=dict)
    _submissions: dict[tuple[str, str], Submission] = attrs.field(init=False, factory=dict)
    #: Users and tokens by the number of the job that they made.
    _tokens: dict[int, tuple[str, str]] = attrs.field(init=False, factory=dict)
    #: Submissions on their way into the store, and who waits for the same.
    _coming: dict[tuple[str, str], list[Deferred[None]]] = attrs.field(init=False, factory=dict)
    _next: int = attrs.field(init=False, default=1)
    #: Jobs as they were stored last, where more has happened that is not stored yet.
    _stored: dict[int, Job] = attrs.field(init=False, factory=dict)

    def load(self, snapshot: Snapshot) -> None:
        """Take over what the store holds."""
        for (kind, key), value in snapshot.records.items():
            if kind == "job":
                job = from_plain(value, Job)
                self.jobs[job.number] = job
            elif kind == "submission":
                user, _, token = key.rpartition("/")
                self._know(user, token, from_plain(value, Submission))
            elif (kind, key) == NEXT_JOB:
                self._next = value["next"]
        self.jobs = dict(sorted(self.jobs.items()))
        self._next = max(self._next, max(self.jobs, default=0) + 1)
        for job in sorted(self.jobs.values(), key=lambda job: job.finished_at or 0.0):
            self._sort(job)

    def pass_over(self, number: int) -> None:
        """Give no new job this number or one below."""
        self._next = max(self._next, number + 1)

    def _know(self, user: str, token: str, submission: Submission) -> None:
        self._submissions[user, token] = submission
        self._tokens[submission.job] = user, token

    def submission_of(self, number: int) -> tuple[str, Submission] | None:
        """Key and value of the record of the token that made a job, if there was one."""
        made_by = self._tokens.get(number)
        return made_by and ("/".join(made_by), self._submissions[made_by])

    def forget(self, number: int) -> None:
        """Hold a job no longer: it is in the archive."""
        self.jobs.pop(number, None)
        self._stored.pop(number, None)
        self.finished.pop(number, None)
        made_by = self._tokens.pop(number, None)
        if made_by is not None:
            del self._submissions[made_by]

    def get(self, number: int) -> Job:
        """The job of that number.

        :raises NotFound: there is none.
        :raises Conflict: it is in the archive, where nothing can be changed.
        """
        job = self.jobs.get(number)
        if job is not None:
            return job
        if 0 < number < self._next:
            raise Conflict(f"Job {number} was finished long ago; nothing of it can be changed.")
        raise NotFound(f"There is no job {number}.")

    def runs(self, job: Job) -> bool:
        """Whether the attempt that a job was at is running now."""
        now = self.jobs.get(job.number)
        return now is not None and now.attempt == job.attempt and now.state is JobState.RUNNING

    def queued_by(self, user: str) -> int:
        """How many jobs of a user wait, those that are being written included."""
        waiting = sum(self.jobs[number].user == user for number in self._queued)
        return waiting + sum(of == user for of, _ in self._coming)

    def queue(self) -> tuple[Job, ...]:
        """The jobs that wait, in the order of their numbers."""
        return tuple(self.jobs[number] for number in sorted(self._queued))

    @property
    def waiting(self) -> bool:
        """Whether any job waits."""
        return bool(self._queued)

    def submitted(self, user: str, token: str, spec: JobSpec) -> Job | None:
        """The job that this submission token has made before, if it has.

        :raises Conflict: it made one of something else.
        """
        found = self._submissions.get((user, token))
        if found is None:
            return None
        found.check(token, spec)
        return self.jobs.get(found.job)

    async def submit(self, user: str, token: str, spec: JobSpec) -> tuple[Job, bool]:
        """Queue a job; it is there once it is durable.

        :returns: the job, and whether it is new: the same token may come twice at once.
        :raises Unavailable: the store cannot take it; nothing is queued.
        """
        key = user, token
        while key in self._coming:
            other: Deferred[None] = Deferred()
            self._coming[key].append(other)
            await other
        known = self.submitted(user, token, spec)
        if known is not None:
            return known, False
        self._coming[key] = []
        try:
            return await self._submit(user, token, spec), True
        finally:
            for waiting in self._coming.pop(key):
                waiting.callback(None)

    async def _submit(self, user: str, token: str, spec: JobSpec) -> Job:
        number, self._next = self._next, self._next + 1
        event, now = Submitted(number, user, spec), self._clock.seconds()
        job = fold(None, event, now)
        submission = Submission(number, spec.sha256, spec.name)
        await self._journal.write(
            *self._operations(job, event, now),
            Put("submission", f"{user}/{token}", to_plain(submission)),
            optional=True,
        )
        self.jobs[number] = job
        self._know(user, token, submission)
        self._sort(job)
        self.feed.publish(number)
        return job

    def happen(self, number: int, event: JobEvent) -> tuple[Job, tuple[Order, ...], Deferred[None]]:
        """Fold an event, and all that follows from it, into its job: one change of the store.

        :returns: the job after it, the orders that follow, and what fires once it is durable.
        :raises IllegalEvent: the event does not fit; nothing was changed.
        """
        now = self._clock.seconds()
        before = self.jobs[number]
        steps, orders = unfold(before, event, now)
        job = self.jobs[number] = steps[-1].job
        self._sort(job)
        written = self._journal.write(
            *(o for step in steps for o in self._operations(step.job, step.event, now))
        )
        self._once_written(before, job, written)
        return job, orders, written

    def _once_written(self, before: Job, job: Job, written: Deferred[None]) -> None:
        """Show a job as it is now when that is stored, and not before."""
        number = job.number

        def show(result: None) -> None:
            if self.jobs.get(number) is job:
                self._stored.pop(number, None)
            elif number in self._stored:
                self._stored[number] = job
            self.feed.publish(number)

        self._stored.setdefault(number, before)
        written.addCallback(show)

    def stored(self, number: int) -> Job | None:
        """The job as it is stored, which is what people may be told: what is not stored yet may
        not have happened for the next manager.
        """
        return self._stored.get(number) or self.jobs.get(number)

    def shown(self) -> Iterator[Job]:
        """All jobs that are in memory, as they are `stored`."""
        return (self._stored.get(number, job) for number, job in self.jobs.items())

    def durable(self) -> Deferred[None]:
        """Fires once all that has happened so far is durable."""
        return self._journal.settled()

    def remark(self, number: int, event: Remark) -> Deferred[None]:
        """An event that only tells something; fires once it is durable. A fault is stored as a
        record of its own too, so that the ledger can be loaded.
        """
        now = self._clock.seconds()
        before = self.jobs[number]
        job = self.jobs[number] = fold(before, event, now)
        operations = self._operations(job, event, now)
        if isinstance(event, FaultChanged):
            value = {"job": number, "fault": to_plain(event.fault)}
            key = fault_key(number, event.fault.number)
            operations = (*operations, Put("fault", key, value))
        written = self._journal.write(*operations)
        self._once_written(before, job, written)
        return written

    @staticmethod
    def _operations(job: Job, event: JobEvent, at: float) -> tuple[Operation, ...]:
        stored: Any = event_to_plain(event, at, job.attempt)
        return (
            Put("job", job_key(job.number), to_plain(job)),
            Append(job.number, job.events, stored),
        )

    def _sort(self, job: Job) -> None:
        if job.state is JobState.QUEUED:
            self._queued[job.number] = None
        else:
            self._queued.pop(job.number, None)
        if job.state is JobState.FINISHED:
            self.finished.setdefault(job.number)
