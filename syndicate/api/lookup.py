"""Jobs by the names that people give them, and as they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from syndicate.domain.errors import NotFound
from syndicate.domain.job import Job, JobState, Machine, Outcome
from syndicate.domain.scheduler import Census
from syndicate.manager.service import Manager
from syndicate.manager.views import job_view

#: Jobs of the archive that are looked through at once.
PAGE = 500

#: States in which what machines print is coming in.
_LOGGING = frozenset({JobState.RUNNING, JobState.FINISHING})


@attrs.frozen
class Lookup:
    """Finds and shows jobs."""

    _manager: Manager

    async def job(self, name: str) -> Job:
        """The job of a number, or the latest, in the archive or not; or the one of a name.

        :raises NotFound: there is none such, or more than one.
        """
        if name == "latest":
            last = await self.listed(frozenset(JobState), None, None, 1)
            if not last:
                raise NotFound("There is no job yet.")
            return last[0]
        if not name.isdecimal() or len(name) > 15:
            return self._named(name)
        return await self._manager.history.job(int(name))

    def _named(self, name: str) -> Job:
        """The only job that is called so, of those that are not in the archive."""
        named = [job for job in self._manager.book.jobs.values() if job.spec.name == name]
        if not named:
            raise NotFound(f"There is no job {name!r}; give its number, or 'latest'.")
        if len(named) > 1:
            numbers = ", ".join(str(job.number) for job in named[-5:])
            raise NotFound(
                f"{len(named)} jobs are called {name!r}; give a number, such as the last of them:"
                f" {numbers}."
            )
        return named[0]

    async def listed(
        self,
        states: frozenset[JobState],
        user: str | None,
        below: int | None,
        limit: int,
        outcomes: frozenset[Outcome] = frozenset(),
    ) -> list[Job]:
        """The newest jobs, in the order of their numbers; those in the archive as well.

        :param below: only lower numbers, for another page.
        :param outcomes: finished jobs that ended so, beside those in the states.
        """
        book = self._manager.book
        held = [
            job
            for number in book.jobs
            if (job := book.stored(number))
            and (job.state in states or job.outcome in outcomes)
            and (user is None or job.user == user)
            and (below is None or number < below)
        ]
        found = {job.number: job for job in held}
        if JobState.FINISHED in states and limit > 0:
            archived = await self._manager.history.page(below, limit, user)
            # One that went there while it was looked for is found in both.
            found |= {job.number: job for job in archived}
        elif outcomes and limit > 0:
            archived = await self._archived(outcomes, user, below, limit)
            found |= {job.number: job for job in archived}
        return [job for _, job in sorted(found.items())][-limit:] if limit > 0 else []

    async def _archived(
        self, outcomes: frozenset[Outcome], user: str | None, below: int | None, limit: int
    ) -> list[Job]:
        """The newest jobs of the archive that ended so."""
        found: list[Job] = []
        while len(found) < limit and (page := await self._manager.history.page(below, PAGE, user)):
            found += [job for job in page if job.outcome in outcomes]
            below = min(job.number for job in page)
        return found

    def view(self, job: Job) -> dict[str, Any]:
        """A job, with why it waits if it does."""
        return self.views([job])[0]

    def views(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """Jobs as they are stored, counted against the same state of the cluster."""
        jobs = [self._manager.book.stored(job.number) or job for job in jobs]
        if not any(job.state is JobState.QUEUED for job in jobs):
            return [job_view(job, None, job.reason, self._logged(job)) for job in jobs]
        snapshot = self._manager.planner.snapshot()
        census = Census(snapshot)
        places = {job.number: place for place, job in enumerate(snapshot.queue, 1)}
        views = []
        for job in jobs:
            place = places.get(job.number)
            reason = job.reason if place is None else census.explain(job, place - 1)
            views.append(job_view(job, place, reason, self._logged(job)))
        return views

    def _logged(self, job: Job) -> Callable[[Machine], int]:
        """How many bytes of the logs of a job's machines have come."""
        if job.state not in _LOGGING:
            return lambda machine: 0
        logs = self._manager.logs
        return lambda machine: logs.length(job.number, job.attempt, machine.name)
