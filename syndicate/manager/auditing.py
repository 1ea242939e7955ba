"""What clients of jobs ask, written into the audit log as it is answered."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from syndicate.audit.interface import DONE, Actor, Entry, IAudit, Kind
from syndicate.domain.errors import SyndicateError
from syndicate.wire.interface import Ask

#: What clients do; the other verbs only look.
_DEEDS = frozenset({"fault", "finish"})


def record_ask(
    audit: IAudit, clock: IReactorTime, volunteer: str, ask: Ask, answer: Deferred[Any]
) -> Deferred[Any]:
    """Record a client's deed when its answer is there, before it is given."""
    if ask.verb not in _DEEDS:
        return answer

    def record(outcome: Any) -> Any:
        part = ask.part
        name = f"{part.machine} of job {part.job}"
        body = ask.body if isinstance(ask.body, dict) else {}
        told: dict[str, Any] = {"attempt": part.attempt}
        if ask.verb == "fault":
            told |= {key: body.get(key) for key in ("kind", "arguments")}
            if isinstance(outcome, dict) and "id" in outcome:
                told["fault"] = outcome["id"]
        audit.record(
            Entry(
                clock.seconds(),
                Actor(Kind.CLIENT, name, "client", address=volunteer),
                ask.verb,
                f"job {part.job}",
                outcome_of(outcome.value) if isinstance(outcome, Failure) else DONE,
                told,
            )
        )
        return outcome

    return answer.addBoth(record)


def outcome_of(error: BaseException | None) -> str:
    """The outcome of what ended with an error."""
    return error.code if isinstance(error, SyndicateError) else "internal"
