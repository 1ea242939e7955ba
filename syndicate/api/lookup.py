"""Jobs by the names that people give them, and as they are shown."""

from __future__ import annotations

from typing import Any

import attrs

from syndicate.domain.errors import NotFound
from syndicate.domain.job import Job, JobState
from syndicate.domain.scheduler import Census
from syndicate.manager.service import Manager
from syndicate.manager.views import job_view


@attrs.frozen
class Lookup:
    """Finds and shows jobs."""

    _manager: Manager

    def job(self, name: str) -> Job:
        """The job of a number, or the latest.

        :raises NotFound: there is none such.
        """
        book = self._manager.book
        if name == "latest":
            if not book.jobs:
                raise NotFound("There is no job yet.")
            return book.jobs[max(book.jobs)]
        if not name.isdecimal() or len(name) > 15:
            raise NotFound(f"There is no job {name!r}; a job is named by its number or 'latest'.")
        return book.get(int(name))

    def view(self, job: Job) -> dict[str, Any]:
        """A job, with why it waits if it does."""
        return self.views([job])[0]

    def views(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """Jobs, counted against the same state of the cluster."""
        if not any(job.state is JobState.QUEUED for job in jobs):
            return [job_view(job, None, job.reason) for job in jobs]
        snapshot = self._manager.snapshot()
        census = Census(snapshot)
        places = {job.number: place for place, job in enumerate(snapshot.queue, 1)}
        views = []
        for job in jobs:
            place = places.get(job.number)
            reason = job.reason if place is None else census.explain(job, place - 1)
            views.append(job_view(job, place, reason))
        return views
