"""The manual pages, built as ``make doc`` does, tell of every verb and option that there is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from syndicate.cli.main import cli
from syndicate.plugins.command import cli as manager_cli

ROOT = Path(__file__).parents[2]
#: Each page, and the command that it is about.
PAGES = {"syndicate": cli, "syndicate-manager": manager_cli}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("man")
    sphinx = [sys.executable, "-m", "sphinx", "-n", "-W", "-q", "-b", "man"]
    subprocess.run([*sphinx, "-d", str(built / "doctrees"), ROOT / "doc", built], check=True)
    return built


def words_of(page: Path) -> str:
    """The text of a page without its marks, but for those at the beginning of lines."""
    text = re.sub(r"\\f[BIP]|\\%", "", page.read_text("utf-8"))
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\\(dq", '"')


def all_verbs(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if not command.hidden:
            yield f"{path} {name}", command
            if isinstance(command, click.Group):
                yield from all_verbs(command, f"{path} {name}")


@pytest.mark.deadline(60)
@pytest.mark.parametrize("name", PAGES)
def test_a_manual_page_has_every_verb_with_its_options_and_examples(pages: Path, name: str) -> None:
    page = words_of(pages / f"man1/{name}.1")
    sections = dict(part.split("\n", 1) for part in page.split("\n.SS ")[1:])
    verbs = dict(all_verbs(PAGES[name], name))
    assert list(sections) == list(verbs), "no other ones, and in the same order"
    for path, verb in verbs.items():
        for option in verb.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert set(option.opts) <= set(sections[path].replace(",", " ").split()), path
        for line in getattr(verb, "examples", ()):
            assert line.split("  ")[0] in sections[path]


@pytest.mark.deadline(60)
def test_the_manual_page_of_job_files_is_one(pages: Path) -> None:
    page = words_of(pages / "man5/syndicate-jobfile.5")
    assert "\n.SH NAME\nsyndicate-jobfile - " in page
    assert page.index(".SH DESCRIPTION") < page.index("mapreduce") < page.index(".SH KEYS")
