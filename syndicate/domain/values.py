"""Values and keys that people write, in job files and configurations: read, or told what is wrong.

All readers raise `ValueError` with words for whoever wrote the value, as those of
`syndicate.domain.quantities` do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def parse_whole(value: object) -> int:
    """A whole number; true and false are none."""
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def parse_truth(value: object) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise ValueError(f"{value!r} is not true or false")
    return value


def parse_cores(value: object) -> float:
    """A number of processor cores, from 0 up."""
    if type(value) not in (int, float) or not 0 <= value <= 1e6:  # type: ignore[operator]
        raise ValueError(f"{value!r} is not a number of cores")
    return float(value)  # type: ignore[arg-type]


def parse_rate(value: object) -> float:
    """How often something may be in a second; more than never."""
    if type(value) not in (int, float) or not 0 < value <= 1e9:  # type: ignore[operator]
        raise ValueError(f"{value!r} is not a number for each second")
    return float(value)  # type: ignore[arg-type]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'cores'?`` where a known word is near, else nothing."""
    near = difflib.get_close_matches(str(word), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
