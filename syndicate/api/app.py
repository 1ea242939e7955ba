"""The JSON API: thin routes to the manager's service object. doc/api.rst describes it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from syndicate import __version__
from syndicate.api.access import Access
from syndicate.api.files import JobFiles
from syndicate.api.logs import STREAMS, MergedLog, Wanted
from syndicate.api.stream import Stream
from syndicate.api.views import event_view, job_view, timestamp, volunteer_view
from syndicate.blobs.serve import Gathered, Upload, send_blob
from syndicate.domain.errors import (
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    SyndicateError,
)
from syndicate.domain.job import Job, JobState, canonical_machine
from syndicate.domain.scheduler import Census
from syndicate.domain.spec import read_spec
from syndicate.manager.service import Manager, User
from syndicate.wire.interface import PROTOCOL

log = Logger()

#: Longest body of a request that is not a blob or a log, in bytes.
BODY_CAP = 1 << 20
#: Longest wait of one long poll, in seconds, and most jobs of one answer.
LONGEST_WAIT = 60.0
MOST_JOBS = 10_000

Handler = Callable[..., Awaitable[Any]]


@attrs.define(eq=False)
class Api:
    """The routes; `resource` serves them."""

    _clock: IReactorTime
    _manager: Manager
    _access: Access
    _files: JobFiles = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._files = JobFiles(self._manager.logs, self._manager.blobs)

    # Answers that come at once.

    async def version(self, request: Request) -> Any:
        """``GET /v1/version``: the only route without a token."""
        cluster = self._manager.site.cluster
        return {"version": __version__, "protocol": PROTOCOL, "cluster": cluster}

    async def status(self, request: Request, user: User) -> Any:
        """``GET /v1/status``."""
        jobs = self._manager.book.jobs.values()
        members = self._manager.fleet.members.values()
        return {
            "version": __version__,
            "cluster": self._manager.site.cluster,
            "started_at": timestamp(self._manager.started_at),
            "jobs": _counts(job.state.value for job in jobs),
            "volunteers": _counts(member.state.value for member in members),
            "store": await self._manager.health(),
            "you": {"user": user.name, "role": user.role},
        }

    async def submit(self, request: Request, user: User) -> Any:
        """``POST /v1/jobs``."""
        body = _body(request)
        unknown = set(body) - {"submission", "no_wait", "spec"}
        if unknown:
            raise Invalid(f"A submission has no key {min(unknown)!r}.")
        token, no_wait = body.get("submission"), body.get("no_wait", False)
        if not isinstance(token, str) or not 8 <= len(token) <= 100 or "/" in token:
            raise Invalid("A submission needs a token of its own making, such as a UUID.")
        if not isinstance(no_wait, bool):
            raise Invalid("no_wait is true or false.")
        spec = read_spec(body.get("spec"))
        if _flag(request, b"dry_run"):
            matching = self._manager.matching(spec)
            return {
                "matching": matching,
                "enough": len(matching) >= spec.machines,
                "reason": self._manager.waits(spec),
            }
        job, new = await self._manager.submit(user, token, spec, no_wait=no_wait)
        request.setResponseCode(201 if new else 200)
        return {"job": self._view(job)}

    async def jobs(self, request: Request, user: User) -> Any:
        """``GET /v1/jobs``."""
        jobs = self._manager.book.jobs.values()
        if states := _text(request, b"state"):
            known = {state.value for state in JobState}
            wanted = set(states.split(","))
            if not wanted <= known:
                odd = ", ".join(sorted(wanted - known))
                raise Invalid(f"No job can be {odd}; states are {', '.join(sorted(known))}.")
            chosen = [job for job in jobs if job.state.value in wanted]
        elif _flag(request, b"all"):
            chosen = list(jobs)
        else:
            chosen = [job for job in jobs if job.state is not JobState.FINISHED]
        if of := _text(request, b"user"):
            chosen = [job for job in chosen if job.user == of]
        limit = _number(request, b"limit", MOST_JOBS)
        return {"jobs": self._views(chosen[-int(limit) :] if limit >= 1 else [])}

    async def job(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>``."""
        return {"job": self._view(self._job(name))}

    async def cancel(self, request: Request, user: User, name: str) -> Any:
        """``POST /v1/jobs/<n>/cancel``."""
        return {"job": self._view(await self._manager.cancel(user, self._job(name).number))}

    async def volunteers(self, request: Request, user: User) -> Any:
        """``GET /v1/volunteers``."""
        members = sorted(self._manager.fleet.members.values(), key=lambda member: member.name)
        return {"volunteers": [volunteer_view(member.view()) for member in members]}

    async def new_token(self, request: Request, user: User) -> Any:
        """``POST /v1/tokens``."""
        if not user.staff:
            raise Forbidden("Only staff and operators may make tokens.")
        body = _body(request)
        made = await self._access.new_token(
            user, body.get("role"), body.get("user"), body.get("expires_in")
        )
        request.setResponseCode(201)
        return made

    async def files(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/files``."""
        job = self._job(name)
        events = await self._all_events(job.number)
        return {"files": self._files.listing(job.number, events)}

    # Answers that wait, or go on.

    async def wait(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/wait``."""
        number = self._job(name).number
        until = _text(request, b"until") or "finished"
        if until not in ("running", "finished"):
            raise Invalid(f"A wait ends when the job is running or finished, not {until!r}.")
        patience = min(_number(request, b"timeout", 30.0), LONGEST_WAIT)
        await self._until(request, number, lambda job: _reached(job, until), patience)
        job = self._manager.book.get(number)
        return {"job": self._view(job), "reached": _reached(job, until)}

    async def events(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/events``."""
        number = self._job(name).number
        last = request.getHeader("last-event-id") or _text(request, b"after") or "0"
        if not last.isdecimal():
            raise Invalid(f"{last!r} is not the number of an event.")
        if "text/event-stream" not in (request.getHeader("accept") or ""):
            stored = await self._manager.events(number, int(last))
            return {"events": _event_views(number, stored, int(last))}
        request.setHeader(b"Content-Type", b"text/event-stream")
        await self._follow_events(request, number, int(last))
        return b""

    async def _follow_events(self, request: Request, number: int, last: int) -> None:
        stream = Stream(request, self._clock, b": alive\n\n")
        unsubscribe = self._manager.feed.subscribe(number, stream.wake)
        try:
            going = True
            while going:
                stored = await self._manager.events(number, last)
                for event in _event_views(number, stored, last):
                    last = event["n"]
                    data = json.dumps(event, ensure_ascii=False)
                    text = f"id: {last}\nevent: {event['kind']}\ndata: {data}\n\n"
                    going = await stream.write(text.encode()) and event["kind"] != "finished"
                if not stored:
                    job = self._manager.book.get(number)
                    over = job.state is JobState.FINISHED and last >= job.events
                    going = not over and await stream.news()
        finally:
            unsubscribe()
            stream.end()

    async def logs(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/logs``."""
        number = self._job(name).number
        wanted = self._wanted(request, number)
        tail = _number(request, b"tail", -1.0)
        request.setHeader(b"Content-Type", b"application/jsonl")
        merged = MergedLog(self._manager.logs, number, wanted)
        stream = Stream(request, self._clock, b"\n")
        unsubscribe = self._manager.feed.subscribe(number, stream.wake)
        try:
            await self._follow_logs(stream, merged, number, tail, follow=_flag(request, b"follow"))
        finally:
            unsubscribe()
            stream.end()
        return b""

    async def _follow_logs(
        self, stream: Stream, merged: MergedLog, number: int, tail: float, *, follow: bool
    ) -> None:
        # Whether it is over is asked before reading: what comes in between is read once more.
        over = self._over(number)
        if tail >= 0:
            await stream.write(merged.tail(int(tail), to_the_end=over or not follow))
        while True:
            for batch in merged.read(to_the_end=over or not follow):
                if not await stream.write(batch):
                    return
            if over or not follow or not await stream.news():
                return
            over = self._over(number)

    def _over(self, number: int) -> bool:
        return self._manager.book.get(number).state is JobState.FINISHED

    def _wanted(self, request: Request, number: int) -> Wanted:
        stream = _text(request, b"stream")
        if stream not in (None, "out", "err"):
            raise Invalid(f"A stream is out or err, not {stream!r}.")
        machine = _text(request, b"machine")
        if machine is not None:
            job = self._manager.book.get(number)
            known = {m.name for m in job.machines} | {m for _, m in self._manager.logs.list(number)}
            if canonical_machine(machine) not in known:
                machine = job.machine(machine).name
            machine = canonical_machine(machine)
        since = _number(request, b"since", -1.0)
        attempt = _number(request, b"attempt", -1.0)
        return Wanted(
            machine,
            next((number for number, name in STREAMS.items() if name == stream), None),
            self._clock.seconds() - since if since >= 0 else 0.0,
            int(attempt) if attempt >= 0 else None,
        )

    async def file(self, request: Request, user: User, name: str, path: str) -> Any:
        """``GET /v1/jobs/<n>/files/<path>``."""
        number = self._job(name).number
        found = self._files.find(number, await self._all_events(number), path)
        request.setHeader(b"Content-Type", b"application/octet-stream")
        stream = Stream(request, self._clock)
        try:
            for piece in found:
                if not await stream.write(piece):
                    break
        finally:
            found.close()
            stream.end()
        return b""

    async def _all_events(self, number: int) -> list[Any]:
        found: list[Any] = []
        while more := await self._manager.events(number, len(found)):
            found += more
        return found

    async def _until(
        self, request: Request, number: int, reached: Callable[[Job], bool], patience: float
    ) -> None:
        """Wait until a job has got somewhere, the time is over, or the reader is gone."""
        over: Deferred[None] = Deferred()

        def look() -> None:
            if reached(self._manager.book.get(number)) and not over.called:
                over.callback(None)

        def stop(_: object = None) -> None:
            if not over.called:
                over.callback(None)

        unsubscribe = self._manager.feed.subscribe(number, look)
        timer: IDelayedCall = self._clock.callLater(patience, stop)
        request.notifyFinish().addBoth(stop)
        look()
        await over
        unsubscribe()
        if timer.active():
            timer.cancel()

    # Bytes: of users and of volunteers.

    async def get_blob(self, request: Request, who: str, sha256: str) -> Any:
        """``GET`` and ``HEAD /v1/blobs/<sha256>``."""
        return await send_blob(request, self._manager.blobs, sha256)

    async def put_blob(self, request: Request, who: str, sha256: str) -> Any:
        """``PUT /v1/blobs/<sha256>``: its body has come already, see `syndicate.api.site`."""
        upload = getattr(request, "sink", None)
        if not isinstance(upload, Upload):
            raise Invalid("A blob is named by 64 lower-case hexadecimal digits, and has a body.")
        size = await upload.finish()
        request.setResponseCode(201 if upload.new else 200)
        return {"sha256": sha256, "size": size}

    async def append_log(
        self, request: Request, volunteer: str, number: str, attempt: str, machine: str
    ) -> Any:
        """``PUT /v1/logs/<job>/<attempt>/<machine>``: a piece of a machine's log."""
        if not (number.isdecimal() and attempt.isdecimal()) or not self._manager.allocated(
            volunteer, int(number), int(attempt), machine
        ):
            raise Forbidden(f"{volunteer} is not {machine} of attempt {attempt} of job {number}.")
        offset = int(_number(request, b"offset", 0.0))
        length = self._manager.logs.append(
            int(number), int(attempt), machine, offset, _data(request)
        )
        self._manager.feed.publish(int(number))
        return {"length": length}

    # Views.

    def _job(self, name: str) -> Job:
        book = self._manager.book
        if name == "latest":
            if not book.jobs:
                raise NotFound("There is no job yet.")
            return book.jobs[max(book.jobs)]
        if not name.isdecimal() or len(name) > 15:
            raise NotFound(f"There is no job {name!r}; a job is named by its number or 'latest'.")
        return book.get(int(name))

    def _view(self, job: Job) -> dict[str, Any]:
        return self._views([job])[0]

    def _views(self, jobs: list[Job]) -> list[dict[str, Any]]:
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

    # The doors.

    def resource(self) -> Any:
        """The tree for a `twisted.web.server.Site`."""
        app = Klein()
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/v1/status", self.status),
            ("POST", "/v1/jobs", self.submit),
            ("GET", "/v1/jobs", self.jobs),
            ("GET", "/v1/jobs/<name>", self.job),
            ("POST", "/v1/jobs/<name>/cancel", self.cancel),
            ("GET", "/v1/jobs/<name>/wait", self.wait),
            ("GET", "/v1/jobs/<name>/events", self.events),
            ("GET", "/v1/jobs/<name>/logs", self.logs),
            ("GET", "/v1/jobs/<name>/files", self.files),
            ("GET", "/v1/jobs/<name>/files/<path:path>", self.file),
            ("GET", "/v1/volunteers", self.volunteers),
            ("POST", "/v1/tokens", self.new_token),
        ]
        for method, path, handler in routes:
            self._route(app, method, path, handler, self._access.user)
        for method, handler in (
            ("GET", self.get_blob),
            ("HEAD", self.get_blob),
            ("PUT", self.put_blob),
        ):
            self._route(app, method, "/v1/blobs/<sha256>", handler, self._access.anybody)
        log_path = "/v1/logs/<number>/<attempt>/<machine>"
        self._route(app, "PUT", log_path, self.append_log, self._access.volunteer)
        self._route(app, "GET", "/v1/version", self.version, None)
        # Klein's types want a method here; it calls what it is given just so.
        app.handle_errors(HTTPException)(_no_route)  # type: ignore[arg-type]
        return app.resource()

    def _route(
        self,
        app: Klein,
        method: str,
        path: str,
        handler: Handler,
        who: Callable[[Request], User | str] | None,
    ) -> None:
        # Klein tells its routes apart by the function's name.
        async def answer(request: Request, **values: str) -> bytes:
            try:
                if who is None:
                    found = await handler(request, **values)
                else:
                    found = await handler(request, who(request), **values)
            except SyndicateError as error:
                return refuse(request, error)
            except Exception:  # noqa: BLE001  (the edge of the API: a defect, logged whole)
                log.failure("a request failed: {path}", path=request.path)
                return refuse(request, Internal("The manager failed; its log tells more."))
            return found if isinstance(found, bytes) else _json(request, found)

        answer.__name__ = f"{method}_{path}"
        app.route(path, methods=[method])(answer)


def refuse(request: Request, error: SyndicateError) -> bytes:
    """Answer with an error of ours, if the answer has not begun."""
    if request.startedWriting:
        return b""
    request.setResponseCode(error.status)
    told = {"code": error.code, "message": error.message, "details": dict(error.details)}
    return _json(request, {"error": told})


def _no_route(request: Request, failure: Any) -> bytes:
    error = failure.value
    request.setResponseCode(error.code)
    told = {"code": "not_found", "message": f"No such address: {error.name}.", "details": {}}
    return _json(request, {"error": told})


def _json(request: Request, value: Any) -> bytes:
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(value, ensure_ascii=False, default=str).encode() + b"\n"


def _body(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(_data(request))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body of the request is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Invalid("The body of the request is no JSON object.")
    return value


def _data(request: Request) -> bytes:
    """The body, as `syndicate.api.site` has gathered it."""
    sink = getattr(request, "sink", None)
    return bytes(sink.data) if isinstance(sink, Gathered) else b""


def _text(request: Request, name: bytes) -> str | None:
    values = (request.args or {}).get(name)
    return values[0].decode("utf-8", "replace") if values and values[0] else None


def _flag(request: Request, name: bytes) -> bool:
    return _text(request, name) in ("1", "true", "yes")


def _number(request: Request, name: bytes, default: float) -> float:
    text = _text(request, name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise Invalid(f"{name.decode()} is a number from 0 up, not {text!r}.")
    return value


def _counts(words: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts


def _event_views(number: int, stored: list[Any], after: int) -> list[dict[str, Any]]:
    return [event_view(number, n, event) for n, event in enumerate(stored, after + 1)]


def _reached(job: Job, until: str) -> bool:
    if until == "running":
        return job.state in (JobState.RUNNING, JobState.FINISHING, JobState.FINISHED)
    return job.state is JobState.FINISHED
