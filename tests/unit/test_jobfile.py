from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syndicate.cli.jobfile import NOT_YET, Draft, default_name, draft, parse_setting
from syndicate.cli.verbs.topics import JOB_FILE
from syndicate.domain.errors import InvalidJob, NotFound

FULL = """
schema = 1
name = "wordcount"
source = "src"
machines = 3
outputs = ["result.json", "traces/*.log"]
linger = true

[resources]
cores = 2
memory = "1G"
arch = ["x86_64"]

[limits]
wall = "10m"
memory = "512M"
output = "50M"

[env]
GOMAXPROCS = "2"
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "job.toml"
    path.write_text(text)
    return path


def problems(path: Path, *settings: tuple[str, Any]) -> list[str]:
    with pytest.raises(InvalidJob) as caught:
        draft(path, settings)
    found: list[str] = caught.value.details["problems"]
    assert all(problem in str(caught.value) for problem in found)
    return found


def test_every_key_reaches_the_spec_and_the_source_is_seen_from_the_file(tmp_path: Path) -> None:
    found = draft(write(tmp_path, FULL), [])
    assert found.source == tmp_path / "src"
    assert found.spec == {
        "name": "wordcount",
        "machines": 3,
        "outputs": ["result.json", "traces/*.log"],
        "linger": True,
        "resources": {"cores": 2, "memory": "1G", "arch": ["x86_64"]},
        "limits": {"wall": "10m", "memory": "512M", "output": "50M"},
        "env": {"GOMAXPROCS": "2"},
    }


def test_the_help_on_job_files_shows_one_that_is_right(tmp_path: Path) -> None:
    lines = [line for line in JOB_FILE.splitlines() if line.startswith("  ")]
    text = "\n".join(line for line in lines if "=" in line or line.startswith("  ["))
    assert draft(write(tmp_path, text.partition("  make ")[0]), []).spec["machines"] == 3


def test_all_mistakes_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    text = """
    schema = 2
    machines = "3"
    nmae = "x"
    source = 7
    [resources]
    coers = 1
    memory = "1 Gig"
    [limits]
    wall = true
    """
    found = problems(write(tmp_path, text))
    assert set(found) == {
        "schema: 2 is not 1, the one that this version reads",
        "source: 7 is not the path of a directory or a tarball",
        "machines: '3' is not a whole number",
        "nmae: no such key; did you mean 'name'?",
        "resources.coers: no such key; did you mean 'cores'?",
        "resources.memory: '1 Gig' is not a size such as '512M' or '4G'",
        "limits.wall: True is not a time such as '30s' or '10m'",
    }


@pytest.mark.parametrize("key", NOT_YET)
def test_keys_of_later_versions_are_refused_as_such(tmp_path: Path, key: str) -> None:
    assert problems(write(tmp_path, f"{key} = 1")) == [f"{key}: not in this version"]


def test_what_is_no_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match=r"is no TOML.*line 2"):
        draft(write(tmp_path, "schema = 1\nname = ?\n"), [])


def test_settings_go_before_the_file(tmp_path: Path) -> None:
    settings = [("machines", 5), ("limits.wall", "20m"), ("limits.pids", 9), ("env.DEBUG", "1")]
    spec = draft(write(tmp_path, FULL), settings).spec
    assert spec["machines"] == 5
    assert spec["limits"] == {"wall": "20m", "memory": "512M", "output": "50M", "pids": 9}
    assert spec["env"] == {"GOMAXPROCS": "2", "DEBUG": "1"}


def test_a_bad_setting_is_told_like_a_bad_key(tmp_path: Path) -> None:
    assert problems(tmp_path, ("limits.wal", "20m")) == [
        "limits.wal: no such key; did you mean 'wall'?"
    ]
    with pytest.raises(InvalidJob, match="'name' is not a table"):
        draft(write(tmp_path, FULL), [("name.first", "x")])


def test_a_directory_is_taken_with_its_own_job_file(tmp_path: Path) -> None:
    write(tmp_path, 'name = "own"\nsource = "."\nmachines = 2')
    found = draft(tmp_path, [])
    assert (found.spec["name"], found.spec["machines"]) == ("own", 2)
    assert found.source.resolve() == tmp_path.resolve()


def test_a_directory_or_a_tarball_needs_no_job_file(tmp_path: Path) -> None:
    assert draft(tmp_path, []) == Draft({"name": tmp_path.name}, tmp_path)
    tarball = tmp_path / "src-1.2.tar.gz"
    tarball.touch()
    assert draft(tarball, []) == Draft({"name": "src-1.2"}, tarball)


def test_a_path_with_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        draft(tmp_path / "nowhere", [])


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("machines=3", ("machines", 3)),
        ("linger=true", ("linger", True)),
        ("limits.wall=20m", ("limits.wall", "20m")),
        ('outputs=["a", "b=c"]', ("outputs", ["a", "b=c"])),
        ("env.N=3", ("env.N", "3")),
        ("env.EMPTY=", ("env.EMPTY", "")),
        ("name=a=b", ("name", "a=b")),
    ],
)
def test_a_setting_is_a_toml_value_or_else_text(text: str, setting: tuple[str, Any]) -> None:
    assert parse_setting(text) == setting


@pytest.mark.parametrize("text", ["machines", "=3", "limits..wall=1", ""])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("path", "name"), [("/a/b.tar.gz", "b"), ("/a/b.tgz", "b"), ("/a/b.c", "b.c"), ("/", "job")]
)
def test_a_job_without_a_name_has_its_sources(path: str, name: str) -> None:
    assert default_name(Path(path)) == name
