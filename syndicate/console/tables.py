"""What words of a console answer: values that show themselves as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from syndicate.domain import harmless

T = TypeVar("T")

#: Characters of the widest cell.
WIDEST = 100


def visible(value: object) -> str:
    """A value as text without control characters."""
    return "" if value is None else harmless.visible(str(value))


def moment(timestamp: str | None, places: int = 0) -> str:
    """A time of the API for people to read.

    :param places: of its seconds.
    """
    return "" if timestamp is None else timestamp[: 19 + (places and places + 1)] + "Z"


class Table(list[T], Generic[T]):
    """A list of values that shows itself as a table, with a row for each."""

    def __init__(
        self, values: Iterable[T], row: Callable[[T], Mapping[str, object]], empty: str = "Nothing."
    ) -> None:
        super().__init__(values)
        self._row, self._empty = row, empty

    def __repr__(self) -> str:
        rows = [self._row(value) for value in self]
        return lines_up(list(rows[0]), rows) if rows else self._empty


class Facts(Generic[T]):
    """A value that shows itself as a list of facts; whatever else is asked of it, it answers."""

    def __init__(self, value: T, facts: Mapping[str, object], *more: object) -> None:
        self._value, self._facts, self._more = value, facts, more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)

    def __repr__(self) -> str:
        width = max(map(len, self._facts), default=0)
        lines = [
            f"{name:{width}}  {visible(value)}"
            for name, value in self._facts.items()
            if value not in (None, "")
        ]
        return "\n".join([*lines, *map(repr, self._more)])


class Text(str):
    """A text that shows itself without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(map(visible, self.splitlines()))


def lines_up(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as lines of text with columns under each other."""
    cells = [[column.upper() for column in columns]]
    cells += [[_short(visible(row.get(column))) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
