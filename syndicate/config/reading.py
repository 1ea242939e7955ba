"""Reads a TOML file into a class with its sections; all mistakes are reported at once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from syndicate.domain.errors import Invalid

T = TypeVar("T", bound=attrs.AttrsInstance)


def load(path: Path, kind: type[T]) -> T:
    """Read a file.

    :param kind: has a field for each section, of a class whose fields are made by
        `syndicate.config.values.key`.
    :raises Invalid: what is wrong with the file: every mistake with its place.
    """
    table = _read(path)
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
            problems.append(f"{name}: no such section{_did_you_mean(name, kinds)}")
    if problems:
        listed = "\n  ".join(problems)
        raise Invalid(f"The configuration {path} has mistakes:\n  {listed}", problems=problems)
    return kind(**sections)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Invalid(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The configuration {path} is no TOML: {error}.") from error


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
            problems.append(f"{name}.{key}: no such key{_did_you_mean(key, fields)}")
            continue
        try:
            values[key] = fields[key].metadata["parse"](value)
        except ValueError as error:
            problems.append(f"{name}.{key}: {error}")
    for key, field in fields.items():
        if field.default is attrs.NOTHING and key not in given:
            problems.append(f"{name}.{key}: is missing")
    return None if problems else kind(**values)


def _did_you_mean(word: str, known: Mapping[str, object]) -> str:
    """``; did you mean 'cores'?`` where a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
