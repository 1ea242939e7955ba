"""Judging the events of one job: they must fold, end once, and agree with what is shown."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from syndicate.domain.errors import SyndicateError
from syndicate.domain.events import BY_KIND
from syndicate.domain.job import Job
from syndicate.domain.lifecycle import fold
from syndicate.plain import field_names
from syndicate.plain_events import event_from_plain
from syndicate.torture.facts import Rule, Run, Violation

#: Keys of an event's view that are not its details.
_FRAME = frozenset({"n", "at", "kind", "job", "attempt", "machine", "text"})

#: What a finished job is compared by with what its events fold to.
_COMPARED = ("state", "outcome", "limit", "attempt", "events")
_COMPARED_OF_MACHINES = (
    "machine",
    "volunteer",
    "address",
    "state",
    "exit_code",
    "signal",
    "limit",
    "log_bytes",
    "outputs",
)


#: Events that end a machine of a job without clients.
_ENDED = frozenset({"machine-lost", "machine-killed", "machine-exited"})


@attrs.frozen
class Tenure:
    """A volunteer was a machine of an attempt, from its reservation to its end there."""

    run: Run
    volunteer: str
    address: str
    begins: float
    ends: float


def seconds_of(text: str) -> float:
    """Epoch seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def judge(job: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    """What is wrong with a finished job's events."""
    number = job["job"]
    if [event["n"] for event in events] != list(range(1, len(events) + 1)):
        numbers = [event["n"] for event in events]
        yield Violation(Rule.ONE_OUTCOME, f"job {number}: events are missing", str(numbers))
        return
    kinds = Counter(event["kind"] for event in events)
    if kinds["finished"] != 1 or events[-1]["kind"] != "finished":
        yield Violation(
            Rule.ENDED_ONCE,
            f"job {number} has {kinds['finished']} events 'finished', and the last event is"
            f" {events[-1]['kind']!r}",
            told(events[-6:]),
        )
    ends = Counter(e["attempt"] for e in events if e["kind"] in ("attempt-lost", "finished"))
    twice = [attempt for attempt, count in ends.items() if count > 1]
    attempts = [e["attempt"] for e in events if e["kind"] == "reserved"]
    # A job that is cancelled while it waits for another attempt ends behind the end of the last.
    after_last = events[-1]["kind"] == "finished" and _waited(events)
    if [each for each in twice if not (after_last and each == events[-1]["attempt"])]:
        yield Violation(
            Rule.ONE_OUTCOME, f"job {number}: attempts {twice} ended twice", told(events)
        )
    if attempts != list(range(1, len(attempts) + 1)):
        yield Violation(
            Rule.ONE_OUTCOME, f"job {number}: its attempts were {attempts}", told(events)
        )
    yield from _compare(job, events)


def _waited(events: Sequence[Mapping[str, Any]]) -> bool:
    before = [e["kind"] for e in events[:-1] if e["kind"] not in ("mark", "fault")]
    return bool(before) and before[-1] == "attempt-lost"


def _compare(job: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    number = job["job"]
    try:
        folded = refold(events)
    except SyndicateError as error:
        yield Violation(
            Rule.ONE_OUTCOME, f"job {number}: its events do not fold: {error}", told(events)
        )
        return
    shown = {key: job[key] for key in _COMPARED}
    made = {
        "state": folded.state.value,
        "outcome": folded.outcome and folded.outcome.value,
        "limit": folded.limit,
        "attempt": folded.attempt,
        "events": folded.events,
    }
    machines = [{key: each[key] for key in _COMPARED_OF_MACHINES} for each in job["machines"]]
    made_machines = [
        {
            "machine": m.name,
            "volunteer": m.volunteer,
            "address": m.address,
            "state": m.state.value,
            "exit_code": m.exit_code,
            "signal": m.signal,
            "limit": m.limit,
            "log_bytes": m.log_bytes,
            "outputs": m.outputs,
        }
        for m in folded.machines
    ]
    if (shown, machines) != (made, made_machines):
        yield Violation(
            Rule.ONE_OUTCOME,
            f"job {number} is shown otherwise than its events tell",
            f"shown {shown} {machines}; folded {made} {made_machines}",
        )


def refold(events: Sequence[Mapping[str, Any]]) -> Job:
    """The job that events, as the API shows them, fold to.

    :raises SyndicateError: they do not.
    """
    job: Job | None = None
    for event in events:
        kind = BY_KIND.get(event["kind"])
        details = {key: value for key, value in event.items() if key not in _FRAME}
        for key in ("machine", "attempt"):
            if kind is not None and key in field_names(kind):
                details[key] = event[key]
        plain = {"kind": event["kind"], "at": seconds_of(event["at"]), "details": details}
        happened, at = event_from_plain(plain)
        job = fold(job, happened, at)
    assert job is not None, "there is at least one event"
    return job


def tenures(job: int, events: Sequence[Mapping[str, Any]]) -> Iterator[Tenure]:
    """Who was what, and when, by a job's events."""
    last = seconds_of(events[-1]["at"])
    for event in events:
        if event["kind"] != "reserved":
            continue
        attempt = event["attempt"]
        rest = [e for e in events if e["attempt"] == attempt and e["n"] > event["n"]]
        hurtful = any(placed["role"] == "client" for placed in event["placements"])
        # Without clients a machine is over when its target has ended: its volunteer is kept until
        # all are, but one that was started anew meanwhile may be given away.
        back = {"machine-lost", "machine-released"} if hurtful else _ENDED
        for placed in event["placements"]:
            machine = _name(placed["role"], placed["index"])
            ends = [
                seconds_of(e["at"])
                for e in rest
                if e["kind"] in ("attempt-lost", "finished")
                or (e["machine"] == machine and e["kind"] in back)
            ]
            yield Tenure(
                Run(job, attempt, machine),
                placed["volunteer"],
                placed["address"],
                seconds_of(event["at"]),
                min(ends, default=last),
            )


def _name(role: str, index: int) -> str:
    return role if role == "master" else f"{role}[{index}]"


def overlaps(
    found: Sequence[Tenure], events: Mapping[int, Sequence[Mapping[str, Any]]]
) -> Iterator[Violation]:
    """Volunteers that were given to a second attempt before the first had ended there.

    :param events: of the jobs, by their numbers.
    """
    by_volunteer: dict[str, list[Tenure]] = {}
    for each in found:
        by_volunteer.setdefault(each.volunteer, []).append(each)
    for volunteer, held in by_volunteer.items():
        held.sort(key=lambda each: each.begins)
        for one, two in itertools.pairwise(held):
            if two.begins < one.ends:
                yield Violation(
                    Rule.ONE_JOB,
                    f"{volunteer} was given to {two.run} while it was {one.run}",
                    f"{one}\n{told(events[one.run.job])}\n{two}\n{told(events[two.run.job])}",
                )


def told(events: Sequence[Mapping[str, Any]]) -> str:
    """Events as lines."""
    return "\n".join(
        f"{e['n']} {e['at']} a{e['attempt']} {e['kind']} {e['machine'] or ''} {e['text']}"
        for e in events
    )
