"""Events of jobs as plain values and back, for the store and for people.

Apart from `syndicate.plain`, as volunteers know nothing of events.
"""

from __future__ import annotations

from typing import Any

from syndicate.domain.errors import Invalid
from syndicate.domain.events import BY_KIND, JobEvent
from syndicate.plain import from_plain, to_plain


def event_to_plain(event: JobEvent, at: float, attempt: int) -> dict[str, Any]:
    """An event as it is stored; the job and the number are its key.

    :param at: when it happened, epoch seconds.
    :param attempt: the attempt it belongs to; 0 before the first.
    """
    return {"at": at, "attempt": attempt, "kind": event.kind, "details": to_plain(event)}


def event_from_plain(stored: Any) -> tuple[JobEvent, float]:
    """A stored event and its time.

    :raises Invalid: not one that `event_to_plain` made.
    """
    try:
        kind, at, details = BY_KIND[stored["kind"]], stored["at"], stored["details"]
    except (KeyError, TypeError) as error:
        raise Invalid(f"This is no stored event: {error!r}") from error
    return from_plain(details, kind), at
