"""What the documentation and the files in etc/ say is so."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from syndicate import config
from syndicate.domain import errors, events
from syndicate.domain.job import JobState, Limits, MachineState, Outcome
from syndicate.domain.quantities import parse_size, parse_span
from syndicate.domain.volunteer import VolunteerState

ROOT = Path(__file__).parents[2]
ETC, DOC = ROOT / "etc", ROOT / "doc"


def page(name: str) -> str:
    return (DOC / f"{name}.rst").read_text("utf-8")


def with_defaults_spelt_out(name: str, tmp_path: Path) -> Path:
    """A file of etc/ in which the defaults, shown as comments, are no comments any more."""
    text = (ETC / name).read_text("utf-8")
    full = tmp_path / name
    full.write_text(re.sub(r"(?m)^# (?=\w+ = )", "", text))
    assert full.read_text() != text
    return full


def test_the_managers_example_shows_every_key_and_its_default(tmp_path: Path) -> None:
    full = with_defaults_spelt_out("manager.toml", tmp_path)
    assert config.load_manager(ETC / "manager.toml") == config.ManagerConfig()
    assert config.load_manager(full) == config.ManagerConfig()
    assert_shows_every_key(full, config.ManagerConfig)


def test_a_volunteers_example_shows_every_key_and_its_default(tmp_path: Path) -> None:
    full = with_defaults_spelt_out("volunteer.toml", tmp_path)
    plain, spelt_out = (config.load_volunteer(path) for path in (ETC / "volunteer.toml", full))
    # These depend on the host, or are optional: what is shown is an example.
    volunteer = attrs.evolve(
        spelt_out.volunteer, name=plain.volunteer.name, address=plain.volunteer.address
    )
    sandbox = attrs.evolve(spelt_out.sandbox, resolv_conf=plain.sandbox.resolv_conf)
    assert attrs.evolve(spelt_out, volunteer=volunteer, sandbox=sandbox) == plain
    assert_shows_every_key(full, config.VolunteerConfig)


def assert_shows_every_key(path: Path, kind: type[Any]) -> None:
    text = path.read_text()
    sections = re.split(r"(?m)^\[(\w+)\]$", text)
    shown = dict(zip(sections[1::2], sections[2::2], strict=True))
    attrs.resolve_types(kind)
    for section in attrs.fields(kind):
        assert section.type is not None
        wanted = {key.name for key in attrs.fields(section.type)}
        assert set(re.findall(r"(?m)^(\w+) = ", shown[section.name])) == wanted


def test_units_start_what_the_plugins_offer() -> None:
    plugins = (ROOT / "twisted/plugins/syndicate_plugins.py").read_text()
    for daemon in ("manager", "volunteer"):
        unit = configparser.ConfigParser(strict=True, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(ETC / f"systemd/syndicate-{daemon}.service")
        command = unit["Service"]["ExecStart"].split()
        assert command[0].endswith("/twistd")
        assert command[-3] == f"syndicate-{daemon}"
        assert f'"{command[-3]}"' in plugins
        assert command[-2:] == ["--config", f"/etc/syndicate/{daemon}.toml"]
        assert unit["Service"]["Restart"] == "always"
        assert unit["Install"]["WantedBy"] == "multi-user.target"
        state = getattr(config, "Listening" if daemon == "manager" else "Registration")
        default = attrs.fields(state).state.default
        assert f"/var/lib/{unit['Service']['StateDirectory']}" == str(default)


def test_the_page_on_the_api_names_all_words_of_the_domain() -> None:
    text = page("api")
    kinds = re.search(r"Kinds: (.*?)\.\n\n", text, re.DOTALL)
    assert kinds is not None
    assert set(re.findall(r"``([\w-]+)``", kinds[1])) == set(events.BY_KIND)
    for words in (JobState, Outcome, MachineState, VolunteerState):
        for word in words:
            assert f"``{word.value}``" in text, word


def test_the_page_on_the_api_gives_every_code_the_right_status() -> None:
    rows = re.findall(r"(?m)^``(\w+)``\s+(\d{3})\s", page("api"))
    assert len(rows) > 10
    for code, status in rows:
        assert errors.BY_CODE[code].status == int(status), code


def test_the_page_on_job_files_gives_the_true_limits() -> None:
    given = re.search(r"\[limits\](.*?)\[", page("job-file"), re.DOTALL)
    assert given is not None
    rows = re.findall(r'(?m)^ +(\w+) = "?(\w+)"? +# "?(\w+)"?: ', given[1])
    read = {"wall": parse_span, "memory": parse_size, "output": parse_size, "disk": parse_size}
    assert {name: read.get(name, int)(default) for name, _, default in rows} == attrs.asdict(
        Limits()
    )


@pytest.mark.parametrize("name", ["index", "writing-a-job", "sandbox", "using", "operating"])
def test_pages_have_no_words_left_to_be_filled_in(name: str) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD|lorem)\b", page(name), re.IGNORECASE)
