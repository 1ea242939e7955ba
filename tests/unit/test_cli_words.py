"""How the command line says things: colours, times, control characters, wrong words."""

from __future__ import annotations

import io
from typing import Any

import pytest

from syndicate.cli.exits import Unreachable, of_error
from syndicate.cli.following import line_of
from syndicate.cli.logprinter import LogPrinter
from syndicate.cli.output import visible
from syndicate.cli.session import Session
from syndicate.domain import errors
from tests.support.commands import Commands


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("option", "variables", "stream", "colored"),
    [
        ("auto", {}, Terminal(), True),
        ("auto", {}, io.StringIO(), False),
        ("auto", {"NO_COLOR": "1"}, Terminal(), False),
        ("auto", {"NO_COLOR": ""}, Terminal(), True),
        ("auto", {"TERM": "dumb"}, Terminal(), False),
        ("always", {"NO_COLOR": "1"}, io.StringIO(), True),
        ("never", {}, Terminal(), False),
    ],
)
def test_colours_are_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    variables: dict[str, str],
    stream: Any,
    colored: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Session({}, color=option).colored(stream) is colored


@pytest.mark.parametrize(
    ("state", "note", "line"),
    [
        ("requested", "", ""),
        (
            "verified",
            "master: the kernel lists no process of it",
            "f3 kill of master by x verified",
        ),
        ("healed", "by f4", "f3 kill of master by x healed: by f4"),
        ("failed", "It has gone.", "f3 kill of master by x failed: It has gone."),
        ("unknown", "", "f3 kill of master by x unknown"),
    ],
)
def test_who_follows_a_job_is_told_what_became_of_each_fault(
    state: str, note: str, line: str
) -> None:
    text = f"f3 kill of master by x: {state}" + (f": {note}" if note else "")
    fault = {"state": state}
    assert line_of({"kind": "fault", "text": text, "fault": fault}) == line


def test_every_error_has_an_exit_code_that_is_documented() -> None:
    kinds: list[type[errors.SyndicateError]] = [*errors.BY_CODE.values(), Unreachable]
    found = {kind.code: of_error(kind("why")) for kind in kinds}
    assert set(found.values()) <= {1, 2, 3, 4, 69, 75, 124}
    expected = {
        "invalid_job": 2,
        "too_large": 2,
        "not_found": 3,
        "unauthorized": 4,
        "forbidden": 4,
        "unreachable": 69,
        "would_wait": 75,
        "unavailable": 75,
        "storage_full": 75,
        "storage_read_only": 75,
        "too_many": 75,
        "timeout": 124,
        "conflict": 1,
        "internal": 1,
    }
    assert {code: found[code] for code in expected} == expected


def test_text_of_jobs_gives_no_orders_to_a_terminal() -> None:
    assert visible("a\x1b[2J\x07\tb\x9bc\x7f") == "a␛[2J␇\tb�c␡"
    assert visible("žluťoučký 猫") == "žluťoučký 猫"


def record(machine: str, line: str, *, partial: bool = False, stream: str = "out") -> Any:
    at = "2030-01-01T00:00:00.000000Z"
    return {"at": at, "machine": machine, "stream": stream, "line": line, "partial": partial}


def test_a_line_that_comes_in_pieces_is_one_unless_others_come_between() -> None:
    written: list[str] = []
    printer = LogPrinter(written.append, names=["master", "slave[0]"])
    for each in (
        record("master", "aa", partial=True),
        record("master", "bb"),
        record("slave[0]", "cc", partial=True),
        record("master", "dd"),
        record("slave[0]", "ee"),
        record("slave[0]", "ff", partial=True),
    ):
        printer.print(each)
    printer.close()
    assert "".join(written).splitlines() == [
        "master   | aabb",
        "slave[0] | cc",
        "master   | dd",
        "slave[0] | ee",
        "slave[0] | ff",
    ]


def test_on_a_terminal_machines_have_colours_and_the_text_is_made_harmless() -> None:
    written: list[str] = []
    printer = LogPrinter(written.append, colored=True, raw=False)
    printer.print(record("master", "\x1b]0;evil\x07"))
    printer.print(record("slave[0]", "x"))
    first, second = written
    assert first.endswith("␛]0;evil␇\n")
    assert first.startswith("\x1b[")
    assert first[:5] != second[:5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "There is no command 'stauts'. Did you mean 'status'?"),
        (["lab", "dwon"], "There is no command 'dwon'. Did you mean 'down'?"),
        (["xyzzy"], "There is no command 'xyzzy'. See: syndicate --help"),
        (["logs", "1", "--folow"], "--follow"),
        (["status", "../x"], "'../x' is no job: give its number, its name, or 'latest'."),
        (["logs", "1", "--since", "soon"], "'soon' is not a time such as '30s' or '10m'."),
        (["wait"], "Missing argument"),
        (["queue", "--lab", "a"], "--lab goes before the verb, as in: syndicate --lab NAME …"),
        (["lab", "status", "--url=x"], "--url goes before the verb, as in: syndicate --url URL …"),
        (["token", "--token-file", "x", "list"], "syndicate --token-file FILE …"),
        (["-o", "json", "queue"], "'-o'. Those of a command are written behind it."),
    ],
)
def test_wrong_words_are_exit_code_2_and_say_what_was_meant(words: list[str], said: str) -> None:
    ended = Commands()(*words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err.replace("\n", " ")


def test_no_words_at_all_are_answered_with_the_help() -> None:
    ended = Commands()()
    assert ended.code == 2
    assert "Examples:" in ended.err


def every_verb() -> list[list[str]]:
    import click

    from syndicate.cli.main import cli

    found = []
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, inner] for inner in command.list_commands(click.Context(command))]
    return found


@pytest.mark.parametrize("words", every_verb(), ids=" ".join)
def test_every_verb_has_help_with_examples_first(words: list[str]) -> None:
    ended = Commands()(*words, "--help")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith("Usage: syndicate")
    assert Commands()("help", *words).out == ended.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_every_shell_is_printed(shell: str) -> None:
    ended = Commands()("completion", shell)
    assert ended.code == 0
    assert "_SYNDICATE_COMPLETE" in ended.out
