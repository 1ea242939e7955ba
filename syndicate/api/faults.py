"""Faults by hand, what became of all faults, and what clients measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from syndicate.api.exchange import body_of, data_of
from syndicate.api.lookup import Lookup
from syndicate.api.stream import Stream
from syndicate.blobs.interface import ILogStore
from syndicate.domain.fault import pick
from syndicate.domain.log import SAMPLES, Decoder
from syndicate.manager.service import Manager
from syndicate.manager.user import User
from syndicate.manager.views import fault_view
from syndicate.plain import read_json

#: Bytes read from a log at a time.
CHUNK = 256 << 10
#: Bytes of a sample's line that are looked at; a client's door takes none that is longer.
LONGEST = 1 << 20
COLUMNS = ("attempt", "machine", "t", "op", "ms", "ok")


@attrs.frozen
class Faults:
    """The routes of faults; clients have their own door, in their sandboxes."""

    _clock: IReactorTime
    _manager: Manager
    _lookup: Lookup

    async def inflict(self, request: Request, user: User, name: str, kind: str) -> Any:
        """``POST /v1/jobs/<n>/faults/<kind>``."""
        number = (await self._lookup.job(name)).number
        arguments = body_of(request) if data_of(request) else {}
        token = request.getHeader("idempotency-key")
        return await self._manager.fault(user, number, kind, arguments, token)

    async def faults(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/faults``."""
        number = (await self._lookup.job(name)).number
        _, faults = await self._manager.history.job_and_faults(number)
        return {"faults": [fault_view(number, fault) for fault in faults]}

    async def show(self, request: Request, user: User, name: str, which: str) -> Any:
        """``GET /v1/jobs/<n>/faults/<id>``: by the id, or by the caller's own key."""
        number = (await self._lookup.job(name)).number
        job, faults = await self._manager.history.job_and_faults(number)
        return fault_view(number, pick(faults, which, user.name, job.attempt))

    async def revoke(self, request: Request, user: User, name: str, machine: str) -> Any:
        """``POST /v1/jobs/<n>/handles/<machine>/revoke``."""
        number = (await self._lookup.job(name)).number
        return {"job": self._lookup.view(await self._manager.revoke(user, number, machine))}

    async def samples(self, request: Request, user: User, name: str) -> Any:
        """``GET /v1/jobs/<n>/samples``: CSV."""
        number = (await self._lookup.job(name)).number
        request.setHeader(b"Content-Type", b"text/csv; charset=utf-8")
        stream = Stream(request, self._clock)
        try:
            for piece in samples_as_csv(self._manager.logs, number):
                if not await stream.write(piece):
                    break
        finally:
            stream.end()
        return b""


def samples_as_csv(logs: ILogStore, number: int) -> Iterator[bytes]:
    """What the clients of a job have measured, in pieces of CSV; the first has the columns."""
    yield _rows([COLUMNS])
    for attempt, machine in logs.list(number):
        if not machine.startswith("client"):
            continue
        decoder, offset, rest = Decoder(), 0, b""
        while data := logs.read(number, attempt, machine, offset, CHUNK):
            offset += len(data)
            text = rest + b"".join(f.data for f in decoder.feed(data) if f.stream == SAMPLES)
            *lines, rest = text.split(b"\n")
            rest = rest[:LONGEST]
            told = (_values(line) for line in lines if line.strip())
            yield _rows((attempt, machine, *values) for values in told if values is not None)


def _values(line: bytes) -> tuple[Any, ...] | None:
    """A sample as a row; None for what is none, as only a volunteer that lies has written it."""
    try:
        sample = read_json(line)
        return sample["t"], sample["op"], sample["ms"], "true" if sample["ok"] else "false"
    except (ValueError, KeyError, TypeError):
        return None


def _rows(rows: Any) -> bytes:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue().encode()
