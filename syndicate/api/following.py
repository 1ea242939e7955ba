"""Answers that wait, or go on: long polls, events, logs, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from syndicate.api.exchange import flag_of, number_of, text_of
from syndicate.api.files import JobFiles
from syndicate.api.logs import STREAMS, MergedLog, Wanted
from syndicate.api.lookup import Lookup
from syndicate.api.stream import Stream
from syndicate.domain.errors import Invalid
from syndicate.domain.job import Job, JobState, canonical_machine
from syndicate.manager.service import Manager
from syndicate.manager.user import User
from syndicate.manager.views import event_view

#: Longest wait of one long poll, in seconds.
LONGEST_WAIT = 60.0


@attrs.define(eq=False)
class Following:
    """The routes whose answers take their time."""

    _clock: IReactorTime
    _manager: Manager
    _lookup: Lookup
    _files: JobFiles

    async def wait(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/wait``."""
        number = (await self._lookup.job(name)).number
        until = text_of(request, b"until") or "finished"
        if until not in ("running", "finished"):
            raise Invalid(f"A wait ends when the job is running or finished, not {until!r}.")
        patience = min(number_of(request, b"timeout", 30.0), LONGEST_WAIT)
        await self._until(request, number, lambda job: _reached(job, until), patience)
        job = await self._manager.history.job(number)
        return {"job": self._lookup.view(job), "reached": _reached(job, until)}

    async def events(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/events``."""
        number = (await self._lookup.job(name)).number
        last = request.getHeader("last-event-id") or text_of(request, b"after") or "0"
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
                    job = await self._manager.history.job(number)
                    over = job.state is JobState.FINISHED and last >= job.events
                    going = not over and await stream.news()
        finally:
            unsubscribe()
            stream.end()

    async def logs(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/logs``."""
        job = await self._lookup.job(name)
        number = job.number
        wanted = self._wanted(request, job)
        tail = number_of(request, b"tail", -1.0)
        request.setHeader(b"Content-Type", b"application/jsonl")
        merged = MergedLog(self._manager.logs, number, wanted)
        stream = Stream(request, self._clock, b"\n")
        unsubscribe = self._manager.feed.subscribe(number, stream.wake)
        try:
            await self._follow_logs(
                stream, merged, number, tail, follow=flag_of(request, b"follow")
            )
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
        return _finished(self._manager.book.stored(number))

    def _wanted(self, request: Request, job: Job) -> Wanted:
        stream = text_of(request, b"stream")
        if stream not in (None, "out", "err"):
            raise Invalid(f"A stream is out or err, not {stream!r}.")
        machine = text_of(request, b"machine")
        if machine is not None:
            logs = self._manager.logs.list(job.number)
            known = {m.name for m in job.machines} | {name for _, name in logs}
            if canonical_machine(machine) not in known:
                machine = job.machine(machine).name
            machine = canonical_machine(machine)
        since = number_of(request, b"since", -1.0)
        attempt = number_of(request, b"attempt", -1.0)
        return Wanted(
            machine,
            next((number for number, name in STREAMS.items() if name == stream), None),
            self._clock.seconds() - since if since >= 0 else 0.0,
            int(attempt) if attempt >= 0 else None,
        )

    async def file(self, request: Request, user: User, name: str, path: str) -> Any:
        """``GET /v1/jobs/<n>/files/<path>``."""
        number = (await self._lookup.job(name)).number
        found = self._files.find(number, await self.all_events(number), path)
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

    async def all_events(self, number: int) -> list[Any]:
        """All stored events of a job."""
        found: list[Any] = []
        while more := await self._manager.events(number, len(found)):
            found += more
        return found

    async def _until(
        self, request: Request, number: int, reached: Callable[[Job], bool], patience: float
    ) -> None:
        """Wait until a job has got somewhere, the time is over, or the reader is gone."""

        def there() -> bool:
            job = self._manager.book.stored(number)
            return job is None or reached(job)

        waiting = self._manager.feed.until(number, there, self._clock, patience)
        request.notifyFinish().addBoth(lambda _: waiting.cancel())
        await waiting


def _event_views(number: int, stored: list[Any], after: int) -> list[dict[str, Any]]:
    return [event_view(number, n, event) for n, event in enumerate(stored, after + 1)]


def _finished(job: Job | None) -> bool:
    # One that was there, and is in memory no more, was finished before it went into the archive.
    return job is None or job.state is JobState.FINISHED


def _reached(job: Job, until: str) -> bool:
    if until == "running":
        return job.state in (JobState.RUNNING, JobState.FINISHING, JobState.FINISHED)
    return job.state is JobState.FINISHED
