"""``syndicate-fault`` and its command lines, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syndicate.client import fault


@pytest.fixture(autouse=True)
def no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNDICATE_SOCKET", raising=False)


def asked(*words: str) -> list[tuple[str, str, Any]]:
    """What a command line asks for."""
    found = fault.requests(*fault.read(list(words)))
    return [(method, path, json.loads(body) if body else None) for method, path, body in found]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("kill slave[1]", [("/v1/faults/kill", {"machine": "slave[1]"})]),
        (
            "kill 10.0.0.3 slave0",
            [("/v1/faults/kill", {"ip": "10.0.0.3"}), ("/v1/faults/kill", {"machine": "slave0"})],
        ),
        (
            "revive slave1 --no-disk",
            [("/v1/faults/revive", {"machine": "slave1", "with_disk": False})],
        ),
        ("revive slave1", [("/v1/faults/revive", {"machine": "slave1", "with_disk": True})]),
        (
            "disconnect master --for 10s",
            [("/v1/faults/disconnect", {"machine": "master", "for": "10s"})],
        ),
        (
            "disconnect --for=10s master",
            [("/v1/faults/disconnect", {"machine": "master", "for": "10s"})],
        ),
        (
            "partition master,slave0 slave1",
            [("/v1/faults/partition", {"groups": [["master", "slave0"], ["slave1"]]})],
        ),
        (
            "partition a,b,c,d --shape ring",
            [("/v1/faults/partition", {"groups": [["a", "b", "c", "d"]], "shape": "ring"})],
        ),
        ("loss 30% master", [("/v1/faults/loss", {"machine": "master", "percent": 30.0})]),
        ("rate 100K master", [("/v1/faults/rate", {"machine": "master", "rate": "100K"})]),
        (
            "delay 50ms master --for 5s",
            [("/v1/faults/delay", {"machine": "master", "delay": "50ms", "for": "5s"})],
        ),
        ("heal", [("/v1/heal", {})]),
        ("heal f3", [("/v1/faults/heal", {"id": "f3"})]),
        ("mark -- --odd-name", [("/v1/marks", {"name": "--odd-name"})]),
        ("finish", [("/v1/finish", {"passed": True})]),
        (
            "finish --failed --score -1.5 --notes=why",
            [("/v1/finish", {"passed": False, "score": -1.5, "notes": "why"})],
        ),
    ],
)
def test_a_command_line_is_one_request_or_more(
    line: str, wanted: list[tuple[str, dict[str, Any]]]
) -> None:
    assert asked(*line.split()) == [("POST", path, body) for path, body in wanted]


def test_options_may_stand_anywhere() -> None:
    assert asked("-o", "json", "job") == asked("job", "-o", "json") == [("GET", "/v1/job", None)]
    assert fault.read(["job", "-o=json"])[2]["json"]
    assert not fault.read(["job"])[2]["json"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "melt slave0",
        "kill",
        "kill slave0 --no-disk",
        "kill slave0 --for",
        "kill slave0 -x",
        "job slave0",
        "job -o yaml",
        "loss 30",
        "loss many master",
        "partition",
        "mark",
        "mark a b",
        "sample put",
        "sample put soon",
        "sample put -1",
        "finish now",
        "finish --passed --failed",
        "finish --score good",
        "--for 10s kill slave0",
    ],
)
def test_wrong_use_is_told_and_ends_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Whoever uses it wrongly is told so, whether there is a door or not.
    with pytest.raises(fault.Misuse):
        asked(*line.split())
    assert fault.main(line.split()) in (fault.USAGE, fault.NO_DOOR)
    assert capsys.readouterr().err.startswith("syndicate-fault: ")


def test_no_door_ends_with_69(capsys: pytest.CaptureFixture[str]) -> None:
    assert fault.main(["job"]) == 69
    assert "SYNDICATE_SOCKET" in capsys.readouterr().err


def test_the_help_names_every_verb_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert fault.main(["--help"]) == 0
    said = capsys.readouterr().out
    for verb, options in fault.OPTIONS.items():
        for word in (verb, *options):
            assert word in said
