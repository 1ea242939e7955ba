"""A report for people at a terminal, as things that rich can print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from syndicate.domain.fault import say_kind
from syndicate.domain.quantities import say_span
from syndicate.report.figures import Figures
from syndicate.report.values import FaultReport, MachineReport, Report

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

#: Of a column: its title, and whether it holds numbers.
Columns = Sequence[tuple[str, bool]]

_MACHINES: Columns = (
    *(("MACHINE", False), ("VOLUNTEER", False), ("ADDRESS", False), ("OUTCOME", False)),
    *(("STARTS", True), ("RESULT", False)),
)
_FAULTS: Columns = (
    *(("FAULT", False), ("KIND", False), ("MACHINES", False), ("BY", False), ("STATE", False)),
    *(("AT", True), ("APPLIED", True), ("VERIFIED", True), ("LASTED", True)),
)
_SEEN: Columns = (
    *(("SEEN OF", False), ("KIND", False), ("MACHINES", False)),
    *(("ERRORS", True), ("FIRST ERROR", True), ("RECOVERY", True), ("OUTAGE", True)),
)
#: Columns that may be broken into several lines, where a terminal is narrow.
_BROKEN = frozenset({"RESULT", "MACHINES", "KIND", "DURING"})
#: Characters that names of machines and kinds have in them without a place to break.
_WORD = {"MACHINES": 9, "KIND": 10, "DURING": 13}
_OPERATIONS: Columns = (
    *(("DURING", False), ("OPERATION", False), ("COUNT", True), ("ERRORS", True)),
    *(("P50", True), ("P95", True), ("P99", True), ("SLOWEST", True)),
)


def render(
    report: Report,
    *,
    shown: Callable[[str], str],
    styles: Mapping[str, str],
    wide: bool = False,
    gap: int = 2,
) -> list[RenderableType]:
    """The report, from top to bottom.

    :param shown: makes text of jobs harmless to a terminal.
    :param styles: the colours of states and outcomes.
    :param wide: whether notes and marks are shown too.
    :param gap: characters between columns.
    """
    printer = _Printer(shown, styles, gap)
    found: list[RenderableType] = [printer.head(report), ""]
    found += [printer.table(_MACHINES, map(_machine, report.machines)), ""]
    if report.faults:
        rows = (_fault(fault, report.started_at) for fault in report.faults)
        found += [printer.table(_FAULTS, rows), ""]
    if seen := [fault for fault in report.faults if fault.aftermath is not None]:
        found += [printer.table(_SEEN, map(_seen, seen)), ""]
    if report.operations:
        found.append(printer.table(_OPERATIONS, _operations(report)))
    else:
        found.append("No client has measured anything.")
    if report.unreadable:
        found.append(f"{report.unreadable} lines of the samples could not be read.")
    if wide:
        found += ["", *printer.notes(report)]
    return found


class _Printer:
    """Makes what rich prints.

    :param shown: makes text harmless.
    :param styles: the colours of words.
    :param gap: characters between columns.
    """

    def __init__(self, shown: Callable[[str], str], styles: Mapping[str, str], gap: int) -> None:
        self._shown, self._styles = shown, styles
        self._padding = (0, gap, 0, 0)

    def head(self, report: Report) -> RenderableType:
        from rich.text import Text

        verdict = report.outcome or report.state
        after = "" if report.seconds is None else f" after {say_span(report.seconds)}"
        over = f", over its {report.limit} limit" if report.limit else ""
        return Text.assemble(
            f"Job {report.job} ({self._shown(report.name)}) of {self._shown(report.user)}: ",
            (verdict, f"bold {self._styles.get(verdict, '')}".strip()),
            f"{after}{over}\n{self._shown(report.reason)}",
        )

    def table(self, columns: Columns, rows: Iterable[Sequence[str]]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=self._padding)
        for title, number in columns:
            table.add_column(
                title,
                justify="right" if number else "left",
                no_wrap=title not in _BROKEN,
                min_width=_WORD.get(title),
                overflow="fold",
            )
        for row in rows:
            texts = map(self._shown, row)
            table.add_row(*(Text(text, style=self._styles.get(text, "")) for text in texts))
        return table

    def notes(self, report: Report) -> Iterator[RenderableType]:
        from rich.text import Text

        told = [(mark.at, f"{mark.by} marks: {mark.name}") for mark in report.marks]
        told += [
            (fault.applied_at or fault.requested_at or 0.0, f"{fault.fault}: {_note(fault)}")
            for fault in report.faults
            if _note(fault)
        ]
        for at, text in sorted(told):
            yield Text(f"{_since(report.started_at, at):>9}  {self._shown(text)}")


def _note(fault: FaultReport) -> str:
    """What proved it, and what ended it."""
    ended = f"healed, {fault.ended}" if fault.ended else ""
    return "; ".join(part for part in (fault.note, ended) if part)


def _machine(machine: MachineReport) -> Sequence[str]:
    result = machine.result
    said = ""
    if result is not None:
        score = "" if result.score is None else f", score {result.score:g}"
        said = ("passed" if result.passed else "failed") + score
        said += f": {result.notes}" if result.notes else ""
    elif machine.role == "client" and machine.state in ("exited", "killed", "lost"):
        said = "no finish"
    return (
        *(machine.machine, machine.volunteer, machine.address),
        *(machine.outcome or machine.state, str(machine.starts), said),
    )


def _kind(fault: FaultReport) -> str:
    return say_kind(fault.kind, fault.amount, fault.with_disk)


def _fault(fault: FaultReport, started: float | None) -> Sequence[str]:
    begin = fault.window
    return (
        *(fault.fault, _kind(fault), " ".join(fault.machines), fault.by, fault.state),
        _since(started, fault.applied_at or fault.requested_at),
        _between(fault.requested_at, fault.applied_at),
        _between(fault.requested_at, fault.verified_at),
        "" if begin is None else say_span(begin[1] - begin[0]),
    )


def _seen(fault: FaultReport) -> Sequence[str]:
    """What the clients saw of a fault."""
    after = fault.aftermath
    assert after is not None, "only such faults are shown"
    recovery = "never" if after.errors and after.recovery is None else _span(after.recovery)
    return (
        *(fault.fault, _kind(fault), " ".join(fault.machines), f"{after.errors:,}"),
        *(_span(after.first_error), recovery, _span(after.outage)),
    )


def _operations(report: Report) -> Iterator[Sequence[str]]:
    for found in report.operations:
        yield _figures("the whole job", found)
    for fault in report.faults:
        for found in fault.operations:
            during = f"{fault.fault} {fault.kind} {' '.join(fault.machines)}"
            yield _figures(during, found)


def _figures(during: str, found: Figures) -> Sequence[str]:
    times = (found.p50, found.p95, found.p99, found.slowest)
    return (
        *(during, found.op, f"{found.count:,}", f"{found.errors:,}"),
        *("" if ms is None else say_span(ms / 1000) for ms in times),
    )


def _span(seconds: float | None) -> str:
    return "" if seconds is None else say_span(seconds)


def _between(first: float | None, second: float | None) -> str:
    return "" if first is None or second is None else say_span(second - first)


def _since(start: float | None, moment: float | None) -> str:
    return "" if start is None or moment is None else f"{moment - start:+.2f}s"
