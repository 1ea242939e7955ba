"""The units in ``etc/systemd``: systemd takes them, and they say what the documentation does."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from syndicate.plugins import makers

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "etc/systemd").glob("*.service"))


def parsed(unit: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser


def test_there_is_a_unit_for_each_daemon() -> None:
    assert [unit.name for unit in UNITS] == [
        "syndicate-manager.service",
        "syndicate-volunteer.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_no_fault_with_a_unit(unit: Path, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("there is no systemd-analyze on this machine")
    # It asks for the program of ExecStart, which is not installed here.
    command = parsed(unit)["Service"]["ExecStart"].split()[0]
    program = tmp_path / "twistd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(command, str(program)))
    checked = subprocess.run(
        [verify, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    # Units of the host's own are read too; what is wrong with those is nothing of ours.
    said = [line for line in checked.stderr.splitlines() if unit.stem in line]
    assert said == []


def test_that_check_finds_a_key_that_systemd_does_not_know(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("there is no systemd-analyze on this machine")
    copy = tmp_path / "syndicate-wrong.service"
    copy.write_text("[Service]\nExecStart=/bin/true\nRestartSecs=2\n")
    checked = subprocess.run(
        [verify, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert any("syndicate-wrong" in line for line in checked.stderr.splitlines())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_its_daemon_at_boot_and_for_ever(unit: Path) -> None:
    found = parsed(unit)
    assert found["Install"]["WantedBy"] == "multi-user.target"
    assert found["Service"]["Restart"] == "always"
    assert found["Unit"]["StartLimitIntervalSec"] == "0"
    assert found["Unit"]["After"] == found["Unit"]["Wants"] == "network-online.target"
    words = found["Service"]["ExecStart"].split()
    name = unit.stem.removeprefix("syndicate-")
    assert words[1:] == [
        *("--nodaemon", "--pidfile="),
        *(unit.stem, "--config", f"/etc/syndicate/{name}.toml"),
    ]
    # These are the options that the daemon takes.
    options = {"manager": makers.manager, "volunteer": makers.volunteer}[name].Options()
    options.parseOptions(words[4:])
    assert options["config"] == words[-1]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_keeps_its_state_where_the_example_configuration_does(unit: Path) -> None:
    name = unit.stem.removeprefix("syndicate-")
    example = (ROOT / "etc" / f"{name}.toml").read_text()
    state = re.search(r'^#? ?state *= *"(.+)"', example, re.MULTILINE)
    assert state is not None
    assert state[1] == f"/var/lib/{parsed(unit)['Service']['StateDirectory']}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_page_on_operating_installs_the_units_where_they_look(unit: Path) -> None:
    page = (ROOT / "doc/operating.rst").read_text()
    words = parsed(unit)["Service"]["ExecStart"].split()
    assert f"cp etc/systemd/{unit.name} /etc/systemd/system/" in page
    assert f"systemctl enable --now {unit.stem}" in page
    assert f"cp etc/{Path(words[-1]).name} /etc/syndicate/" in page
    # The program is where the page says to install it.
    assert f"{Path(words[0]).parent}/pip install" in page
