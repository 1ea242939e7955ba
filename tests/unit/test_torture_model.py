"""The model of the torture finds nothing wrong where nothing is, and everything that is."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from syndicate.domain.events import AttemptLost, Finishing, JobEvent, MachineLost
from syndicate.torture import speech, usage
from syndicate.torture.facts import Ending, Rule, Run, Sample, Sighting, Span
from syndicate.torture.model import Model
from syndicate.torture.schedule import Manner
from tests.support.torture_histories import BEGAN, ending, passed, said, task, views

OUT = "attempt-1/master.out"


def model_of(*tasks: int, manner: Manner = Manner.QUIET) -> Model:
    return Model({task(n).name: task(n, manner) for n in tasks or (1,)})


def told(model: Model, found: Ending) -> None:
    """Let a job be submitted, listed and looked at."""
    of = model.tasks[found.job["name"]]
    model.submitted(of, found.job["job"])
    model.listed([found.job])
    model.ended(found)


def broken(model: Model) -> set[Rule]:
    model.judge()
    return {violation.rule for violation in model.violations}


def test_nothing_is_wrong_with_a_job_that_ended_well() -> None:
    model = model_of()
    model.looked([Sighting(Run(1, 1, "master"), "v1", 17, BEGAN)])
    told(model, ending(task()))
    told(model, ending(task()))
    assert broken(model) == set()
    assert model.counts["witnesses heard"] == 1


def test_an_acknowledged_job_that_has_not_ended_or_is_gone_is_found() -> None:
    waiting, gone = model_of(), model_of()
    waiting.submitted(task(), 1)
    assert broken(waiting) == {Rule.ENDED_ONCE}
    told(gone, ending(task()))
    gone.listed([], gone.known())
    assert broken(gone) == {Rule.ENDED_ONCE}


def test_a_job_that_is_acknowledged_while_jobs_are_listed_is_not_missed() -> None:
    model = model_of()
    wanted = model.known()
    model.submitted(task(), 1)
    model.listed([], wanted)
    assert not model.violations


def test_two_jobs_of_one_submission_are_found() -> None:
    model = model_of()
    first, second = ending(task(), 1), ending(task(), 2)
    model.listed([first.job, second.job], model.known())
    assert broken(model) == {Rule.ENDED_ONCE}
    answered = model_of()
    answered.submitted(task(), 1)
    answered.submitted(task(), 2)
    assert Rule.ENDED_ONCE in broken(answered)


@pytest.mark.parametrize(
    "change",
    [
        lambda job: {**job, "outcome": "failed"},
        lambda job: {**job, "state": "running"},
        lambda job: {**job, "machines": [{**job["machines"][0], "volunteer": "v2"}]},
    ],
)
def test_a_result_that_is_told_of_otherwise_later_is_found(change: Callable[..., object]) -> None:
    model = model_of()
    found = ending(task())
    told(model, found)
    model.listed([change(found.job)])  # type: ignore[list-item]
    assert Rule.RESULT_KEPT in broken(model)


def lost_events(events: list[dict[str, object]]) -> list[dict[str, object]]:
    return events[:3] + events[4:]


def two_ends(events: list[dict[str, object]]) -> list[dict[str, object]]:
    return [*events, {**events[-1], "n": len(events) + 1}]


def other_outcome(events: list[dict[str, object]]) -> list[dict[str, object]]:
    return [*events[:-1], {**events[-1], "outcome": "failed"}]


def no_reservation(events: list[dict[str, object]]) -> list[dict[str, object]]:
    left = [event for event in events if event["kind"] != "reserved"]
    return [{**event, "n": n} for n, event in enumerate(left, 1)]


@pytest.mark.parametrize("change", [lost_events, two_ends, other_outcome, no_reservation])
def test_events_that_do_not_make_the_job_that_is_shown_are_found(
    change: Callable[..., list[dict[str, object]]],
) -> None:
    model = model_of()
    found = ending(task())
    told(model, attrs.evolve(found, events=tuple(change(list(found.events)))))
    assert broken(model) & {Rule.ONE_OUTCOME, Rule.ENDED_ONCE}


def test_an_attempt_that_was_lost_and_one_that_passed_are_well() -> None:
    model = model_of()
    lost: list[JobEvent] = [
        MachineLost("master", "It went."),
        Finishing(None, "It went."),
        AttemptLost("It went."),
    ]
    job, events = views([*passed(1)[:6], *lost, *passed(1, volunteer="v2", attempt=2)[1:]])
    half = said(task(), 1)[:130]
    whole = said(task(), 1, attempt=2, at="10.77.0.4", began=BEGAN + 14)
    told(model, Ending(job, tuple(events), (), {OUT: half, "attempt-2/master.out": whole}))
    assert broken(model) == set()


def test_a_job_that_does_not_end_as_it_was_made_to_is_found() -> None:
    model = model_of(manner=Manner.FAILS)
    told(model, ending(task(manner=Manner.FAILS)))
    assert broken(model) == {Rule.RIGHT_OUTCOME}
    cancelled = model_of()
    cancelled.cancelled.add(1)
    told(cancelled, ending(task()))
    assert broken(cancelled) == {Rule.RIGHT_OUTCOME}
    # Where a disk was full, a job may fail or not.
    full = model_of(manner=Manner.FAILS)
    full.full.append(Span("v1", "full", BEGAN, BEGAN + 3))
    told(full, ending(task(manner=Manner.FAILS)))
    assert broken(full) == set()


def test_a_job_on_a_machine_that_was_not_its_own_is_found() -> None:
    seen, heard, outside = model_of(), model_of(), model_of()
    seen.looked([Sighting(Run(1, 1, "master"), "v2", 17, BEGAN)])
    told(seen, ending(task()))
    assert broken(seen) == {Rule.OWN_MACHINE}
    found = ending(task())
    told(heard, attrs.evolve(found, files={OUT: said(task(), 1, at="10.77.0.9")}))
    assert broken(heard) == {Rule.OWN_MACHINE}
    outside.looked([Sighting(Run(1, 1, "master"), "v1", 17, BEGAN, inside=False)])
    told(outside, ending(task()))
    assert broken(outside) == {Rule.OWN_MACHINE}


def test_two_jobs_on_one_volunteer_at_a_time_are_found_in_three_ways() -> None:
    seen = model_of()
    runs = [Run(1, 1, "master"), Run(2, 1, "master")]
    seen.looked([Sighting(run, "v1", pid, BEGAN) for pid, run in enumerate(runs, 17)])
    assert broken(seen) == {Rule.ONE_JOB}
    # By the events, and by what the jobs say.
    both = model_of(1, 2)
    told(both, ending(task(1), 1))
    told(both, ending(task(2), 2, began=BEGAN + 0.3))
    both.judge()
    texts = [violation.text for violation in both.violations]
    assert len(texts) == 2
    assert any("two jobs say" in text for text in texts)
    assert any("was given to" in text for text in texts)
    # One after the other is well, and so are two volunteers.
    well = model_of(1, 2)
    told(well, ending(task(1), 1))
    told(well, ending(task(2), 2, began=BEGAN + 60))
    assert broken(well) == set()
    apart = model_of(1, 2)
    told(apart, ending(task(1), 1))
    told(apart, ending(task(2), 2, volunteer="v2"))
    assert broken(apart) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-40],
        lambda data: b"",
        lambda data: data.replace(b"beat", b"beef", 1),
        lambda data: data.replace(b"beat", b"beef", 1) + b"more\n",
    ],
)
def test_a_log_that_is_shorter_or_other_than_before_is_found(
    change: Callable[[bytes], bytes],
) -> None:
    model = model_of()
    found = ending(task())
    told(model, found)
    model.file_seen(1, OUT, change(found.files[OUT]))
    assert broken(model) == {Rule.LOG_KEPT}


def test_a_line_that_is_lost_or_changed_is_found_in_the_first_look() -> None:
    data = said(task(), 1)
    lines = data.splitlines(keepends=True)
    for wrong in (
        b"".join(lines[:2] + lines[3:]),
        data.replace(lines[2][4:12], b"0" * 8),
        b"x" + data,
        data[10:],
        b"".join(lines[1:]),
    ):
        assert [v.rule for v in speech.hear(1, "master", OUT, wrong).violations] == [Rule.LOG_KEPT]
    assert not speech.hear(1, "master", OUT, data).violations


def test_a_revived_machine_that_was_killed_in_a_line_is_heard_twice() -> None:
    data = said(task(), 1)
    heard = speech.hear(1, "master", OUT, data[:-60] + data)
    assert not heard.violations
    assert [each.whole for each in heard.testimonies] == [False, True]


def test_a_log_that_breaks_off_though_its_machine_ended_by_itself_is_found() -> None:
    model = model_of()
    found = ending(task())
    lines = found.files[OUT].splitlines(keepends=True)
    told(model, attrs.evolve(found, files={OUT: b"".join(lines[:-1])}))
    assert broken(model) == {Rule.LOG_WHOLE}


def test_outputs_that_are_not_there_are_found() -> None:
    model = model_of(manner=Manner.KEEPS)
    told(model, ending(task(manner=Manner.KEEPS)))
    assert broken(model) == {Rule.OUTPUT_KEPT}


@pytest.mark.parametrize(
    ("kind", "state", "wrong"),
    [
        ("kill", "verified", True),
        ("disconnect", "requested", True),
        ("revive", "requested", True),
        ("revive", "verified", False),
        ("kill", "healed", False),
        ("kill", "unknown", False),
        ("pause", "failed", False),
    ],
)
def test_a_fault_that_has_outlived_its_job_is_found(kind: str, state: str, wrong: bool) -> None:
    model = model_of()
    fault = {"id": "f1", "kind": kind, "state": state}
    told(model, attrs.evolve(ending(task()), faults=(fault,)))
    assert (broken(model) == {Rule.FAULT_HEALED}) is wrong


def samples(memory: Callable[[int], int], descriptors: Callable[[int], int]) -> list[Sample]:
    return [Sample("v1", 1, float(age), memory(age), descriptors(age)) for age in range(120)]


def test_what_grows_is_found_and_what_is_warm_is_not() -> None:
    flat = samples(lambda age: (60 << 20) + min(age, 10) * (4 << 20), lambda age: 30 + age % 9)
    assert not list(usage.judge(flat))
    leaking = samples(lambda age: (60 << 20) + age * (1 << 20), lambda age: 30 + 2 * age)
    found = [violation.text for violation in usage.judge(leaking)]
    assert len(found) == 2
    assert "MiB" in found[0]
    assert "descriptors" in found[1]
    # Too short a life tells nothing.
    assert not list(usage.judge(leaking[:30]))
