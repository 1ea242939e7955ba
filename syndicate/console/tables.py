"""What words of a console answer: values that show themselves as tables."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from syndicate.domain import harmless

T = TypeVar("T")

#: Characters of the widest cell.
WIDEST = 100
#: Characters that a column has at the least, however narrow a terminal is.
LEAST = 8
#: Characters that a column of sentences should have.
SENTENCE = 26

_BENEATH = "    "
_DAY = re.compile(r"\b\d{4}-\d\d-\d\dT(?=\d)")


def visible(value: object) -> str:
    """A value as text without control characters."""
    return "" if value is None else harmless.visible(str(value))


def moment(timestamp: str | None, places: int = 0) -> str:
    """A time of the API for people to read.

    :param places: of its seconds.
    """
    return "" if timestamp is None else timestamp[: 19 + (places and places + 1)] + "Z"


class Shown:
    """A value that shows itself, and fits a terminal."""

    __slots__ = ()

    def fit(self, width: int | None) -> str:
        """As text, in lines of so many characters; None where nothing has to fit."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.fit(None)


def fitted(value: object, width: int | None) -> str:
    """A value as text, in lines of so many characters if it can be."""
    return value.fit(width) if isinstance(value, Shown) else repr(value)


class Table(Shown, list[T], Generic[T]):
    """A list of values that shows itself as a table, with a row for each."""

    def __init__(
        self, values: Iterable[T], row: Callable[[T], Mapping[str, object]], empty: str = "Nothing."
    ) -> None:
        super().__init__(values)
        self._row, self._empty = row, empty

    def fit(self, width: int | None) -> str:
        """See `Shown.fit`; the widest columns are broken into lines."""
        rows = [self._row(value) for value in self]
        return lines_up(list(rows[0]), rows, width) if rows else self._empty


class Facts(Shown, Generic[T]):
    """A value that shows itself as a list of facts; whatever else is asked of it, it answers."""

    def __init__(self, value: T, facts: Mapping[str, object], *more: object) -> None:
        self._value, self._facts, self._more = value, facts, more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)

    def fit(self, width: int | None) -> str:
        """See `Shown.fit`; long facts are broken between words."""
        names = max(map(len, self._facts), default=0)
        room = None if width is None else max(width - names - 2, LEAST)
        lines = []
        for name, value in self._facts.items():
            if value not in (None, ""):
                first, *rest = _broken(visible(value), room)
                lines += [f"{name:{names}}  {first}", *(f"{'':{names}}  {line}" for line in rest)]
        return "\n".join([*lines, *(fitted(each, width) for each in self._more)])


class Text(Shown, str):
    """A text that shows itself without quotes."""

    __slots__ = ()

    def fit(self, width: int | None) -> str:
        """See `Shown.fit`."""
        return "\n".join(
            line for text in self.splitlines() for line in _broken(visible(text), width)
        )


def lines_up(
    columns: Sequence[str], rows: Sequence[Mapping[str, object]], width: int | None = None
) -> str:
    """Rows as lines of text with columns under each other.

    :param width: characters that a line has at the most; what is wider is broken into several.
    """
    cells = [[column.upper() for column in columns]]
    cells += [[_short(visible(row.get(column))) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    beneath = width is not None and _fit(widths, width)
    lines = []
    for line in cells:
        shown = line[:-1] if beneath else line
        broken = [_broken(cell, room) for cell, room in zip(shown, widths, strict=not beneath)]
        for texts in itertools.zip_longest(*broken, fillvalue=""):
            lines.append("  ".join(map(str.ljust, texts, widths)).rstrip())
        if beneath and line[-1]:
            room = None if width is None else width - len(_BENEATH)
            lines += [_BENEATH + text for text in _broken(line[-1], room)]
    return "\n".join(lines)


def _fit(widths: list[int], width: int) -> bool:
    """Make columns fit a line. Tells whether that takes the last one, which is the longest as a
    rule, to lines of its own beneath the others.
    """
    *others, last = widths
    rest = width - sum(others) - 2 * len(others)
    if last <= rest:
        return False
    if rest >= SENTENCE or not others:
        widths[-1] = max(rest, LEAST)
        return False
    _narrow(others, width)
    widths[:-1] = others
    return True


def _narrow(widths: list[int], width: int) -> None:
    """Take from the widest columns what a line of them has too much."""
    over = sum(widths) + 2 * (len(widths) - 1) - width
    while over > 0 and (widest := max(widths)) > LEAST:
        widths[widths.index(widest)] -= 1
        over -= 1


def _broken(text: str, room: int | None) -> list[str]:
    """A text in lines of so many characters, broken between words where that can be."""
    if room is None or len(text) <= room:
        return [text]
    # A time is best broken between its date and the rest.
    text = _DAY.sub(r"\g<0> ", text)
    return textwrap.wrap(text, room, break_on_hyphens=False) or [""]


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
