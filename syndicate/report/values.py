"""A report as frozen values; times are epoch seconds."""

from __future__ import annotations

from typing import Any

import attrs

from syndicate.report.figures import Aftermath, Figures
from syndicate.report.moments import timestamp


@attrs.frozen
class Result:
    """What a client has said with Finish."""

    passed: bool
    score: float | None
    notes: str


@attrs.frozen
class MachineReport:
    """One machine of the attempt, and how it ended."""

    machine: str
    role: str
    volunteer: str
    address: str
    state: str
    #: In a few words: ``exit code 0``, ``signal 9``, ``over memory``, ``stopped``.
    outcome: str
    reason: str
    #: How often its target was started.
    starts: int
    #: Of a client that has finished.
    result: Result | None


@attrs.frozen
class FaultReport:
    """One fault, and what the clients saw of it.

    What is in force for a time, such as ``kill``, has a window: from its application until it was
    healed, or the measurements ended. What undoes another, such as ``revive``, has none.
    """

    fault: str
    kind: str
    machines: tuple[str, ...]
    by: str
    state: str
    #: Of ``revive``.
    with_disk: bool | None
    #: Percent of packets lost, bytes per second, seconds of delay.
    amount: float | None
    requested_at: float | None
    applied_at: float | None
    verified_at: float | None
    healed_at: float | None
    note: str
    #: What ended it; None while it lasts.
    ended: str | None
    #: Epoch seconds, begin and end.
    window: tuple[float, float] | None
    #: Of the operations that were under way within the window, by kind.
    operations: tuple[Figures, ...]
    #: Seconds after application until its errors are another's: when another fault was requested
    #: after it was healed, or the measurements ended.
    reach: float | None
    aftermath: Aftermath | None


@attrs.frozen
class Mark:
    """A moment that a client has noted."""

    at: float
    by: str
    name: str


@attrs.frozen
class Report:
    """What there is to say of a job."""

    job: int
    name: str
    user: str
    state: str
    #: None while it is not finished.
    outcome: str | None
    limit: str | None
    reason: str
    attempt: int
    seed: int | None
    submitted_at: float | None
    started_at: float | None
    finished_at: float | None
    machines: tuple[MachineReport, ...]
    faults: tuple[FaultReport, ...]
    marks: tuple[Mark, ...]
    #: How many samples there are, and lines that were none.
    samples: int
    unreadable: int
    operations: tuple[Figures, ...]

    @property
    def seconds(self) -> float | None:
        """How long it ran; None when it has not ended, or never began."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


def to_plain(report: Report) -> dict[str, Any]:
    """For ``-o json``: as the values are, times as RFC 3339 in UTC."""
    plain: dict[str, Any] = attrs.asdict(report, value_serializer=_serialize)
    return {**plain, "seconds": report.seconds}


def _serialize(instance: type | None, field: attrs.Attribute[Any] | None, value: Any) -> Any:
    if field is not None and value is not None:
        if field.name == "at" or field.name.endswith("_at"):
            return timestamp(value)
        if field.name == "window":
            return [timestamp(moment) for moment in value]
    return value
