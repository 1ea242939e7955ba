"""The values of keys, each read by a function that says what is wrong with it; and keys by these.

All of them raise `ValueError`, as those of `syndicate.domain.quantities` do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.values import parse_whole


def parse_port(value: object) -> int:
    """The number of a port; 0 for one that is free, or none."""
    if not 0 <= parse_whole(value) <= 65535:
        raise ValueError(f"{value!r} is not a port from 0 to 65535")
    return parse_whole(value)


def parse_text(value: object) -> str:
    """A text that is not empty."""
    if type(value) is not str or not value:
        raise ValueError(f"{value!r} is not a text")
    return value


def parse_texts(value: object) -> tuple[str, ...]:
    """A list of texts, which may be empty."""
    if isinstance(value, list):
        return tuple(parse_text(each) for each in value)
    raise ValueError(f"{value!r} is not a list of texts")


def parse_path(value: object) -> Path:
    """The path of a file or directory, which need not be there."""
    return Path(parse_text(value))


def key(parse: Callable[[object], Any], **options: Any) -> Any:
    """A key of a section, as a field of its class.

    :param options: those of `attrs.field`; without a default the key must be there.
    """
    return attrs.field(metadata={"parse": parse}, **options)
