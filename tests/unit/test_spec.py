"""Reading a job's specification from plain values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.errors import InvalidJob
from syndicate.domain.spec import read_spec

GOOD: dict[str, Any] = {"name": "lab", "sha256": "a" * 64, "size": 10}


def test_the_smallest_spec_has_defaults() -> None:
    spec = read_spec(GOOD)
    assert (spec.machines, spec.limits.wall, spec.outputs) == (1, 3600.0, ())


def test_sizes_and_spans_may_be_written_as_people_do() -> None:
    spec = read_spec({**GOOD, "limits": {"wall": "10m", "memory": "512M"}})
    assert (spec.limits.wall, spec.limits.memory) == (600.0, 512 << 20)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"machines": 0}, "machines: 0 is less than 1"),
        ({"machines": -3}, "machines: -3 is less than 1"),
        ({"machines": "3"}, "machines: '3' is not a whole number"),
        ({"machines": True}, "machines: True is not a whole number"),
        ({"machine": 3}, "machine: no such key; did you mean 'machines'?"),
        ({"limits": {"wal": "1m"}}, "limits.wal: no such key; did you mean 'wall'?"),
        ({"limits": {"memory": "1 Gig"}}, "limits.memory: '1 Gig' is not a size"),
        ({"limits": 3}, "limits: is not a table"),
        ({"outputs": ["../x"]}, "outputs: '../x' is not a pattern"),
        ({"env": {"A=B": "c"}}, "env: 'A=B' is not the name of a variable"),
        ({"env": {"SYNDICATE_JOB": "1"}}, "env: SYNDICATE_JOB is Syndicate's own"),
        ({"sha256": "A" * 64}, "is not a SHA-256"),
        ({"name": "\n"}, "is not a name"),
    ],
)
def test_each_mistake_is_told_with_its_place(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        read_spec({**GOOD, **change})
    assert any(problem in told for told in caught.value.details["problems"])


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InvalidJob) as caught:
        read_spec({"machines": 0, "limits": {"wall": "x"}, "odd": 1})
    assert len(caught.value.details["problems"]) == 6


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(json_values | st.dictionaries(st.sampled_from((*GOOD, "limits", "env")), json_values))
def test_anything_else_is_refused_and_never_an_error_of_ours(value: Any) -> None:
    try:
        read_spec(value)
    except InvalidJob as error:
        assert error.details["problems"]  # noqa: PT017
