"""A report of a job, made of what the JSON API tells of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from syndicate.domain.fault import UNDONE_BY, Kind
from syndicate.report.figures import Figures, aftermath, figures, figures_during
from syndicate.report.moments import epoch
from syndicate.report.samples import Samples
from syndicate.report.values import FaultReport, MachineReport, Mark, Report, Result

Record = Mapping[str, Any]

#: What undoes what, by the names of the API.
_UNDONE_BY = {kind.value: undone.value for kind, undone in UNDONE_BY.items()}
#: Faults of these states were surely never in force.
_NEVER = frozenset({"failed", "requested"})


def build(
    job: Record, events: Sequence[Record], faults: Iterable[Record], samples: Samples
) -> Report:
    """The report of a job's present attempt.

    :param job: as ``GET /v1/jobs/N`` gives it, under ``job``.
    :param events: all its events.
    :param faults: all its faults.
    :param samples: of the present attempt.
    """
    attempt = job["attempt"]
    events = [event for event in events if event.get("attempt", attempt) == attempt]
    ours = [fault for fault in faults if fault.get("attempt", attempt) == attempt]
    return Report(
        job=job["job"],
        name=job["name"],
        user=job["user"],
        state=job["state"],
        outcome=job["outcome"],
        limit=job["limit"],
        reason=job["reason"],
        attempt=attempt,
        seed=job.get("seed"),
        submitted_at=epoch(job["submitted_at"]),
        started_at=epoch(job["started_at"]),
        finished_at=epoch(job["finished_at"]),
        machines=_machines(job["machines"], events),
        faults=tuple(_Timeline(ours, samples, job).reports()),
        marks=tuple(_marks(events)),
        samples=len(samples),
        unreadable=samples.unreadable,
        operations=tuple(figures(op, series) for op, series in samples.series.items()),
    )


def _marks(events: Iterable[Record]) -> Iterable[Mark]:
    for event in events:
        if event["kind"] == "mark":
            yield Mark(epoch(event["at"]) or 0.0, event["by"], event["name"])


def _machines(machines: Iterable[Record], events: Iterable[Record]) -> tuple[MachineReport, ...]:
    starts = Counter(
        event["machine"]
        for event in events
        if event["kind"] in ("machine-running", "machine-revived")
    )
    results = {
        event["machine"]: event["result"] for event in events if event["kind"] == "client-finished"
    }
    return tuple(
        MachineReport(
            machine=machine["machine"],
            role=machine["role"],
            volunteer=machine["volunteer"],
            address=machine["address"],
            state=machine["state"],
            outcome=_outcome(machine),
            reason=machine["reason"],
            starts=starts[machine["machine"]],
            result=_result(machine.get("result") or results.get(machine["machine"])),
        )
        for machine in machines
    )


def _outcome(machine: Record) -> str:
    if machine["limit"]:
        return f"over {machine['limit']}"
    if machine["signal"] is not None:
        return f"signal {machine['signal']}"
    if machine["exit_code"] is not None:
        return f"exit code {machine['exit_code']}"
    # Nothing is amiss with a machine that was stopped because the clients were done.
    return "stopped" if machine["state"] == "killed" else str(machine["state"])


def _result(told: Record | None) -> Result | None:
    if told is None:
        return None
    return Result(bool(told.get("passed", True)), told.get("score"), told.get("notes") or "")


class _Timeline:
    """The faults of an attempt among its samples.

    :param faults: in the order in which they were requested.
    """

    def __init__(self, faults: Sequence[Record], samples: Samples, job: Record) -> None:
        self._faults, self._series = faults, samples.series
        last = [series.ends[-1] for series in self._series.values()]
        #: When the measurements ended; without any, the job.
        self._end = max(last) if last else epoch(job["finished_at"])
        #: When each that has a window was requested.
        self._requests = sorted(
            self._requested(fault) for fault in faults if self._begin(fault) is not None
        )

    def reports(self) -> Iterable[FaultReport]:
        """Each fault, with what was seen of it."""
        return map(self._report, self._faults)

    def _report(self, fault: Record) -> FaultReport:
        window = self._window(fault)
        until = None if window is None else self._until(window[1])
        return FaultReport(
            fault=fault["id"],
            kind=fault["kind"],
            machines=tuple(fault["machines"]),
            by=fault.get("by") or "",
            state=fault["state"],
            with_disk=fault.get("with_disk") if fault["kind"] == Kind.REVIVE.value else None,
            amount=fault.get("amount"),
            requested_at=epoch(fault.get("requested_at")),
            applied_at=epoch(fault.get("applied_at")),
            verified_at=epoch(fault.get("verified_at")),
            healed_at=epoch(fault.get("healed_at")),
            note=fault.get("note") or "",
            ended=fault.get("ended"),
            window=window,
            operations=() if window is None else tuple(self._during(*window)),
            reach=None if window is None or until is None else until - window[0],
            aftermath=None
            if window is None or until is None or not self._series
            else aftermath(self._series.values(), self._requested(fault), window[0], until),
        )

    def _window(self, fault: Record) -> tuple[float, float] | None:
        begin = self._begin(fault)
        end = None if begin is None else self._healed(fault, begin) or self._end
        return None if begin is None or end is None else (begin, max(begin, end))

    def _during(self, start: float, end: float) -> Iterable[Figures]:
        for op, series in self._series.items():
            found = figures_during(op, series, start, end)
            if found.count:
                yield found

    @staticmethod
    def _begin(fault: Record) -> float | None:
        """When a fault that lasts came into force; None for any other."""
        if fault["kind"] not in _UNDONE_BY or fault["state"] in _NEVER:
            return None
        applied = epoch(fault.get("applied_at"))
        # Of what its volunteer was lost in the midst of, only the request is known.
        return applied if applied is not None else epoch(fault.get("requested_at"))

    @staticmethod
    def _requested(fault: Record) -> float:
        """From when on a fault may act. What a volunteer tells of its times may be a little off."""
        times = (epoch(fault.get("requested_at")), epoch(fault.get("applied_at")))
        return min(time for time in times if time is not None)

    def _healed(self, fault: Record, begin: float) -> float | None:
        """When it was healed: as it says itself, or by the first that undoes it."""
        if (healed := epoch(fault.get("healed_at"))) is not None:
            return healed
        for other in self._faults:
            applied = epoch(other.get("applied_at"))
            undoes = other["kind"] == _UNDONE_BY[fault["kind"]] and other["state"] not in _NEVER
            if not undoes or applied is None or applied < begin:
                continue
            if set(fault["machines"]) <= set(other["machines"]):
                return applied
        return None

    def _until(self, healed: float) -> float | None:
        """Where the reach of a fault ends that was healed then."""
        later = next((request for request in self._requests if request > healed), None)
        if self._end is None:
            return later
        # What ended last is within it, too.
        end = self._end + 1e-6
        return end if later is None else min(later, end)
