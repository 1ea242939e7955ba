from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.cli.exits import Unreachable
from syndicate.cli.settings import gather
from syndicate.domain.errors import Forbidden, Invalid
from tests.support.commands import Commands, forget_environment, record_lab


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    forget_environment(monkeypatch, tmp_path)
    return tmp_path


def write(path: Path, **values: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'{key} = "{value}"\n' for key, value in values.items()))


def test_the_more_explicit_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_lab("lab")
    assert gather({}).url == "https://lab"
    write(home / ".config/syndicate/config.toml", url="https://user")
    assert gather({}).url == "https://user"
    write(home / "syndicate.toml", url="https://here")
    assert gather({}).url == "https://here"
    monkeypatch.setenv("SYNDICATE_URL", "https://environment/")
    assert gather({}).url == "https://environment"
    assert gather({}, lab="lab").url == "https://lab"
    assert gather({"url": "https://option"}, lab="lab").url == "https://option"


def test_the_users_own_directory_of_configuration_counts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "elsewhere"))
    write(home / "elsewhere/syndicate/config.toml", url="https://user")
    assert gather({}).url == "https://user"


def test_paths_in_a_file_are_seen_from_the_file(home: Path) -> None:
    write(home / "syndicate.toml", url="https://x", token_file="secret", authority="/etc/ca.pem")
    (home / "secret").write_text("sesame\n")
    found = gather({})
    assert found.token() == "sesame"
    assert found.authority == "/etc/ca.pem"


def test_the_token_itself_goes_before_a_file_of_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "secret").write_text("of the file")
    monkeypatch.setenv("SYNDICATE_URL", "https://x")
    monkeypatch.setenv("SYNDICATE_TOKEN_FILE", str(home / "secret"))
    assert gather({}).token() == "of the file"
    monkeypatch.setenv("SYNDICATE_TOKEN", " of the environment\n")
    assert gather({}).token() == "of the environment"
    assert gather({"token_file": str(home / "secret")}).token() == "of the file"


def test_a_file_that_lies_around_cannot_have_the_users_token_sent_to_its_url(home: Path) -> None:
    (home / "secret").write_text("sesame")
    write(home / ".config/syndicate/config.toml", token_file=str(home / "secret"), authority="x")
    write(home / "syndicate.toml", url="https://evil")
    found = gather({})
    assert found.url == "https://evil"
    assert found.authority is None
    with pytest.raises(Forbidden):
        found.token()


def test_mistakes_in_a_file_are_told_all_at_once(home: Path) -> None:
    (home / "syndicate.toml").write_text('ulr = "x"\noutput = 3\n')
    with pytest.raises(Invalid) as caught:
        gather({})
    assert caught.value.details["problems"] == [
        "ulr: no such key; did you mean 'url'?",
        "output: 3 is not a text",
    ]
    (home / "syndicate.toml").write_text("url")
    with pytest.raises(Invalid, match="is no TOML"):
        gather({})


def test_a_job_file_by_the_name_of_a_configuration_is_told(home: Path) -> None:
    (home / "syndicate.toml").write_text('name = "hello"\nmachines = 3\n')
    with pytest.raises(Invalid, match=r"If it is to be a job file, call it job\.toml"):
        gather({})


def test_an_output_format_that_is_none_is_told_with_those_that_there_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNDICATE_OUTPUT", "jsn")
    ended = Commands()("lab", "list")
    assert ended.code == 2
    assert "'jsn' (environment); there are: table, wide, json, jsonl, csv, id." in ended.err


def test_no_cluster_at_all_says_how_to_get_one() -> None:
    with pytest.raises(Unreachable, match="syndicate lab up"):
        gather({}).url  # noqa: B018


@pytest.mark.parametrize("content", [b"", b" \n", b"\x86\xff", b"two\nlines", "schlüssel".encode()])
def test_a_token_file_that_holds_no_token_is_told(home: Path, content: bytes) -> None:
    (home / "token").write_bytes(content)
    flags = {"url": "https://a", "token_file": str(home / "token")}
    with pytest.raises(Forbidden, match=r"What .*/token \(option\) holds is no token"):
        gather(flags, None).token()


@pytest.mark.parametrize(
    "url",
    [
        *("nonsense", "http://a:1", "https://", "https://a:99999", "https://a:b", "https://[::1"),
        *("https://a b:1", "https://a\x1b[31m:1"),
    ],
)
def test_what_is_no_url_is_told(url: str) -> None:
    ended = Commands()("--url", url, "status")
    assert ended.code == 2
    assert ended.err.startswith("syndicate: ")
    assert ended.err.endswith("is not the URL of a manager, such as https://10.77.0.2:7080\n")
    assert "\x1b" not in ended.err


def test_a_token_file_that_cannot_be_read_is_told(home: Path) -> None:
    write(home / "syndicate.toml", url="https://x", token_file="nothing")
    with pytest.raises(Forbidden, match=r"nothing .*No such file"):
        gather({}).token()


def test_the_only_lab_that_is_up_is_taken_whatever_its_name() -> None:
    record_lab("other")
    record_lab("kept", stage="kept")
    record_lab("old", boot="another")
    assert gather({}).url == "https://other"


def test_of_several_labs_the_one_of_the_default_name_is_taken() -> None:
    record_lab("one")
    record_lab("two")
    with pytest.raises(Unreachable, match="one, two"):
        gather({}).url  # noqa: B018
    record_lab("lab")
    assert gather({}).url == "https://lab"


def test_what_needs_no_manager_does_not_mind_several_labs() -> None:
    record_lab("one")
    record_lab("two")
    ended = Commands()("lab", "list", "-o", "id")
    assert (ended.code, ended.out) == (0, "one\ntwo\n")
    assert Commands()("lab", "list").code == 0
    ended = Commands()("queue")
    assert (ended.code, "one, two" in ended.err) == (69, True)


def test_verbs_of_labs_take_the_only_one_whatever_its_name() -> None:
    record_lab("other")
    ended = Commands()("lab", "env")
    assert (ended.code, "https://other" in ended.out) == (0, True)
    record_lab("third")
    ended = Commands()("lab", "env")
    assert ended.code == 3
    assert "other, third. Say which: --name NAME" in ended.err
    assert "https://third" in Commands()("lab", "env", "--name", "third").out
    record_lab("lab")
    assert "https://lab" in Commands()("lab", "env").out


def test_a_shell_that_is_told_of_a_lab_has_the_key_to_its_console(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_lab("one")
    record_lab("two")
    for line in Commands()("lab", "env", "--name", "two").out.splitlines():
        monkeypatch.setenv(*line.removeprefix("export ").split("=", 1))
    assert gather({}).console_key == gather({}, lab="two").console_key


def test_the_configuration_that_is_shown_is_the_one_that_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_lab("one")
    shown = Commands()("config", "show").out
    assert "client/console  (from the lab 'one')" in shown
    monkeypatch.setenv("SYNDICATE_AUTHORITY", "ca.pem")
    monkeypatch.setenv("SYNDICATE_TOKEN", "sesame")
    shown = Commands()("--url", "https://x", "config", "show").out
    assert "authority    not used: that of environment, as the URL is from option" in shown
    assert "token        not used: that of environment, as the URL is from option" in shown
    assert "token_file   not set" in shown
    assert "ca.pem" not in shown
    assert "sesame" not in shown
    with pytest.raises(Forbidden, match=r"none that may be shown to https://x .*config show"):
        gather({"url": "https://x"}).token()


def test_a_lab_that_is_named_must_be_up() -> None:
    record_lab("kept", stage="kept")
    for name in ("kept", "nothing"):
        with pytest.raises(Unreachable, match="syndicate lab list"):
            gather({}, lab=name)
    with pytest.raises(Invalid, match="no name for a lab"):
        gather({}, lab="../etc")
