"""What the exit codes of ``syndicate`` say; scripts rely on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syndicate.domain import errors

PASSED = 0
FAILED = 1
USAGE = 2
NO_SUCH_THING = 3
NOT_ALLOWED = 4
#: The job was cancelled, lost, refused, or went over a limit.
ENDED_OTHERWISE = 5
UNREACHABLE = 69
TRY_LATER = 75
TIMEOUT = 124
INTERRUPTED = 130
#: Whoever read our output went away; what a shell says of a program ended by SIGPIPE.
BROKEN_PIPE = 141


class Unreachable(errors.SyndicateError):
    """No manager answers; the message says what to check."""

    code = "unreachable"
    status = 502


_OF_ERRORS: tuple[tuple[type[errors.SyndicateError], int], ...] = (
    (Unreachable, UNREACHABLE),
    (errors.WouldWait, TRY_LATER),
    (errors.Invalid, USAGE),
    (errors.Unauthorized, NOT_ALLOWED),
    (errors.Forbidden, NOT_ALLOWED),
    (errors.NotFound, NO_SUCH_THING),
    (errors.Unavailable, TRY_LATER),
    (errors.Timeout, TIMEOUT),
)


def of_error(error: errors.SyndicateError) -> int:
    """The exit code of an error that ends a command."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), FAILED)


def of_job(job: Mapping[str, Any]) -> int:
    """The exit code of a job, as the JSON API tells it; of one that is not finished, 0."""
    outcome = job["outcome"]
    if outcome in (None, "passed"):
        return PASSED
    return FAILED if outcome == "failed" and not job["limit"] else ENDED_OTHERWISE
