"""What the manager tells as it happens: events and lines of output, through its restarts."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from syndicate.cli.connection import Connection
from syndicate.domain.errors import Unavailable

#: Seconds of silence after which a manager that sends a sign of life each 15 s is given up.
SILENCE = 60.0

Item = TypeVar("Item")
Record = dict[str, Any]


def events(connection: Connection, job: int, after: int = 0) -> Iterator[Record]:
    """The events of a job after the one of that number, until and with its last."""
    last = after

    def once() -> Iterator[Record]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
        with connection.stream(f"/v1/jobs/{job}/events", headers, SILENCE) as chunks:
            for line in _lines(chunks):
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    while True:
        for event in _lasting(connection, once):
            last = event["n"]
            yield event
            if event["kind"] == "finished":
                return
        # The manager stops in order: it ended the answer, but the job is not finished.
        time.sleep(0.2)


def events_so_far(connection: Connection, job: int) -> Iterator[Record]:
    """The events of a job up to now, which the manager gives a page at a time."""
    last = 0
    while page := connection.get(f"/v1/jobs/{job}/events?after={last}")["events"]:
        yield from page
        last = page[-1]["n"]


def log_lines(
    connection: Connection, job: int, query: Mapping[str, str | float]
) -> Iterator[Record]:
    """Lines of output as the JSON API tells them; with ``follow``, until the job is finished.

    :param query: see the API: ``machine``, ``stream``, ``tail``, ``follow``, ``since``.
    """
    place = _Place(partly="tail" in query)

    def once() -> Iterator[Record]:
        # What was told already is told again after a break, all of it, and passed over here.
        asked = {key: value for key, value in query.items() if key != "tail" or not place.told}
        path = f"/v1/jobs/{job}/logs?{urlencode(asked)}"
        with connection.stream(path, None, SILENCE if "follow" in query else None) as chunks:
            place.rewind()
            for line in _lines(chunks):
                if line and place.is_new(record := json.loads(line)):
                    yield record

    while True:
        yield from _lasting(connection, once)
        if "follow" not in query:
            return
        if connection.get(f"/v1/jobs/{job}")["job"]["state"] == "finished":
            return
        time.sleep(0.2)


class _Place:
    """How far the logs have been told. The lines of one stream of one machine always come in the
    same order; those of one moment, which came out of the pipe together, all have its time.
    """

    def __init__(self, *, partly: bool) -> None:
        self._partly = partly
        self._floor = ""
        self._last: dict[tuple[str, str], tuple[str, int]] = {}
        self._again: dict[tuple[str, str], int] = {}

    @property
    def told(self) -> bool:
        """Whether anything was."""
        return bool(self._last)

    def rewind(self) -> None:
        """All begins again; if only a part was asked for, what is older is still not wanted.

        Where that part began in the midst of one moment, its lines may be told twice: never not.
        """
        self._again = {}
        if self._partly and self._last:
            self._floor = max(at for at, _ in self._last.values())

    def is_new(self, record: Record) -> bool:
        """Whether a line has not been told yet; then it counts as told."""
        source, at = (record["machine"], record["stream"]), record["at"]
        last, count = self._last.get(source, (self._floor, 0))
        if at < last:
            return False
        if at == last:
            seen = self._again[source] = self._again.get(source, 0) + 1
            if seen <= count:
                return False
            self._last[source] = (last, seen)
            return True
        self._last[source], self._again[source] = (at, 1), 1
        return True


def _lasting(connection: Connection, once: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    """The items of a stream that is opened again when it breaks, while there is patience."""
    deadline: float | None = None
    while True:
        try:
            for item in once():
                deadline = None
                yield item
        except (OSError, http.client.HTTPException, Unavailable) as error:
            now = time.monotonic()
            over = deadline is not None and now > deadline
            if over or not connection.may_recover(error):
                raise connection.explain(error) from error
            if deadline is None:
                connection.say_waiting()
            deadline = deadline or now + connection.patience
            time.sleep(0.1 + random.random() / 5)
        else:
            return


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        if b"\n" not in chunk:
            rest += chunk
            continue
        first, *others = chunk.split(b"\n")
        yield rest + first
        *whole, rest = others
        yield from whole
    if rest:
        yield rest
