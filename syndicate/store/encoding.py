"""Batches as stores keep them: values as compact JSON, taken from the writer at once.

Encoding when the batch is given and not when it is written is what lets a writer go on changing
its values, and what makes two stores agree on them.
"""

from __future__ import annotations

import json
import math

import attrs

from syndicate.domain.errors import Exists, Fenced, Invalid
from syndicate.store.interface import Append, Archive, Batch, Create, Delete, Operation, Plain, Put

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

#: How many batches `IStore.resolve` knows of.
REMEMBERED = 4096


def encode(value: Plain) -> str:
    """A plain value as JSON, in ASCII.

    :raises Invalid: it is not plain.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"This cannot be stored: {error}.") from error


decode = json.JSONDecoder().decode


@attrs.frozen
class Encoded:
    """A batch with its values encoded."""

    id: str
    operations: tuple[tuple[Operation, str], ...]
    term: int


def encoded(batch: Batch, term: int) -> Encoded:
    """The batch as it is now, whatever becomes of its values.

    :raises Invalid: a value is not plain.
    """
    return Encoded(batch.id, tuple(map(_with_value, batch.operations)), term)


def _with_value(operation: Operation) -> tuple[Operation, str]:
    # What a database would choke on is refused here, before it can spoil others' batches.
    if isinstance(operation, Append):
        _require(0 < operation.job < 1 << 63 and 0 < operation.n < 1 << 63, operation)
    else:
        _require(_is_text(operation.kind) and _is_text(operation.key), operation)
    if isinstance(operation, Archive):
        _require(_is_text(operation.label), operation)
        _require(operation.until is None or math.isfinite(operation.until), operation)
    match operation:
        case Delete():
            return operation, ""
        case Put(value=value) | Create(value=value) | Archive(value=value) | Append(value=value):
            return operation, encode(value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require(good: bool, operation: Operation) -> None:
    if not good:
        raise Invalid(f"This cannot be stored under its key: {operation!r}.")


def fenced(mine: int, present: int) -> Fenced:
    """The error for a write in a term that is not the present one.

    :param present: 0 when nobody leads.
    """
    state = f"the present one is {present}" if present else "nobody leads now"
    return Fenced(
        f"A change of term {mine} was refused: {state}. This manager must stop.",
        term=mine,
        present=present,
    )


def exists(operation: Create | Append) -> Exists:
    """The error for what was to be new and is there already."""
    if isinstance(operation, Append):
        kind, key = "event", f"{operation.job}/{operation.n}"
    else:
        kind, key = operation.kind, operation.key
    return Exists(f"The {kind} record {key!r} exists already.", kind=kind, key=key)
