"""``syndicate doctor`` against a manager over real HTTPS, and against what is none."""

from __future__ import annotations

import json
import socket
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from syndicate.cli.doctor import cluster
from syndicate.credentials.authority import ensure_authority
from syndicate.lab import state
from tests.support.commands import Commands, Ended
from tests.support.fake_manager import FakeManager

STEPS = ["url", "authority", "name", "tcp", "tls", "manager", "clock", "token", "store"]


def checks(ended: Ended) -> dict[str, dict[str, Any]]:
    """The rows by check."""
    assert ended.err == ""
    return {row["check"]: row for row in json.loads(ended.out)}


def results(ended: Ended) -> dict[str, str]:
    return {check: row["result"] for check, row in checks(ended).items()}


def test_a_cluster_that_can_be_used(syndicate: Commands, fake_manager: FakeManager) -> None:
    ended = syndicate("doctor", "cluster", "-o", "json")
    found = checks(ended)
    assert ended.code == 0
    assert list(found) == [*STEPS, "volunteers"]
    assert fake_manager.url in found["url"]["seen"]
    assert "environment" in found["url"]["seen"]
    assert found["token"]["seen"].startswith("you are ann, role user")
    assert fake_manager.secret not in ended.out
    # Both as the fake has it.
    assert "It is full." in found["store"]["seen"]
    assert found["volunteers"]["result"] == "warn"
    for check in ("url", "authority", "name", "tcp", "tls", "manager", "clock", "token"):
        assert found[check]["result"] == "ok", check
        assert found[check]["advice"] == ""


def test_other_forms_of_output(syndicate: Commands) -> None:
    lines = syndicate("doctor", "cluster", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["check"] for line in lines] == [*STEPS, "volunteers"]
    assert syndicate("doctor", "cluster", "-o", "id").out.split() == [*STEPS, "volunteers"]
    assert syndicate("doctor", "cluster", "-o", "csv").out.startswith(
        "part,check,result,seen,advice\ncluster,url,ok,"
    )
    table = syndicate("doctor", "cluster").out
    assert table.splitlines()[0].split()[:3] == ["PART", "CHECK", "RESULT"]
    store = next(i for i, line in enumerate(table.splitlines()) if line.split()[0] == "store")
    assert table.splitlines()[store + 1].strip().startswith("→ The manager's operator")


def test_no_manager_there(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("SYNDICATE_URL", f"https://127.0.0.1:{port}")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    found = checks(ended)
    assert found["tcp"]["result"] == "fail"
    assert "refused" in found["tcp"]["seen"]
    assert "systemctl status" in found["tcp"]["advice"]
    skipped = [check for check, row in found.items() if row["result"] == "skipped"]
    assert skipped == ["tls", "manager", "clock", "token", "store", "volunteers"]
    assert found["tls"]["seen"] == "not tried, as 'tcp' fails"


def test_one_who_takes_connections_and_says_nothing(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("SYNDICATE_URL", f"https://127.0.0.1:{silent.getsockname()[1]}")
        ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    assert results(ended)["tcp"] == "ok"
    assert results(ended)["tls"] == "fail"


def test_a_name_that_nobody_has(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNDICATE_URL", "https://no-such-host.invalid:7080")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    assert results(ended)["name"] == "fail"


def test_the_authority_of_another_cluster(
    syndicate: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ensure_authority(tmp_path / "other", [])
    monkeypatch.setenv("SYNDICATE_AUTHORITY", str(other.ca_file))
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    assert results(ended)["tls"] == "fail"
    assert "not the manager of the expected cluster" in checks(ended)["tls"]["seen"]


def test_an_authority_that_cannot_be_read(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNDICATE_AUTHORITY", "/nonexistent/ca.pem")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    assert results(ended)["authority"] == "fail"


def test_a_token_that_is_not_known(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNDICATE_TOKEN", "another")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 4
    assert results(ended)["manager"] == "ok"
    assert results(ended)["token"] == "fail"
    assert "another" not in ended.out


def test_no_token_at_all(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNDICATE_TOKEN")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 4
    assert results(ended)["token"] == "fail"


def test_a_clock_that_is_wrong(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    late = formatdate(time.time() + 3600, usegmt=True)
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda *_: late)
    found = checks(syndicate("doctor", "cluster", "-o", "json"))
    assert found["clock"]["result"] == "warn"
    assert "ahead of ours" in found["clock"]["seen"]


def test_a_certificate_that_ends_soon(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results(syndicate("doctor", "cluster", "-o", "json"))["tls"] == "ok"
    monkeypatch.setattr(cluster, "_LATE", 10 * 365 * 86400)
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert results(ended)["tls"] == "warn"
    assert ended.code == 0


def test_several_labs_and_none_is_named(
    syndicate: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNDICATE_URL")
    monkeypatch.setenv("SYNDICATE_LAB_STATE", str(tmp_path / "labs"))
    for name in ("one", "two"):
        directory = state.lab_directory(name)
        directory.mkdir(parents=True)
        about = state.Description(
            name=name,
            stage="up",
            index=0,
            net="10.77.0.0/24",
            gateway="10.77.0.1",
            boot=state.this_boot(),
            url="https://127.0.0.1:1",
            authority="",
            token_file="",
        )
        state.write(directory, about)
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    assert "one, two" in checks(ended)["url"]["seen"]
    assert set(results(ended).values()) == {"fail", "skipped"}


def test_another_version(syndicate: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "__version__", "9.9")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 0
    assert checks(ended)["manager"]["result"] == "warn"


def test_no_cluster_is_a_failure_for_those_who_ask_for_one(
    syndicate: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNDICATE_URL")
    ended = syndicate("doctor", "cluster", "-o", "json")
    assert ended.code == 69
    assert results(ended) == {"url": "fail"}
    assert "lab up" in checks(ended)["url"]["advice"]


@pytest.mark.deadline(40)
def test_no_cluster_is_none_for_others(
    syndicate: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNDICATE_URL")
    ended = syndicate("doctor", "-o", "json")
    assert checks(ended)["url"]["result"] == "skipped"
    assert ended.code in (0, 1)  # as this host is
    assert {"root", "sandbox", "disk room", "labs"} <= set(checks(ended))


def test_settings_with_mistakes(syndicate: Commands, tmp_path: Path) -> None:
    (tmp_path / "syndicate.toml").write_text("uri = 3\n")
    ended = syndicate("doctor", "cluster")
    assert ended.code == 2
    assert "did you mean" in ended.out


def test_a_lab_that_is_not_up(syndicate: Commands) -> None:
    ended = syndicate("--lab", "nosuch", "doctor", "cluster")
    assert ended.code == 69
    assert "lab list" in ended.out
