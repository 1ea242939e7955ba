"""The JSON API: thin routes to the manager's service object. doc/api.rst describes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from syndicate import __version__
from syndicate.api.access import Access
from syndicate.api.auditing import Auditing
from syndicate.api.exchange import (
    answer_json,
    body_of,
    flag_of,
    no_route,
    number_of,
    refuse,
    states_of,
    text_of,
)
from syndicate.api.faults import Faults
from syndicate.api.files import JobFiles
from syndicate.api.following import Following
from syndicate.api.lookup import Lookup
from syndicate.api.transfers import Transfers
from syndicate.api.trust import TrustRoutes
from syndicate.api.volunteers import Volunteers
from syndicate.domain.errors import (
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    SyndicateError,
    Unauthorized,
)
from syndicate.domain.job import JobState
from syndicate.domain.spec import read_spec
from syndicate.manager.service import Manager
from syndicate.manager.trust import Joiner
from syndicate.manager.user import User
from syndicate.manager.views import timestamp
from syndicate.once import Once
from syndicate.wire.interface import PROTOCOL

log = Logger()

#: Most jobs of one answer.
MOST_JOBS = 10_000

Handler = Callable[..., Awaitable[Any]]


@attrs.define(eq=False)
class Api:
    """The routes; `resource` serves them."""

    _clock: IReactorTime
    _manager: Manager
    _access: Access
    _files: JobFiles = attrs.field(init=False)
    _lookup: Lookup = attrs.field(init=False)
    _following: Following = attrs.field(init=False)
    auditing: Auditing = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._files = JobFiles(self._manager.logs, self._manager.blobs)
        self._lookup = Lookup(self._manager)
        self.auditing = Auditing(
            self._clock, self._manager.audit, self._manager.refusals.record, self._access.actor
        )
        self._following = Following(self._clock, self._manager, self._lookup, self._files)

    # Answers that come at once.

    async def version(self, request: Request) -> Any:
        """``GET /v1/version``: the only route without a token."""
        cluster = self._manager.site.cluster
        return {"version": __version__, "protocol": PROTOCOL, "cluster": cluster}

    async def status(self, request: Request, user: User) -> Any:
        """``GET /v1/status``."""
        return {
            "version": __version__,
            "cluster": self._manager.site.cluster,
            "started_at": timestamp(self._manager.started_at),
            "jobs": self._job_counts(),
            "volunteers": _counts(each.state.value for each in self._manager.roll.all()),
            "store": await self._manager.health(),
            "you": {"user": user.name, "role": user.role},
        }

    def _job_counts(self) -> dict[str, int]:
        counts = _counts(job.state.value for job in self._manager.book.shown())
        if archived := self._manager.history.archived:
            finished = JobState.FINISHED.value
            counts[finished] = counts.get(finished, 0) + archived
        return counts

    async def submit(self, request: Request, user: User) -> Any:
        """``POST /v1/jobs``."""
        body = body_of(request)
        unknown = set(body) - {"submission", "no_wait", "spec"}
        if unknown:
            raise Invalid(f"A submission has no key {min(unknown)!r}.")
        token, no_wait = body.get("submission"), body.get("no_wait", False)
        if not isinstance(token, str) or not 8 <= len(token) <= 100 or "/" in token:
            raise Invalid("A submission needs a token of its own making, such as a UUID.")
        if not isinstance(no_wait, bool):
            raise Invalid("no_wait is true or false.")
        spec = read_spec(body.get("spec"), self._manager.site.usual)
        if flag_of(request, b"dry_run"):
            spec = self._manager.admission.completed(spec)
            matching = self._manager.planner.matching(spec)
            return {
                "matching": matching,
                "enough": len(matching) >= spec.volunteers,
                "reason": self._manager.planner.waits(spec),
            }
        job, new = await self._manager.admission.submit(user, token, spec, no_wait=no_wait)
        request.setResponseCode(201 if new else 200)
        return {"job": self._lookup.view(job)}

    async def jobs(self, request: Request, user: User) -> Any:
        """``GET /v1/jobs``."""
        states, outcomes = states_of(request)
        listed = await self._lookup.listed(
            states,
            text_of(request, b"user"),
            int(number_of(request, b"below", 0.0)) or None,
            min(MOST_JOBS, int(number_of(request, b"limit", MOST_JOBS))),
            outcomes,
        )
        return {"jobs": self._lookup.views(listed)}

    async def job(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>``."""
        return {"job": self._lookup.view(await self._lookup.job(name))}

    async def cancel(self, request: Request, user: User, name: str) -> Any:
        """``POST /v1/jobs/<n>/cancel``."""
        return {
            "job": self._lookup.view(
                await self._manager.cancel(user, (await self._lookup.job(name)).number)
            )
        }

    async def console(self, request: Request, user: User) -> Any:
        """``GET /v1/console``."""
        found = self._manager.site.console
        if not found:
            raise NotFound("This manager has no console; see doc/console.rst on how to get one.")
        port, key, fingerprint = found
        return {"port": port, "host_key": key, "fingerprint": fingerprint}

    async def files(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/files``."""
        job = await self._lookup.job(name)
        events = await self._following.all_events(job.number)
        return {"files": self._files.listing(job.number, events)}

    def doubt_store(self) -> None:
        """See `Manager.doubt_store`."""
        self._manager.doubt_store()

    # The doors.

    def resource(self) -> Any:
        """The tree for a `twisted.web.server.Site`."""
        app = Klein()
        transfers = Transfers(self._manager)
        volunteers = Volunteers(self._manager)
        trust = TrustRoutes(self._clock, self._manager)
        faults = Faults(self._clock, self._manager, self._lookup)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/v1/status", self.status),
            ("POST", "/v1/jobs", self.submit),
            ("GET", "/v1/jobs", self.jobs),
            ("GET", "/v1/jobs/<name>", self.job),
            ("POST", "/v1/jobs/<name>/cancel", self.cancel),
            ("GET", "/v1/jobs/<name>/wait", self._following.wait),
            ("GET", "/v1/jobs/<name>/events", self._following.events),
            ("GET", "/v1/jobs/<name>/logs", self._following.logs),
            ("GET", "/v1/jobs/<name>/files", self.files),
            ("GET", "/v1/jobs/<name>/files/<path:path>", self._following.file),
            ("GET", "/v1/jobs/<name>/faults", faults.faults),
            ("GET", "/v1/jobs/<name>/faults/<which>", faults.show),
            ("POST", "/v1/jobs/<name>/faults/<kind>", faults.inflict),
            ("POST", "/v1/jobs/<name>/handles/<machine>/revoke", faults.revoke),
            ("GET", "/v1/jobs/<name>/samples", faults.samples),
            ("GET", "/v1/volunteers", volunteers.volunteers),
            ("POST", "/v1/volunteers/<volunteer>/drain", volunteers.drain),
            ("POST", "/v1/volunteers/<volunteer>/quarantine", volunteers.quarantine),
            ("POST", "/v1/volunteers/<volunteer>/resume", volunteers.resume),
            ("GET", "/v1/tokens", trust.tokens),
            ("POST", "/v1/tokens", trust.new_token),
            ("POST", "/v1/tokens/<token>/revoke", trust.revoke_token),
            ("GET", "/v1/certificates", trust.certificates),
            ("POST", "/v1/certificates/<volunteer>/revoke", trust.revoke_certificate),
            ("GET", "/v1/audit", self.auditing.entries),
            ("GET", "/v1/console", self.console),
        ]
        for method, path, handler in routes:
            self._route(app, method, path, handler, self._access.user)
        blob, access = "/v1/blobs/<sha256>", self._access
        self._route(app, "GET", blob, transfers.get_blob, access.reader)
        self._route(app, "HEAD", blob, transfers.get_blob, access.reader)
        # Who may bring it was found out before its body came.
        self._route(app, "PUT", blob, transfers.put_blob, access.bringer)
        self._route(app, "POST", "/v1/certificates", trust.enrol, self._access.joiner)
        log_path = "/v1/logs/<number>/<attempt>/<machine>"
        self._route(app, "PUT", log_path, transfers.append_log, self._access.volunteer)
        self._route(app, "GET", "/v1/version", self.version, None)
        # Klein's types want a method here; it calls what it is given just so.
        app.handle_errors(HTTPException)(no_route)  # type: ignore[arg-type]
        return app.resource()

    def _route(
        self,
        app: Klein,
        method: str,
        path: str,
        handler: Handler,
        who: Callable[[Request], User | Joiner | str] | None,
    ) -> None:
        # Klein tells its routes apart by the function's name.
        async def answer(request: Request, **values: str) -> bytes:
            working = respond(request, values)
            # Klein breaks off what it waits for when the client goes away. What was asked to be
            # changed is changed all the same, to its end: half of it would be worse than either.
            return await (Once(working).follow() if method == "POST" else working)

        async def respond(request: Request, values: dict[str, str]) -> bytes:
            try:
                if who is None:
                    found = await handler(request, **values)
                else:
                    user = self._let_in(request, who)
                    found = await self.auditing.watch(request, user, handler, values)
            except SyndicateError as error:
                return refuse(request, error)
            except CancelledError:
                raise  # whoever asked has gone away, as Klein knows
            except Exception:  # noqa: BLE001  (the edge of the API: a defect, logged whole)
                log.failure("a request failed: {path}", path=request.path)
                return refuse(request, Internal("The manager failed; its log tells more."))
            return found if isinstance(found, bytes) else answer_json(request, found)

        answer.__name__ = f"{method}_{path}"
        app.route(path, methods=[method])(answer)

    def _let_in(
        self, request: Request, who: Callable[[Request], User | Joiner | str]
    ) -> User | Joiner | str:
        try:
            return who(request)
        except (Unauthorized, Forbidden) as error:
            self.auditing.refused(request, error)
            raise


def _counts(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts
