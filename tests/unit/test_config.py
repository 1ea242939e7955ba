"""Reading the daemons' configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.config.manager import load_manager
from syndicate.config.volunteer import load_volunteer
from syndicate.domain.errors import Invalid

VOLUNTEER = """
[volunteer]
name = "v1"
manager = "10.0.0.1"
authority = "/etc/syndicate/ca.pem"
join_token_file = "/etc/syndicate/join"
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "file.toml"
    path.write_text(text)
    return path


def test_an_empty_file_gives_the_managers_defaults(tmp_path: Path) -> None:
    config = load_manager(written(tmp_path, ""))
    assert (config.manager.wire_port, config.manager.api_port) == (7070, 7080)
    assert config.liveness.grace == 30.0
    assert config.liveness.start_grace == 30.0


def test_sizes_and_spans_are_read_as_people_write_them(tmp_path: Path) -> None:
    text = "[liveness]\nping = '500ms'\n[maxima]\noutput = '2G'\nwall = '2d'\n"
    config = load_manager(written(tmp_path, text))
    assert config.liveness.ping == 0.5
    assert (config.maxima.output, config.maxima.wall) == (2 << 30, 172800.0)


def test_a_volunteers_file_needs_little(tmp_path: Path) -> None:
    config = load_volunteer(written(tmp_path, VOLUNTEER))
    assert (config.volunteer.name, config.sandbox.uids) == ("v1", (20000, 20015))


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = "[manager]\nwire_prot = 1\napi_port = 70000\n[livness]\nping = 1\n"
    with pytest.raises(Invalid) as caught:
        load_manager(written(tmp_path, text))
    assert caught.value.details["problems"] == [
        "manager.wire_prot: no such key; did you mean 'wire_port'?",
        "manager.api_port: 70000 is not a port from 0 to 65535",
        "livness: no such section; did you mean 'liveness'?",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("[sandbox]\nuids = [0, 10]", "is not a range of user ids"),
        ("[sandbox]\nmode = 'lax'", "is not one of 'auto', 'root', 'user'"),
        ("[cache]\nsize = 'big'", "is not a size"),
        ("cache = 3", "is not a section"),
    ],
)
def test_a_wrong_value_is_told(tmp_path: Path, change: str, problem: str) -> None:
    text = change + "\n" + VOLUNTEER if change.startswith("cache") else VOLUNTEER + change
    with pytest.raises(Invalid, match=problem):
        load_volunteer(written(tmp_path, text))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"volunteer\.manager: is missing"):
        load_volunteer(written(tmp_path, "[volunteer]\nname = 'v1'\n"))


def test_a_file_that_is_not_there_or_no_toml_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read: No such file"):
        load_manager(tmp_path / "none.toml")
    with pytest.raises(Invalid, match="is no TOML"):
        load_manager(written(tmp_path, "[manager\n"))
