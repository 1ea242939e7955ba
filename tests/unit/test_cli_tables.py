"""How tables fit a terminal: what a row is named by is never cut short for what can be spared."""

from __future__ import annotations

import io
import os
from typing import Any

import click
import pytest
from rich.console import Console

from syndicate.cli.listings import AUDIT
from syndicate.cli.output import Listing, make_table, write_facts
from syndicate.cli.verbs.fault import FAULTS
from syndicate.domain.fault import say_kind

FAULT: dict[str, Any] = {
    "id": "f10",
    "kind": "disconnect",
    "amount": None,
    "with_disk": None,
    "machines": ["slave[0]"],
    "by": "client[0]",
    "state": "verified",
    "requested_at": "2026-01-01T00:00:00.000000Z",
    "applied_at": "2026-01-01T00:00:01.000000Z",
    "verified_at": "2026-01-01T00:00:01.000000Z",
    "healed_at": None,
    "note": "",
}
ENTRY = {
    "at": "2026-01-01T00:00:00.000000Z",
    "who": "operator",
    "role": "operator",
    "did": "revoke token",
    "on": "token d49ab258e5dd",
    "outcome": "done",
    "address": "10.77.3.1",
    "token": "",
    "details": {},
}


def drawn(monkeypatch: pytest.MonkeyPatch, listing: Listing, row: Any, width: int) -> list[str]:
    """The lines of a table on a terminal of a width."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
    stream = io.StringIO()
    columns = [column for column in listing.columns if not column.wide]
    Console(file=stream, width=width, color_system=None).print(
        make_table(columns, [row], fitted=True)
    )
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_faults_of_a_job_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    title, row = drawn(monkeypatch, FAULTS, FAULT, 80)
    assert row.split()[:3] == ["f10", "disconnect", "slave[0]"]
    assert "verified" in row
    assert "…" not in title + row


def test_a_wide_terminal_shows_all_of_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    title, row = drawn(monkeypatch, FAULTS, FAULT, 140)
    assert "VERIFIED" in title
    assert row.split()[-2:] == ["1s", "1s"]
    assert "client[0]" in row


def test_many_machines_of_a_fault_are_broken_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machines = ["master", *(f"slave[{n}]" for n in range(9))]
    lines = drawn(monkeypatch, FAULTS, FAULT | {"machines": machines}, 80)
    assert lines[1].startswith("f10")
    assert set(machines) <= {word for line in lines for word in line.split()}


def test_the_audit_log_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    title, row = drawn(monkeypatch, AUDIT, ENTRY, 80)
    assert "…" not in title + row
    for word in ("operator", "revoke token", "token d49ab258e5dd", "done"):
        assert word in row


@pytest.mark.parametrize(
    ("kind", "amount", "with_disk", "said"),
    [
        ("kill", None, None, "kill"),
        ("revive", None, True, "revive, disk kept"),
        ("revive", None, False, "revive, disk emptied"),
        ("loss", 20.0, None, "loss 20%"),
        ("rate", 102400.0, None, "rate 100K/s"),
        ("delay", 0.05, None, "delay 50ms"),
        ("delay", 90.0, None, "delay 1m30s"),
        ("partition", 0.0, None, "partition"),
    ],
)
def test_a_fault_is_shown_with_how_much_of_it(
    kind: str, amount: float | None, with_disk: bool | None, said: str
) -> None:
    assert say_kind(kind, amount, with_disk) == said


def test_facts_are_broken_between_words_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ["cores", "cpu", "disk", "files", "inodes", "memory", "output", "pids", "scope"]
    path = "/var/lib/syndicate/" + "x" * 90
    facts = {"state": "free", "why": "", "enforces": ", ".join(limits), "file": path}
    write_facts(facts)
    assert capsys.readouterr().out.splitlines()[1] == f"enforces  {', '.join(limits)}"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((50, 24)))
    write_facts(facts)
    assert click.unstyle(capsys.readouterr().out).splitlines() == [
        "state     free",
        "enforces  cores, cpu, disk, files, inodes, memory,",
        "          output, pids, scope",
        f"file      {path}",
    ]
