"""Reading requests and writing answers: JSON in, JSON out, errors as a code and a sentence."""

from __future__ import annotations

import json
from typing import Any

from twisted.web.server import Request

from syndicate.blobs.serve import Gathered
from syndicate.domain.errors import Invalid, SyndicateError, TooManyLogins
from syndicate.domain.job import JobState, Outcome
from syndicate.plain import read_json

#: Longest body of a request that is not a blob, in bytes.
BODY_CAP = 1 << 20


def refuse(request: Request, error: SyndicateError) -> bytes:
    """Answer with an error of ours, if the answer has not begun."""
    if request.startedWriting:
        return b""
    request.setResponseCode(error.status)
    if isinstance(error, TooManyLogins):
        request.setHeader(b"Retry-After", b"%d" % (int(error.details.get("retry_after", 60)) + 1))
        request.setHeader(b"Connection", b"close")
    told = {"code": error.code, "message": error.message, "details": dict(error.details)}
    return answer_json(request, {"error": told})


def no_route(request: Request, failure: Any) -> bytes:
    """Answer a request for what is not there, in JSON like all others."""
    error = failure.value
    request.setResponseCode(error.code)
    told = {"code": "not_found", "message": f"No such address: {error.name}.", "details": {}}
    return answer_json(request, {"error": told})


def answer_json(request: Request, value: Any) -> bytes:
    """A plain value as the body of an answer."""
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(value, ensure_ascii=False, default=str).encode() + b"\n"


def body_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    :raises Invalid: there is none.
    """
    try:
        value = read_json(data_of(request))
    except ValueError as error:
        raise Invalid(f"The body of the request is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Invalid("The body of the request is no JSON object.")
    return value


def data_of(request: Request) -> bytes:
    """The body, as `syndicate.api.site` has gathered it."""
    sink = getattr(request, "sink", None)
    return bytes(sink.data) if isinstance(sink, Gathered) else b""


def text_of(request: Request, name: bytes) -> str | None:
    """A parameter of the query; None when it is not there, or empty."""
    values = (request.args or {}).get(name)
    return values[0].decode("utf-8", "replace") if values and values[0] else None


def states_of(request: Request) -> tuple[frozenset[JobState], frozenset[Outcome]]:
    """The states that jobs are asked for in: those in ``state``, all with ``all``, else those of
    jobs that are not finished; and the outcomes in ``state``.

    :raises Invalid: there is no such state.
    """
    if states := text_of(request, b"state"):
        known = {state.value: state for state in JobState}
        endings = {outcome.value: outcome for outcome in Outcome}
        wanted = {state.strip().replace("-", " ") for state in states.split(",")}
        if odd := wanted - known.keys() - endings.keys():
            raise Invalid(
                f"No job can be {', '.join(sorted(odd))}; states are {', '.join(known)}, and of"
                f" finished jobs {', '.join(endings)}."
            )
        return (
            frozenset(state for word, state in known.items() if word in wanted),
            frozenset(outcome for word, outcome in endings.items() if word in wanted),
        )
    everything = frozenset(JobState)
    shown = everything if flag_of(request, b"all") else everything - {JobState.FINISHED}
    return shown, frozenset()


def flag_of(request: Request, name: bytes) -> bool:
    """Whether a parameter of the query says yes."""
    return text_of(request, name) in ("1", "true", "yes")


def number_of(request: Request, name: bytes, default: float) -> float:
    """A parameter of the query that is a number from 0 up.

    :raises Invalid: it is none.
    """
    text = text_of(request, name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12:
        raise Invalid(f"{name.decode()} is a number from 0 up, not {text!r}.")
    return value
