"""The job file: TOML that says what a job is. All mistakes in it are told at once.

What the values may be is said by `syndicate.domain.spec`, for the JSON API too; here are the keys
that only a file has, and those that are yet to come.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from syndicate.config.reading import read_toml
from syndicate.domain.errors import InvalidJob, NotFound
from syndicate.domain.spec import spec_values

#: What a directory's own job file is called.
FILE_NAME = "job.toml"

SCHEMA = 1

#: Keys of job files that this version does not have yet.
NOT_YET = (
    *("place", "retry", "repeat", "faults", "priority", "preemptible"),
    "user",
)


@attrs.frozen
class Draft:
    """A job as it is wanted, without its source's digest: that is known once it is packed."""

    #: As the JSON API takes it.
    spec: dict[str, Any]
    #: Directory or tarball.
    source: Path
    #: That of its own benchmark client, if it brings one.
    client: Path | None = None


def draft(path: Path, settings: Sequence[tuple[str, Any]]) -> Draft:
    """What to submit for a path: a job file, a directory (with its own job file, if there is one)
    or a tarball.

    :param settings: ``(key, value)`` that go before the file's; ``limits.wall`` is in a table.
    :raises InvalidJob: the mistakes in the file, or in the settings.
    :raises NotFound: there is nothing of that name.
    """
    file = _file_of(path)
    table = _read(file) if file else {}
    for key, value in settings:
        _put(table, key, value)
    problems = _own_problems(table)
    of_the_file = ("schema", "source", "client", *NOT_YET)
    _, mistakes = spec_values(table, also=of_the_file)
    problems += mistakes
    if problems:
        where = str(file or "the command line")
        listed = "\n  ".join(problems)
        raise InvalidJob(f"The job cannot be as {where} has it:\n  {listed}", problems=problems)
    source = file.parent / table["source"] if file else path
    spec = {key: value for key, value in table.items() if key not in of_the_file}
    spec.setdefault("name", default_name(source))
    return Draft(spec, source, _client(table, file, {key for key, _ in settings}))


def _client(table: dict[str, Any], file: Path | None, set_by_hand: set[str]) -> Path | None:
    """Where the client's source is: beside the job file, unless it was given by hand."""
    if "client" not in table:
        return None
    given = Path(table["client"]["source"])
    return given if file is None or "client.source" in set_by_hand else file.parent / given


def _file_of(path: Path) -> Path | None:
    if path.is_dir():
        own = path / FILE_NAME
        return own if own.is_file() else None
    if not path.exists():
        raise NotFound(f"There is no {path}: give a job file, a directory or a tarball.")
    return path if path.suffix == ".toml" else None


def _read(path: Path) -> dict[str, Any]:
    table = read_toml(path, "job file", InvalidJob)
    table.setdefault("source", ".")
    return table


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for name in outer:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InvalidJob(f"{key!r} cannot be set: {name!r} is not a table.")
    table[last] = value


def _own_problems(table: dict[str, Any]) -> list[str]:
    problems = [f"{key}: not in this version" for key in NOT_YET if key in table]
    schema = table.get("schema", SCHEMA)
    if schema != SCHEMA or type(schema) is not int:
        problems.append(f"schema: {schema!r} is not {SCHEMA}, the one that this version reads")
    client = table.get("client", {"source": "."})
    if not isinstance(client, dict) or set(client) != {"source"}:
        problems.append("client: is a table with the key 'source'")
    elif not isinstance(client["source"], str) or not client["source"]:
        problems.append(f"client.source: {client['source']!r} is not a path")
    source = table.get("source", ".")
    if not isinstance(source, str) or not source:
        problems.append(f"source: {source!r} is not the path of a directory or a tarball")
    return problems


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE`` as ``--set`` takes it; the value is TOML, or else text.

    :raises ValueError: it has no ``=``.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ValueError(f"{text!r} is not KEY=VALUE, such as limits.wall=20m")
    if key.startswith("env."):
        return key, value
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def default_name(source: Path) -> str:
    """A name for a job that has none: its source's, without the endings of tarballs."""
    name = source.resolve().name
    for ending in (".gz", ".tgz", ".xz", ".bz2", ".zst", ".tar"):
        name = name.removesuffix(ending)
    return name or "job"
