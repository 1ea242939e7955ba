"""What the documentation and the files in etc/ say is so."""

from __future__ import annotations

import configparser
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

from syndicate.cli import exits, jobfile
from syndicate.cli.main import cli
from syndicate.config.manager import Listening, ManagerConfig, Maxima, load_manager
from syndicate.config.volunteer import Registration, VolunteerConfig, load_volunteer
from syndicate.domain import errors, events, spec
from syndicate.domain.job import JobState, Limits, MachineState, Outcome
from syndicate.domain.quantities import parse_size, parse_span, say_size
from syndicate.domain.volunteer import VolunteerState
from syndicate.sandbox import tar
from syndicate.sandbox.confine import root
from syndicate.sandbox.enclosure import ENVIRONMENT
from syndicate.sandbox.interface import SourceRules

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
    assert load_manager(ETC / "manager.toml") == ManagerConfig()
    assert load_manager(full) == ManagerConfig()
    assert_shows_every_key(full, ManagerConfig)


def test_a_volunteers_example_shows_every_key_and_its_default(tmp_path: Path) -> None:
    full = with_defaults_spelt_out("volunteer.toml", tmp_path)
    plain, spelt_out = (load_volunteer(path) for path in (ETC / "volunteer.toml", full))
    # These depend on the host, or are optional: what is shown is an example.
    volunteer = attrs.evolve(
        spelt_out.volunteer, name=plain.volunteer.name, address=plain.volunteer.address
    )
    sandbox = attrs.evolve(spelt_out.sandbox, resolv_conf=plain.sandbox.resolv_conf)
    assert attrs.evolve(spelt_out, volunteer=volunteer, sandbox=sandbox) == plain
    assert_shows_every_key(full, VolunteerConfig)


def assert_shows_every_key(path: Path, kind: type[Any]) -> None:
    text = path.read_text()
    sections = re.split(r"(?m)^\[(\w+)\]$", text)
    shown = dict(zip(sections[1::2], sections[2::2], strict=True))
    attrs.resolve_types(kind)
    for section in attrs.fields(kind):
        assert section.type is not None
        wanted = {key.name for key in attrs.fields(section.type)}
        assert set(re.findall(r"(?m)^#?(\w+) = ", shown[section.name])) == wanted


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
        section = Listening if daemon == "manager" else Registration
        default = attrs.fields_dict(section)["state"].default
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
    read["cpu"] = parse_span
    assert {name: read.get(name, float)(default) for name, _, default in rows} == attrs.asdict(
        Limits()
    )


@pytest.mark.parametrize("name", ["index", "writing-a-job", "sandbox", "using", "operating"])
def test_pages_have_no_words_left_to_be_filled_in(name: str) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD|lorem)\b", page(name), re.IGNORECASE)


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words of a command line name, and the words behind its name."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0]) if words else None
        if found is None and command.invoke_without_command:
            break
        assert found is not None, f"there is no {words[:1]} in {command.name}"
        command, words = found, words[1:]
    return command, words


def options_of(command: click.Command) -> set[str]:
    found = {"-h", "--help"}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


def command_lines() -> list[tuple[str, str]]:
    """Every line that the pages show somebody type which begins with syndicate."""
    found = []
    for path in [*DOC.rglob("*.rst"), ROOT / "README.rst"]:
        for line in path.read_text("utf-8").splitlines():
            for each in re.findall(r"(?:^ +[$#] |\$\(|&& )syndicate ([^)&#>]+)", line):
                found.append((path.name, each.strip()))
    return found


@pytest.mark.parametrize(("name", "line"), command_lines())
def test_commands_that_pages_show_are_there(name: str, line: str) -> None:
    command, words = command_of(shlex.split(line))
    if "--" in words:
        words = words[: words.index("--")]
    assert {word for word in words if word.startswith("-")} <= options_of(command)


def test_the_page_on_the_command_line_has_every_verb_and_no_option_that_is_not_there() -> None:
    table = page("using").split("Verbs\n-----")[1].split("\nOutput\n")[0]
    described = set()
    for row in re.split(r"(?m)^   \* - ", table)[2:]:
        line = re.match(r"``syndicate ([^`]+)``", row)
        assert line is not None, row
        command, _ = command_of([word for word in line[1].split() if word.islower()])
        described.add(command)
        shown = re.findall(r"(?<=[`\s(])--?[A-Za-z][\w-]*", row)
        assert set(shown) <= options_of(command), line[1]
    assert described == set(all_commands(cli))


def all_commands(command: click.Command) -> Iterator[click.Command]:
    if not isinstance(command, click.Group):
        yield command
        return
    shown = set()
    if command.invoke_without_command:  # its own row tells of these two
        yield command
        shown = {"list", "show"}
    for name in set(command.list_commands(click.Context(command))) - shown:
        found = command.get_command(click.Context(command), name)
        assert found is not None
        yield from all_commands(found)


def test_the_page_on_the_command_line_has_every_exit_code() -> None:
    table = page("using").split("Exit codes\n")[1]
    codes = {value for value in vars(exits).values() if type(value) is int}
    assert {int(code) for code in re.findall(r"(?m)^(\d+)$", table)} == codes


def test_the_page_on_the_api_has_every_request() -> None:
    source = (ROOT / "syndicate/api/app.py").read_text()
    served = set(re.findall(r'"(GET|POST)", "(/v1/[^"]+)"', source))
    said = re.findall(r"(?m)^``(GET|POST) (/v1/[^`?]+)(?:\?[^`]*)?``$", page("api"))
    names = {"N": "<name>", "PATH": "<path:path>", "SHA256": "<sha256>"}
    names |= {"KIND": "<kind>", "MACHINE": "<machine>", "NAME": "<volunteer>", "TOKEN": "<token>"}
    names["ID"] = "<which>"
    spelt = {
        (method, "/".join(names.get(part, part) for part in path.split("/")))
        for method, path in said
    }
    blobs = {("GET", "/v1/blobs/<sha256>")}  # served by a route of its own making
    assert spelt == served | blobs


def test_the_job_file_that_a_page_shows_is_one(tmp_path: Path) -> None:
    blocks = re.findall(r"(?m)^\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", page("job-file"))
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.toml"
        path.write_text(textwrap.dedent(block))
        draft = jobfile.draft(path, ())
        assert draft.source == tmp_path
        assert draft.spec["machines"] > 1


def test_the_page_on_job_files_has_every_key() -> None:
    text = page("job-file")
    for key in (*spec._SPEC, *spec._LIMITS, *spec._RESOURCES, *spec._TABLES):
        if not key.endswith(("sha256", "size")):  # not for people
            assert re.search(rf"(?m)^   \[?{key}\b", text), key
    for key in jobfile.NOT_YET:
        assert f"``{key}``" in text, key


def test_the_page_on_jobs_has_the_environment_that_they_get() -> None:
    said = dict(re.findall(r"(?m)^``([A-Z_]+)`` +(\S.*)$", page("writing-a-job")))
    source = (ROOT / "syndicate/volunteer/invocation.py").read_text()
    own = set(re.findall(r'"(SYNDICATE_[A-Z]+)":', source))
    assert set(said) == own | set(ENVIRONMENT)
    assert {said[name] for name in ENVIRONMENT} == {f"``{text}``" for text in ENVIRONMENT.values()}


def test_the_page_on_the_sandbox_has_the_rules_of_sources() -> None:
    text, rules = page("sandbox"), SourceRules()
    for name in tar.RESERVED:
        assert f"``{name}``" in text
    assert f"{rules.members:,} files".replace(",", " ") in text
    assert f"more than {rules.name} bytes" in text
    assert f"more than {rules.depth} deep" in text
    assert f"``[maxima]``: {say_size(Maxima().unpacked)} unless" in text
    for device in root._DEVICES:
        assert f"``{device}``" in text


def test_each_promise_of_the_page_on_security_names_a_test_that_there_is() -> None:
    text = page("security")
    tests: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"def (test_\w+)", path.read_text()):
            tests.setdefault(name, set()).add(str(path.relative_to(ROOT / "tests")))
    named = set(re.findall(r"``(test_\w+)``", text))
    assert named <= set(tests), named - set(tests)
    assert len(named) > 40
    files = set(re.findall(r"``(\w+/test_\w+\.py)``", text))
    for name in named:
        assert tests[name] & files, name
    for file in files:
        assert any(file in tests[name] for name in named), file
