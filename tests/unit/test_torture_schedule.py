"""What a torture does is a function of its seed, and can be done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syndicate.torture.schedule import LASTING, MANAGER, Asking, Deed, Manner, Schedule, draw

schedules = st.builds(draw, st.text(max_size=8), st.floats(10, 400, width=16), st.integers(1, 8))


def test_a_seed_gives_the_same_blows_and_jobs_again() -> None:
    assert draw("s", 60, 4) == draw("s", 60, 4)
    assert draw("s", 60, 4) != draw("t", 60, 4)


@given(schedules)
def test_blows_fall_on_hosts_that_are_there_one_at_a_time_and_end_in_time(
    schedule: Schedule,
) -> None:
    until: dict[str, float] = {}
    for act in schedule.acts:
        assert act.host in (MANAGER, *schedule.volunteers)
        assert act.at >= until.get(act.host, 0.0)
        until[act.host] = act.at + act.lasts
        assert act.at + act.lasts <= schedule.seconds
        assert bool(act.lasts) == (act.deed in LASTING)
        assert not (act.deed is Deed.CUT and act.host == MANAGER)


@given(schedules)
def test_jobs_fit_the_cluster(schedule: Schedule) -> None:
    assert schedule.tasks
    for number, task in enumerate(schedule.tasks, 1):
        assert task.number == number
        assert task.machines >= 1
        assert task.machines + task.clients <= len(schedule.volunteers)
        assert (task.manner is Manner.HURT and len(schedule.volunteers) > 1) == bool(task.clients)


def test_five_minutes_see_every_deed_on_manager_and_volunteers_and_every_manner() -> None:
    schedule = draw("any", 300, 5)
    done = {(act.deed, act.host == MANAGER) for act in schedule.acts}
    assert done == {(deed, False) for deed in Deed} | {
        (deed, True) for deed in Deed if deed is not Deed.CUT
    }
    assert {task.manner for task in schedule.tasks} == set(Manner)
    assert {task.asking for task in schedule.tasks} == set(Asking)
