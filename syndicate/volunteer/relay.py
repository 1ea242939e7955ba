"""A client's handle on its own volunteer: every request goes on to the manager."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from syndicate.client.interface import IHandle
from syndicate.domain.errors import Invalid
from syndicate.domain.log import SAMPLES
from syndicate.plain import read_json
from syndicate.wire.interface import Ask, Part


@implementer(IHandle)
@attrs.define(eq=False)
class Relay:
    """Stands for one client; samples alone stay here, and travel with its log.

    :param ask: brings a request to the manager over the link of the moment.
    :param keep: writes to the machine's log.
    """

    _part: Part
    _ask: Callable[[Ask], Deferred[Any]]
    _keep: Callable[[int, bytes], None]

    def job(self) -> Deferred[dict[str, Any]]:
        """See `IHandle.job`."""
        return self._say("job", {})

    def fault(
        self, kind: str, arguments: dict[str, Any], token: str | None
    ) -> Deferred[dict[str, Any]]:
        """See `IHandle.fault`."""
        return self._say("fault", {"kind": kind, "arguments": arguments}, token or _new_token())

    def faults(self, after: int | None = None) -> Deferred[dict[str, Any]]:
        """See `IHandle.faults`."""
        if after is not None:
            return self._say("faults", {"after": after})
        return Deferred.fromCoroutine(self._all_faults())

    async def _all_faults(self) -> dict[str, Any]:
        found: list[Any] = []
        more = True
        while more:
            last = int(found[-1]["id"].removeprefix("f")) if found else 0
            page = await self._say("faults", {"after": last})
            found += page["faults"]
            more = bool(page["more"] and page["faults"])
        return {"faults": found, "more": False}

    def show(self, which: str) -> Deferred[dict[str, Any]]:
        """See `IHandle.show`."""
        return self._say("show", {"id": which})

    def finish(self, result: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """See `IHandle.finish`."""
        return self._say("finish", result)

    def mark(self, name: str) -> Deferred[dict[str, Any]]:
        """See `IHandle.mark`."""
        return self._say("mark", {"name": name}, _new_token())

    def events(self, after: int) -> Deferred[list[dict[str, Any]]]:
        """See `IHandle.events`."""
        return self._say("events", {"after": after})

    def samples(self, lines: bytes) -> Deferred[dict[str, Any]]:
        """See `IHandle.samples`."""
        count = 0
        for line in lines.splitlines():
            if line.strip():
                _check_sample(line)
                count += 1
        if count:
            self._keep(SAMPLES, lines if lines.endswith(b"\n") else lines + b"\n")
        return succeed({"accepted": count})

    def _say(self, verb: str, body: dict[str, Any], token: str | None = None) -> Deferred[Any]:
        return self._ask(Ask(self._part, verb, body, token))


def _new_token() -> str:
    return uuid.uuid4().hex


def _check_sample(line: bytes) -> None:
    try:
        sample = read_json(line)
        good = (
            type(sample["t"]) in (int, float)
            and type(sample["op"]) is str
            and type(sample["ms"]) in (int, float)
            and type(sample["ok"]) is bool
        )
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise Invalid(
            f"This is no sample: {line[:100]!r}; one is a line such as "
            '{"t": 1700000000.5, "op": "put", "ms": 1.9, "ok": true}.'
        )
