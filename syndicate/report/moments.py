"""Times as the JSON API writes them, and as a report counts with them."""

from __future__ import annotations

from datetime import UTC, datetime


def epoch(told: str | float | None) -> float | None:
    """Seconds since the epoch; what is that already stays so.

    :param told: RFC 3339.
    """
    return datetime.fromisoformat(told).timestamp() if isinstance(told, str) else told


def timestamp(seconds: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
