"""Lines of output as people see them: which machine, when, and nothing that fools a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import click

from syndicate.cli.output import visible

_COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "bright_green", "bright_cyan")


def write_out(text: str) -> None:
    """Print on standard output as it is."""
    sys.stdout.write(text)


class LogPrinter:
    """Prints lines of output.

    :param write: takes the text, line ends included.
    :param names: of the machines that are known, to leave room for.
    :param prefix: whether each line begins with its machine's name.
    :param times: whether each line begins with its time.
    :param colored: whether names have colours.
    :param raw: whether the text is printed as it is; for a terminal it must not be.
    """

    def __init__(
        self,
        write: Callable[[str], None] = write_out,
        *,
        names: Iterable[str] = (),
        prefix: bool = True,
        times: bool = False,
        colored: bool = False,
        raw: bool = True,
    ) -> None:
        self._write, self._prefix, self._times = write, prefix, times
        self._colored, self._raw = colored, raw
        self._width = max(map(len, names), default=0)
        self._colours: dict[str, str] = {}
        #: Where the line goes on whose end has not come yet.
        self._open: tuple[str, str] | None = None

    def print(self, record: Mapping[str, Any]) -> None:
        """Print one line, or a piece of a very long one."""
        source = (record["machine"], record["stream"])
        text = record["line"] if self._raw else visible(record["line"])
        head = ""
        if self._open != source:
            head = ("\n" if self._open else "") + self._head(record)
        self._open = source if record["partial"] else None
        self._write(head + text + ("" if record["partial"] else "\n"))

    def close(self) -> None:
        """End a line that is open."""
        if self._open:
            self._write("\n")
            self._open = None
        sys.stdout.flush()

    def _head(self, record: Mapping[str, Any]) -> str:
        parts = []
        if self._times:
            local = datetime.fromisoformat(record["at"]).astimezone()
            parts.append(local.isoformat(" ", "milliseconds")[:-6] + " ")
        if self._prefix:
            machine = record["machine"]
            self._width = max(self._width, len(machine))
            name = f"{machine:<{self._width}} | "
            parts.append(click.style(name, fg=self._colour(machine)) if self._colored else name)
        return "".join(parts)

    def _colour(self, machine: str) -> str:
        if machine not in self._colours:
            self._colours[machine] = _COLOURS[len(self._colours) % len(_COLOURS)]
        return self._colours[machine]


class JsonPrinter:
    """Prints lines of output as the API tells them: one JSON object a line."""

    def print(self, record: Mapping[str, Any]) -> None:
        """Print one."""
        write_out(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Nothing is held back."""
        sys.stdout.flush()


class JsonListPrinter(JsonPrinter):
    """Prints lines of output as one list of JSON, as they come."""

    def __init__(self) -> None:
        self._before = "[\n"

    def print(self, record: Mapping[str, Any]) -> None:
        """Print one."""
        write_out(self._before + json.dumps(record, ensure_ascii=False))
        self._before = ",\n"

    def close(self) -> None:
        """End the list."""
        write_out("[]\n" if self._before == "[\n" else "\n]\n")
        super().close()
