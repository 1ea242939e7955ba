"""A client's handle with no cluster behind it: a small job whose faults are simply believed."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from syndicate.client.interface import IHandle
from syndicate.domain.errors import (
    AlreadyRunning,
    NotFound,
    NotYours,
    SyndicateError,
    Unsupported,
)
from syndicate.domain.job import canonical_machine

#: Faults in one page.
PAGE = 100
#: Names and addresses of the machines of the job.
MACHINES = {
    "master": "10.0.0.1",
    "slave[0]": "10.0.0.2",
    "slave[1]": "10.0.0.3",
    "client[0]": "10.0.0.4",
}


@implementer(IHandle)
@attrs.define(eq=False)
class ScriptedHandle:
    """Keeps what it was asked, and answers as the manager would."""

    #: Verb and arguments of each call that has come, those that were refused included.
    calls: list[tuple[Any, ...]] = attrs.field(factory=list)
    #: Errors to answer the next calls of a verb with.
    refusals: dict[str, list[BaseException]] = attrs.field(factory=dict)
    #: What a verb waits for before it answers.
    gates: dict[str, Deferred[None]] = attrs.field(factory=dict)
    down: set[str] = attrs.field(factory=set)
    cut: set[str] = attrs.field(factory=set)
    done: list[dict[str, Any]] = attrs.field(factory=list)
    by_token: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    result: dict[str, Any] | None = None
    kept: list[bytes] = attrs.field(factory=list)
    marks: list[str] = attrs.field(factory=list)
    happened: list[dict[str, Any]] = attrs.field(factory=list)
    _news: list[Deferred[None]] = attrs.field(factory=list)
    #: What ends the stream of events.
    end: SyndicateError | None = None

    def happen(self, kind: str, **details: Any) -> None:
        """Add an event."""
        number = len(self.happened) + 1
        at = "2026-01-01T00:00:00.000000Z"
        event = {"n": number, "at": at, "kind": kind, "text": f"{kind} happened.", **details}
        self.happened.append(event)
        self._wake()

    def finish_job(self, error: SyndicateError) -> None:
        """No more will happen."""
        self.end = error
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, []
        for waiting in news:
            if not waiting.called:
                waiting.callback(None)

    def _answer(self, verb: str, *arguments: Any) -> Deferred[Any]:
        self.calls.append((verb, *arguments))
        return Deferred.fromCoroutine(self._do(verb, *arguments))

    async def _do(self, verb: str, *arguments: Any) -> Any:
        gate = self.gates.get(verb)
        if gate is not None:
            mine: Deferred[None] = Deferred()
            gate.addCallback(lambda _: mine.callback(None))
            await mine
        if self.refusals.get(verb):
            raise self.refusals[verb].pop(0)
        return getattr(self, f"_{verb}")(*arguments)

    def job(self) -> Deferred[dict[str, Any]]:
        return self._answer("job")

    def _job(self) -> dict[str, Any]:
        return {
            "job": 17,
            "attempt": 1,
            "seed": 42,
            "me": "client[0]",
            "machines": [
                {
                    "name": name,
                    "role": name.partition("[")[0],
                    "ip": ip,
                    "up": name not in self.down,
                    "cut": name in self.cut,
                }
                for name, ip in MACHINES.items()
            ],
            "supported": ["kill", "revive", "disconnect", "heal"],
            "unsupported": {"delay": "there is no sch_netem"},
        }

    def fault(
        self, kind: str, arguments: dict[str, Any], token: str | None
    ) -> Deferred[dict[str, Any]]:
        if token is not None and token in self.by_token:
            self.calls.append(("fault", kind, arguments, token))
            return succeed(self.by_token[token])
        return self._answer("fault", kind, arguments, token)

    def _fault(self, kind: str, arguments: dict[str, Any], token: str | None) -> dict[str, Any]:
        if kind == "heal":
            return self._heal(arguments.get("id"))
        if kind == "delay":
            raise Unsupported("v1 cannot delay: there is no sch_netem", machine="v1")
        names = [self._find(name) for name in self._named(arguments)]
        if kind == "revive" and names[0] not in self.down:
            raise AlreadyRunning(f"{names[0]} runs; kill it before you revive it.")
        {"kill": self.down.add, "pause": self.down.add, "disconnect": self.cut.add}.get(
            kind, lambda _: None
        )(names[0])
        {
            "revive": self.down.discard,
            "resume": self.down.discard,
            "reconnect": self.cut.discard,
        }.get(kind, lambda _: None)(names[0])
        fault = {
            "id": f"f{len(self.done) + 1}",
            "kind": kind,
            "machines": names,
            "state": "verified",
            "requested_at": "2026-01-01T00:00:00.000000Z",
            "applied_at": "2026-01-01T00:00:00.001000Z",
            "verified_at": "2026-01-01T00:00:00.002000Z",
            "healed_at": None,
        }
        self.done.append(fault)
        if token is not None:
            self.by_token[token] = fault
        self.happen("fault", fault=fault["id"])
        return fault

    def _named(self, arguments: dict[str, Any]) -> list[Any]:
        if "groups" in arguments:
            return [name for group in arguments["groups"] for name in group]
        return [arguments.get("machine", arguments.get("ip"))]

    def _find(self, wanted: object) -> str:
        name = canonical_machine(wanted) if isinstance(wanted, str) else wanted
        for machine, ip in MACHINES.items():
            if name in (machine, ip):
                return machine
        raise NotYours(f"No machine of this job is called {wanted!r}.")

    def _heal(self, which: object) -> dict[str, Any]:
        known = [fault for fault in self.done if which in (None, fault["id"])]
        if which is not None and not known:
            raise NotFound(f"There is no fault {which!r}.")
        healed = [fault for fault in known if fault["state"] == "verified"]
        for fault in healed:
            fault["state"], fault["healed_at"] = "healed", fault["verified_at"]
        return {"healed": [fault["id"] for fault in healed]}

    def faults(self, after: int | None = None) -> Deferred[dict[str, Any]]:
        return self._answer("faults", *(() if after is None else (after,)))

    def _faults(self, after: int | None = None) -> dict[str, Any]:
        if after is None:
            return {"faults": self.done, "more": False}
        page = [fault for fault in self.done if int(fault["id"][1:]) > after]
        return {"faults": page[:PAGE], "more": len(page) > PAGE}

    def show(self, which: str) -> Deferred[dict[str, Any]]:
        return self._answer("show", which)

    def _show(self, which: str) -> dict[str, Any]:
        for fault in self.done:
            if which == fault["id"] or self.by_token.get(which) is fault:
                return fault
        raise NotFound(f"There is no fault {which!r}.")

    def finish(self, result: dict[str, Any]) -> Deferred[dict[str, Any]]:
        return self._answer("finish", result)

    def _finish(self, result: dict[str, Any]) -> dict[str, Any]:
        if self.result is None:
            self.result = {"passed": True, "score": None, "notes": "", **result}
        return {"finished": "client[0]", **self.result}

    def mark(self, name: str) -> Deferred[dict[str, Any]]:
        return self._answer("mark", name)

    def _mark(self, name: str) -> dict[str, Any]:
        self.marks.append(name)
        self.happen("mark", name=name)
        return {"marked": name, "t": 1_700_000_000.0}

    def samples(self, lines: bytes) -> Deferred[dict[str, Any]]:
        return self._answer("samples", lines)

    def _samples(self, lines: bytes) -> dict[str, Any]:
        kept = lines.splitlines()
        self.kept += kept
        return {"accepted": len(kept)}

    def events(self, after: int) -> Deferred[list[dict[str, Any]]]:
        self.calls.append(("events", after))
        if self.refusals.get("events"):
            return fail(self.refusals["events"].pop(0))
        return Deferred.fromCoroutine(self._events(after))

    async def _events(self, after: int) -> list[dict[str, Any]]:
        if after >= len(self.happened):
            if self.end is not None:
                raise self.end
            waiting: Deferred[None] = Deferred()
            self._news.append(waiting)
            await waiting
            return await self._events(after)
        return self.happened[after:]
