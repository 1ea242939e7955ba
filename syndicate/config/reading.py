"""Reads a TOML file into a class with its sections; all mistakes are reported at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import attrs

from syndicate.domain.errors import Invalid
from syndicate.domain.values import did_you_mean

T = TypeVar("T", bound=attrs.AttrsInstance)


def load(path: Path, kind: type[T]) -> T:
    """Read a file.

    :param kind: has a field for each section, of a class whose fields are made by
        `syndicate.config.values.key`.
    :raises Invalid: what is wrong with the file: every mistake with its place.
    """
    table = read_toml(path)
    attrs.resolve_types(kind)
    kinds = {field.name: field.type for field in attrs.fields(kind)}
    problems: list[str] = []
    sections = {
        name: _section(section, table.get(name, {}), name, problems)
        for name, section in kinds.items()
        if section is not None
    }
    for name in table:
        if name not in kinds:
            problems.append(f"{name}: no such section{did_you_mean(name, kinds)}")
    if problems:
        raise mistaken(path, problems)
    return kind(**sections)


def read_toml(
    path: Path, what: str = "configuration", error: type[Invalid] = Invalid
) -> dict[str, Any]:
    """The table that a file holds.

    :param what: what it is, for people.
    :param error: what to raise if it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as failure:
        raise error(f"The {what} {path} cannot be read: {failure.strerror}.") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise error(f"The {what} {path} is no TOML: {failure}.") from failure


def mistaken(path: Path, problems: list[str]) -> Invalid:
    """The error for a configuration with mistakes."""
    listed = "\n  ".join(problems)
    return Invalid(f"The configuration {path} has mistakes:\n  {listed}", problems=problems)


def _section(
    kind: type[attrs.AttrsInstance], given: object, name: str, problems: list[str]
) -> attrs.AttrsInstance | None:
    """The section as its class, or None where a problem was found before or in it."""
    if not isinstance(given, dict):
        problems.append(f"{name}: is not a section; write [{name}] above its keys")
        return None
    fields = {field.name: field for field in attrs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            problems.append(f"{name}.{key}: no such key{did_you_mean(key, fields)}")
            continue
        try:
            values[key] = fields[key].metadata["parse"](value)
        except ValueError as error:
            problems.append(f"{name}.{key}: {error}")
    for key, field in fields.items():
        if field.default is attrs.NOTHING and key not in given:
            problems.append(f"{name}.{key}: is missing")
    return None if problems else kind(**values)
