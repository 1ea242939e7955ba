"""``make bench``: measures, prints a table, and writes JSON.

Other programs share the machine, so every figure is a median, and stands beside what the machine
itself could do in the same minutes. A target that is missed is shown and is no error; the exit
code is 1 only when something did not work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import attrs
import psutil
from rich.console import Console

from bench import (
    calibration,
    distribution,
    faults,
    gang,
    history,
    lab,
    output,
    swarm,
    throughput,
)
from bench.figures import Figure, show
from bench.session import Session, bound, session

FAMILIES: dict[str, ModuleType] = {
    "calibration": calibration,
    "lab": lab,
    "gang": gang,
    "throughput": throughput,
    "faults": faults,
    "output": output,
    "distribution": distribution,
    "swarm": swarm,
    "history": history,
}

#: Columns of the table where there is no terminal to tell.
PAPER = 150

#: Per cent of the processors that others may use without being told of.
CALM = 25

RESULTS = Path(__file__).parent / "results"


@attrs.define
class Results:
    """What has been found so far."""

    found: dict[str, list[Figure]] = attrs.field(factory=dict)
    failed: dict[str, str] = attrs.field(factory=dict)
    #: Per cent of the processors that others used in the second before each family began.
    taken: dict[str, float] = attrs.field(factory=dict)

    def plain(self) -> dict[str, object]:
        """All of it for JSON."""
        figures = {name: [f.plain() for f in figures] for name, figures in self.found.items()}
        return {"figures": figures, "failed": self.failed, "taken_by_others": self.taken}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; returns the exit code."""
    options = _options(arguments)
    if os.geteuid() != 0:
        sys.stderr.write("The benchmark makes network namespaces: run it as root.\n")
        return 1
    console = Console()
    if not console.is_terminal:
        console = Console(width=PAPER)
    began, before = datetime.now(UTC), os.getloadavg()
    results = Results()
    try:
        with session(options.runs) as found:
            for name in ["calibration", *options.only]:
                _measure(found, name, results, console)
    except KeyboardInterrupt:
        console.print("Interrupted; everything was taken away.")
        return 130
    after = os.getloadavg()
    show(console, results.found, results.failed)
    console.print(f"Load of the machine: {_load(before)} before, {_load(after)} after.")
    if max(results.taken.values()) > CALM:
        console.print("[yellow]Others kept the processors busy: alone, we are faster.[/]")
    path = options.json or RESULTS / f"{began:%Y-%m-%dT%H-%M-%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "began": began.isoformat(),
        "runs": options.runs,
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
        "python": platform.python_version(),
        "load": {"before": before, "after": after},
    }
    path.write_text(json.dumps({**about, **results.plain()}, indent=1) + "\n")
    console.print(f"All values: {path}")
    return 1 if results.failed else 0


def _load(averages: tuple[float, ...]) -> str:
    return " ".join(f"{average:.2f}" for average in averages)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure Syndicate.")
    names = [name for name in FAMILIES if name != "calibration"]
    parser.add_argument(
        "--only", action="append", choices=names, help="a family of figures; may come again"
    )
    parser.add_argument("--runs", type=int, default=10, help="of what is quick (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the values go")
    options = parser.parse_args(arguments)
    options.only = options.only or names
    options.runs = max(1, options.runs)
    return options


def _measure(found: Session, name: str, results: Results, console: Console) -> None:
    family = FAMILIES[name]
    results.taken[name] = psutil.cpu_percent(1.0)
    began = time.monotonic()
    try:
        with bound(family.BOUND):
            results.found[name] = family.measure(found)
    except Exception as error:  # noqa: BLE001  (the others are measured all the same)
        results.failed[name] = f"{type(error).__name__}: {error}"
        found.drop_lab()
    how = "did not work" if name in results.failed else "done"
    took, taken = time.monotonic() - began, results.taken[name]
    console.print(f"[dim]{name}: {how} after {took:.1f} s; others had {taken:.0f} % before it[/]")


if __name__ == "__main__":
    sys.exit(main())
