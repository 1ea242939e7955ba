"""Which jobs are let into the queue, and with what."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from syndicate.domain.errors import TooMany, WouldWait
from syndicate.domain.job import Job, JobSpec
from syndicate.manager.book import Book
from syndicate.manager.history import History
from syndicate.manager.planner import Planner
from syndicate.manager.site import Site, check, with_clients
from syndicate.manager.source import CLIENT_TARGETS, SourceGate
from syndicate.manager.uploads import Uploads
from syndicate.manager.user import User


@attrs.define(eq=False)
class Admission:
    """Looks at what is submitted.

    :param site: what the operator has decided, as it is now.
    """

    _site: Callable[[], Site]
    _book: Book
    _history: History
    _uploads: Uploads
    _gate: SourceGate
    _planner: Planner

    async def submit(
        self, user: User, token: str, spec: JobSpec, *, no_wait: bool = False
    ) -> tuple[Job, bool]:
        """Queue a job.

        :param token: made by the client for this submission; the same one again is answered
            with the same job.
        :param no_wait: refuse the job if it cannot start at once.
        :returns: the job, and whether it is new.
        :raises InvalidJob: it asks for what cannot be.
        :raises InvalidSource: its source is not fit.
        :raises WouldWait: see ``no_wait``.
        :raises TooMany: the user has as many jobs waiting as one may.
        :raises Unavailable: the store takes nothing now.
        """
        known = await self._history.submitted(user.name, token, spec)
        if known is not None:
            return known, False
        if (refusal := self._uploads.refusal()) is not None:
            raise refusal
        spec = self.completed(spec)
        check(self._site(), spec)
        await self._gate.check(spec.sha256, spec.size)
        if spec.clients:
            await self._gate.check(spec.client_sha256, spec.client_size, CLIENT_TARGETS)
        known = self._book.submitted(user.name, token, spec)
        if known is not None:
            return known, False
        if no_wait and (reason := self._planner.waits(spec)):
            raise WouldWait(f"{reason} Submit it without --no-wait to queue it.")
        if self._book.queued_by(user.name) >= (most := self._site().queued_per_user):
            raise TooMany(
                f"{user.name} has {most} jobs waiting, and no user may have more here. Submit "
                "again when some of them have started, or cancel some."
            )
        job, new = await self._book.submit(user.name, token, spec)
        self._planner.soon()
        return job, new

    def completed(self, spec: JobSpec) -> JobSpec:
        """The job with the clients it would get here; see `syndicate.manager.site.with_clients`."""
        return with_clients(self._site(), spec)
