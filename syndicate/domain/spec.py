"""A job's specification from plain values, as the JSON API and job files give them.

All mistakes are found in one go, each with its place, so that a user mends them all at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from syndicate.domain.errors import InvalidJob
from syndicate.domain.job import JobSpec, Limits, Resources
from syndicate.domain.quantities import parse_size, parse_span
from syndicate.domain.values import did_you_mean, parse_cores, parse_rate, parse_truth, parse_whole

#: Longest name of a job, in characters.
NAME_LENGTH = 200
#: Most patterns of outputs, most variables of the environment.
ENTRIES = 100

Reader = Callable[[object], Any]


def _positive(value: object) -> int:
    if parse_whole(value) < 1:
        raise ValueError(f"{value!r} is less than 1")
    return parse_whole(value)


def _count(value: object) -> int:
    if not 0 <= parse_whole(value) < 1 << 63:
        raise ValueError(f"{value!r} is less than 0, or too large")
    return parse_whole(value)


def _name(value: object) -> str:
    if type(value) is not str or not value.strip() or not value.isprintable():
        raise ValueError(f"{value!r} is not a name")
    if len(value) > NAME_LENGTH:
        raise ValueError(f"a name of {len(value)} characters is longer than {NAME_LENGTH}")
    return value


def _digest(value: object) -> str:
    if type(value) is not str or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{value!r} is not a SHA-256 in 64 lower-case hexadecimal digits")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(type(text) is str for text in value):
        raise ValueError(f"{value!r} is not a list of texts")
    if len(value) > ENTRIES:
        raise ValueError(f"{len(value)} entries are more than {ENTRIES}")
    return tuple(value)


def _patterns(value: object) -> tuple[str, ...]:
    patterns = _texts(value)
    for pattern in patterns:
        parts = pattern.split("/")
        if not pattern or pattern.startswith("/") or ".." in parts or "\0" in pattern:
            raise ValueError(f"{pattern!r} is not a pattern of files below the source")
    return patterns


def _env(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or len(value) > ENTRIES:
        raise ValueError(f"{value!r} is not a table of at most {ENTRIES} variables")
    for key, text in value.items():
        if type(key) is not str or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            raise ValueError(f"{key!r} is not the name of a variable")
        if type(text) is not str or "\0" in text:
            raise ValueError(f"the value of {key} is not a text: {text!r}")
        if key.startswith("SYNDICATE_"):
            raise ValueError(f"{key} is Syndicate's own; take another name")
    return tuple(sorted(value.items()))


_LIMITS: Mapping[str, Reader] = {
    "wall": parse_span,
    "cpu": parse_span,
    "cores": parse_cores,
    "memory": parse_size,
    "pids": _positive,
    "files": _positive,
    "output": parse_size,
    "disk": parse_size,
    "inodes": _positive,
    "fault_calls": parse_rate,
    "calls": parse_rate,
    "samples": parse_rate,
    "connections": _positive,
}
_RESOURCES: Mapping[str, Reader] = {"cores": parse_cores, "memory": parse_size, "arch": _texts}
_SPEC: Mapping[str, Reader] = {
    "name": _name,
    "sha256": _digest,
    "size": _positive,
    "machines": _positive,
    "outputs": _patterns,
    "env": _env,
    "linger": parse_truth,
    "clients": _count,
    "client_sha256": _digest,
    "client_size": _positive,
    "seed": _count,
}
_TABLES: Mapping[str, Mapping[str, Reader]] = {"limits": _LIMITS, "resources": _RESOURCES}
_NEEDED = ("name", "sha256", "size")


def read_spec(given: object, usual: Limits = Limits()) -> JobSpec:  # noqa: B008  (frozen)
    """A job's specification.

    :param given: a table with ``name``, ``sha256``, ``size``, and what else is to differ from
        the defaults of `JobSpec`; sizes and spans may be numbers or text such as ``'512M'``.
    :param usual: the limits that it has where it does not say.
    :raises InvalidJob: every mistake in it.
    """
    values, problems = spec_values(given, also=(), usual=usual)
    problems += [
        f"{key}: is missing" for key in _NEEDED if key not in values and _lacks(given, key)
    ]
    if problems:
        raise InvalidJob("This job cannot be: " + "; ".join(problems) + ".", problems=problems)
    return JobSpec(**{"limits": usual, **values})


def spec_values(
    given: object,
    also: Iterable[str],
    usual: Limits = Limits(),  # noqa: B008  (frozen)
) -> tuple[dict[str, Any], list[str]]:
    """The fields of a `JobSpec` that a table gives, and the mistakes in it.

    :param also: keys that the caller reads itself.
    :param usual: the limits that it has where it does not say.
    """
    if not isinstance(given, Mapping):
        return {}, ["a job is a table of keys and values"]
    problems: list[str] = []
    passed = set(also)
    flat = {key: value for key, value in given.items() if key not in _TABLES and key not in passed}
    values = _read(flat, _SPEC, "", problems, [*_TABLES, *passed])
    for key, readers in _TABLES.items():
        if key in given:
            if not isinstance(given[key], Mapping):
                problems.append(f"{key}: is not a table")
                continue
            read = _read(given[key], readers, f"{key}.", problems, ())
            values[key] = attrs.evolve(usual, **read) if key == "limits" else Resources(**read)
    return values, problems


def _lacks(given: object, key: str) -> bool:
    return isinstance(given, Mapping) and key not in given


def _read(
    table: Mapping[Any, Any],
    readers: Mapping[str, Reader],
    place: str,
    problems: list[str],
    others: Iterable[str],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in readers:
            hint = did_you_mean(key, [*readers, *others])
            problems.append(f"{place}{key}: no such key{hint}")
            continue
        try:
            values[key] = readers[key](value)
        except ValueError as error:
            problems.append(f"{place}{key}: {error}")
    return values
