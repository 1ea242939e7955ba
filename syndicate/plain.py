"""Values of ours as plain ones (dict, list, str, numbers, None) and back, for store and wire."""

from __future__ import annotations

import functools
import json
import math
import types
from typing import Any, TypeVar

import attrs
import cattrs

from syndicate.domain.errors import Invalid

T = TypeVar("T")


@functools.cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
    # The stock hooks turn "3" into 3 and 1 into True: what crosses must have its type already.
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, functools.partial(_exactly, kind))
    converter.register_structure_hook(float, _number)
    # Newer fields have defaults, so that what an older version wrote can still be read.
    return converter


def _exactly(kind: type, value: Any, _: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _number(value: Any, _: type) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def read_json(data: bytes) -> Any:
    """The plain value that JSON from a peer describes. Python's own reader lets pass what cannot be
    written again as JSON in UTF-8: numbers that are none, or infinite, and halves of characters.

    :raises ValueError: it is none.
    """
    text = data.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def to_plain(value: Any) -> Any:
    """An attrs value of ours, or a container of such, as plain values."""
    return _converter().unstructure(value)


def from_plain(value: Any, kind: type[T]) -> T:
    """The attrs value of the given class that plain values describe.

    :raises Invalid: they do not describe one.
    """
    try:
        return _converter().structure(value, kind)
    except (cattrs.BaseValidationError, cattrs.errors.ForbiddenExtraKeysError) as error:
        raise Invalid(f"This is no {_name(kind)}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Invalid(f"This is no {_name(kind)}: {error!r}") from error


def _name(kind: Any) -> str:
    return str(kind) if isinstance(kind, types.UnionType) else str(kind.__name__)


def field_names(kind: type[attrs.AttrsInstance]) -> tuple[str, ...]:
    """The names of a class's fields."""
    return tuple(field.name for field in attrs.fields(kind))
