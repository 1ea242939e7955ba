"""Every request that changes something goes into the audit log, whatever came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from syndicate.api.exchange import body_of, data_of, flag_of, number_of, text_of
from syndicate.audit.interface import DONE, Actor, Entry, IAudit, Kind, Wanted
from syndicate.domain.errors import Forbidden, Invalid, SyndicateError, TooManyLogins
from syndicate.manager.user import User
from syndicate.manager.views import timestamp

#: Most entries of one answer, and how many there are in one that does not say.
MOST_ENTRIES, ENTRIES = 10_000, 100
#: What is never written down of a request's body, should a route ever take it.
_SECRET = frozenset({"secret", "token", "password"})

Handler = Callable[..., Awaitable[Any]]


@attrs.frozen
class Auditing:
    """Records requests, and shows what was recorded."""

    _clock: IReactorTime
    _audit: IAudit
    #: Records what was refused to somebody whom we know, or counts it.
    _refuse: Callable[[Entry], None]
    #: Whose a request is that was refused.
    _actor: Callable[[Request], Actor]

    async def watch(
        self, request: Request, user: object, handler: Handler, values: Mapping[str, str]
    ) -> Any:
        """Let a request be answered, and record it if it is a person's and changes something."""
        if not isinstance(user, User) or request.method in (b"GET", b"HEAD") or _is_trial(request):
            return await handler(request, user, **values)
        try:
            found = await handler(request, user, **values)
        except SyndicateError as error:
            self._record(request, user, handler, values, error.code, {"message": error.message})
            raise
        except Exception:
            self._record(request, user, handler, values, "internal", {})
            raise
        self._record(request, user, handler, values, DONE, found)
        return found

    def refused(self, request: Request, error: SyndicateError) -> None:
        """Record somebody who was not let in; of too many from one address, those before tell, and
        of those whom we know, the count.
        """
        if isinstance(error, TooManyLogins):
            return
        path = request.path.decode("ascii", "backslashreplace")
        method = request.method.decode("ascii", "backslashreplace")
        details = {"request": f"{method} {path}", "message": error.message}
        actor, now = self._actor(request), self._clock.seconds()
        if actor.kind is Kind.STRANGER:
            self._audit.record(Entry(now, actor, "login", "", error.code, details))
        else:
            self._refuse(Entry(now, actor, "ask", "", error.code, details))

    async def entries(self, request: Request, user: User) -> Any:
        """``GET /v1/audit``."""
        if user.role != "operator":
            raise Forbidden("Only operators may read the audit log.")
        kind = text_of(request, b"kind")
        try:
            wanted = Wanted(
                text_of(request, b"who") or "",
                text_of(request, b"did") or "",
                text_of(request, b"on") or "",
                Kind(kind) if kind else None,
            )
        except ValueError:
            known = ", ".join(each.value for each in Kind)
            raise Invalid(f"No entry is of the kind {kind!r}; kinds are {known}.") from None
        count = int(number_of(request, b"limit", ENTRIES))
        found = await self._audit.tail(min(count, MOST_ENTRIES), wanted)
        return {"entries": [entry_view(entry) for entry in found]}

    def _record(
        self,
        request: Request,
        user: User,
        handler: Handler,
        values: Mapping[str, str],
        outcome: str,
        found: Any,
    ) -> None:
        did = getattr(handler, "__name__", "").replace("_", " ")
        told = dict(values)
        job = told.pop("name", None)
        token = told.pop("token", None)
        on = told.pop("volunteer", None)
        on = f"volunteer {on}" if on else f"job {job}" if job else ""
        on = f"token {token}" if token else on
        details: dict[str, Any] = {**_said(request), **told}
        if outcome != DONE:
            details["message"] = found.get("message", "")
        elif isinstance(found, dict):
            if isinstance(found.get("job"), dict):
                on = f"job {found['job']['job']}"
            if "secret" in found:
                on = f"token {found['id']}"
            if isinstance(found.get("id"), str) and "verified_at" in found:
                details["fault"] = found["id"]
        actor = Actor(Kind.PERSON, user.name, user.role, user.token, user.address)
        record = self._audit.record if outcome == DONE else self._refuse
        record(Entry(self._clock.seconds(), actor, did, on, outcome, details))


def entry_view(entry: Entry) -> dict[str, Any]:
    """An entry as the API shows it."""
    return {
        "at": timestamp(entry.at),
        "kind": entry.actor.kind.value,
        "who": entry.actor.name,
        "role": entry.actor.role,
        "token": entry.actor.token,
        "address": entry.actor.address,
        "did": entry.did,
        "on": entry.on,
        "outcome": entry.outcome,
        "details": dict(entry.details),
    }


def _is_trial(request: Request) -> bool:
    """Whether it only asks what would be; elsewhere the flag changes nothing, and hides nothing."""
    return request.path == b"/v1/jobs" and flag_of(request, b"dry_run")


def _said(request: Request) -> dict[str, Any]:
    if not data_of(request):
        return {}
    try:
        body = body_of(request)
    except Invalid:
        return {}
    said = {key: value for key, value in body.items() if key not in _SECRET}
    if isinstance(spec := said.pop("spec", None), dict):
        said |= {key: spec[key] for key in ("name", "sha256", "machines", "clients") if key in spec}
    return said
