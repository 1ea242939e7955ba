"""What came of a torture, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from syndicate.torture.facts import Violation
from syndicate.torture.run import Result
from syndicate.torture.schedule import Schedule

#: Most lines of one violation's evidence that people are shown.
EVIDENCE = 40


def lines(result: Result) -> Iterator[str]:
    """For people."""
    schedule = result.schedule
    yield (
        f"Tortured for {schedule.seconds:g} s with {len(schedule.volunteers)} volunteers and seed"
        f" {schedule.seed}; all of it took {result.took:.0f} s."
    )
    for what, count in sorted(result.counts.items()):
        yield f"{count:10}  {what}"
    for violation in result.violations:
        yield f"VIOLATED: {violation.rule.value}"
        yield f"    {violation.text}"
        evidence = violation.evidence.splitlines()
        yield from (f"      {line}" for line in evidence[:EVIDENCE])
        if len(evidence) > EVIDENCE:
            yield f"      … and {len(evidence) - EVIDENCE} lines more"
    count = len(result.violations)
    yield "Nothing was violated." if not count else f"{count} violations."


def as_json(result: Result) -> dict[str, Any]:
    """For programs."""
    return {
        **_head(result.schedule),
        "took": round(result.took, 1),
        "counts": result.counts,
        "violations": [_violation(each) for each in result.violations],
    }


def _violation(violation: Violation) -> dict[str, str]:
    return {
        "rule": violation.rule.value,
        "text": violation.text,
        "evidence": violation.evidence,
    }


def _head(schedule: Schedule) -> dict[str, Any]:
    return {
        "seed": schedule.seed,
        "seconds": schedule.seconds,
        "volunteers": len(schedule.volunteers),
    }


def plan_lines(schedule: Schedule) -> Iterator[str]:
    """A schedule for people: blows and jobs in their order."""
    told = [
        (act.at, f"{act.deed.value} {act.host}" + (f" for {act.lasts:g} s" if act.lasts else ""))
        for act in schedule.acts
    ]
    told += [
        (
            task.at,
            f"job {task.name}: {task.manner.value}, {task.machines} machines"
            + (f", client: {'; '.join(task.faults)}" if task.clients else ""),
        )
        for task in schedule.tasks
    ]
    for at, text in sorted(told):
        yield f"{at:7.1f}  {text}"


def plan_as_json(schedule: Schedule) -> dict[str, Any]:
    """A schedule for programs."""
    plain = attrs.asdict(
        schedule, value_serializer=lambda _, __, value: getattr(value, "value", value)
    )
    return {**_head(schedule), "acts": list(plain["acts"]), "jobs": list(plain["tasks"])}
