"""What the benchmark finds: figures, their targets, and the table and JSON they are told in."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table


@attrs.frozen
class Peer:
    """What a figure is held against: something measured in the same run, in the same unit."""

    name: str
    value: float


@attrs.frozen
class Figure:
    """One thing that was measured, once for each run."""

    name: str
    values: Sequence[float]
    unit: str
    #: What it is meant to be at most, or at least; None for what only explains other figures.
    target: float | None = None
    #: Whether more is better.
    more: bool = False
    peer: Peer | None = None
    #: How it was measured, where the name does not say so.
    note: str = ""

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        """The value that 95 of 100 are not worse than; with few runs that is the worst."""
        ranked = sorted(self.values, reverse=self.more)
        return ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]

    @property
    def met(self) -> bool | None:
        """Whether the median is as good as its target; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.more else self.median <= self.target

    def plain(self) -> dict[str, Any]:
        """All of it for JSON."""
        peer = self.peer and {**attrs.asdict(self.peer), "ratio": self.median / self.peer.value}
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "p95": self.p95,
            "values": list(self.values),
            "target": self.target,
            "more_is_better": self.more,
            "met": self.met,
            "peer": peer,
            "note": self.note,
        }


def show(console: Console, found: dict[str, list[Figure]], failed: dict[str, str]) -> None:
    """Print the table, and below it what failed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("FIGURE")
    for title in ("RUNS", "MEDIAN", "P95", "TARGET"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("MET", no_wrap=True)
    table.add_column("RATIO", no_wrap=True)
    for family, figures in found.items():
        table.add_row(f"[bold]{family}[/]")
        for figure in figures:
            table.add_row(*_row(figure))
    console.print(table)
    for family, why in failed.items():
        console.print(f"[red bold]{family} did not work:[/] {why}", highlight=False)
    missed = [
        figure.name for figures in found.values() for figure in figures if figure.met is False
    ]
    if missed:
        console.print(f"[red bold]Targets missed:[/] {', '.join(missed)}", highlight=False)


def _row(figure: Figure) -> tuple[str, ...]:
    if figure.target is None:
        target = met = ""
    else:
        target = f"{'>=' if figure.more else '<='} {figure.target:g} {figure.unit}"
        met = "[green]yes[/]" if figure.met else "[red bold]NO[/]"
    ratio = ""
    if figure.peer is not None:
        ratio = f"{figure.median / figure.peer.value:.2f} x {figure.peer.name}"
    note = f"[dim] ({figure.note})[/]" if figure.note else ""
    return (
        f"  {figure.name}{note}",
        str(len(figure.values)),
        f"{_short(figure.median)} {figure.unit}",
        _short(figure.p95) if len(figure.values) > 1 else "",
        target,
        met,
        ratio,
    )


def _short(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"
