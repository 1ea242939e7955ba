"""The console with the real OpenSSH client: every quirk of Twisted's SSH that was met is here."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent, globalLogPublisher
from zope.interface import implementer

from syndicate.audit.interface import Kind, Wanted
from syndicate.console.keys import host_key
from syndicate.console.server import MOST_CONNECTIONS
from syndicate.domain.timeline import Offset
from tests.service.test_hygiene import forever
from tests.support.consoles import Served, make_key

pytestmark = pytest.mark.deadline(30)


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


@pytest_twisted.async_yield_fixture
async def served(make_cluster: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Served]:
    """A console to a cluster whose clock goes on by itself."""
    cluster = make_cluster(3, forever)
    clock = LoopingCall(cluster.clock.advance, 0.05)
    clock.start(0.01, now=False)
    console = Served(_reactor(), tmp_path, cluster)
    yield console
    clock.stop()
    await console.close()
    await pause(0.05)


def pause(seconds: float) -> Deferred[None]:
    return deferLater(_reactor(), seconds, lambda: None)


@pytest_twisted.ensureDeferred
async def test_one_command_is_answered_for_both_roles(served: Served) -> None:
    for user in ("ann", "vera"):
        ended = await served.ask(user, "volunteers")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.splitlines()[0].split()[:2] == ["VOLUNTEER", "STATE"]
        assert [line.split()[:2] for line in ended.out.splitlines()[1:]] == [
            *(["v1", "free"], ["v2", "free"], ["v3", "free"]),
        ]


@pytest_twisted.ensureDeferred
async def test_of_a_volunteers_clock_is_shown_how_well_it_is_known(served: Served) -> None:
    ended = await served.ask("ann", "v v1")
    assert re.search(r"^clock +(compared, ± \d+\.\d{6}s|not compared yet)$", ended.out, re.M)
    served.cluster.manager.fleet.get("v1").offset = Offset(999.75, 1000.25)
    ended = await served.ask("ann", "v v1")
    assert "compared, ± 0.250000s\n" in ended.out


@pytest_twisted.ensureDeferred
async def test_a_command_that_fails_says_why_and_ends_with_a_code(served: Served) -> None:
    ended = await served.ask("ann", "job 99")
    assert (ended.code, ended.out, ended.err) == (1, "", "There is no job 99.\n")
    ended = await served.ask("ann", "__import__('os').getcwd()")
    assert ended.code == 1
    assert "There is no word" in ended.err
    ended = await served.ask("vera", "cancel 1")
    assert (ended.code, ended.err) == (1, "'cancel' is for operators.\n")


@pytest_twisted.ensureDeferred
async def test_commands_that_take_time_are_answered_when_they_are_done(served: Served) -> None:
    ended = await served.ask("ann", "drain v1 new disk")
    assert ended.code == 0, ended.err
    assert "drained" in ended.out
    assert "Drained by ann: new disk" in ended.out
    number = served.cluster.submit(1)
    assert (await served.ask("ann", f"cancel {number}")).code == 0
    assert (await served.ask("vera", f"why {number}")).out.strip() == "Cancelled by ann."
    assert "submitted" in (await served.ask("vera", f"events {number}")).out


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest_twisted.ensureDeferred
async def test_people_come_with_keys_of_every_usual_kind(served: Served, kind: str) -> None:
    key = make_key(served.directory, f"ann-{kind}", kind)
    served.admit("ann", key)
    ended = await served.ask("ann", "queue", key=key)
    assert (ended.code, ended.out.strip()) == (0, "Nothing waits.")


@pytest_twisted.ensureDeferred
async def test_lines_without_a_terminal_are_python_for_operators(served: Served) -> None:
    visit = served.visit("ann", "-T")
    visit.type("x = 6\nprint('x is', x * 7)\nfor n in range(2):\n  print(n)\n\nvolunteers\n")
    visit.close_input()
    ended = await visit.over
    assert ended.code == 0
    assert ended.out.startswith("x is 42\n0\n1\nVOLUNTEER")
    assert "\x1b" not in ended.out
    assert ended.err == ""


@pytest.mark.parametrize(
    "word", ["exit", "quit", "exit()", "quit(3)", "raise SystemExit", "import sys; sys.exit(3)"]
)
@pytest_twisted.ensureDeferred
async def test_who_leaves_has_heard_all_and_what_comes_after_that_is_not_done(
    served: Served, word: str
) -> None:
    visit = served.visit("ann", "-T")
    visit.type(f"6 * 7\n{word}\ndrain('v1')\n")
    ended = await visit.over
    assert (ended.code, ended.out, ended.err) == (0, "42\n", "")
    assert served.cluster.states()["v1"] == "free"


@pytest_twisted.ensureDeferred
async def test_viewers_lines_are_never_evaluated(served: Served) -> None:
    visit = served.visit("vera", "-T")
    visit.type("1 + 1\nprint(3)\ndrain v1\nstats\nvolunteers()\n")
    visit.close_input()
    ended = await visit.over
    lines = ended.out.splitlines()
    assert lines[0] == "There is no word '1' here; 'help' lists them."
    assert lines[1] == "There is no word 'print(3)' here; 'help' lists them."
    assert lines[2] == "'drain' is for operators."
    assert "descriptors" in ended.out
    assert served.cluster.states()["v1"] == "free"
    help_ = (await served.ask("vera", "help")).out
    assert "queue()" in help_
    assert "drain" not in help_


@pytest_twisted.ensureDeferred
async def test_what_was_asked_for_is_answered_though_the_lines_have_ended(served: Served) -> None:
    visit = served.visit("ann", "-T")
    visit.type("from twisted.internet import reactor, task\n")
    visit.type("task.deferLater(reactor, 0.5, lambda: 'late' * 2)\ndrain('v2', 'x')\n")
    visit.close_input()
    ended = await visit.over
    assert (ended.code, ended.err) == (0, "")
    assert "latelate" in ended.out
    assert "drained" in ended.out
    visit = served.visit("vera", "-T")
    visit.type("cluster\nexit\nqueue\n")
    visit.close_input()
    ended = await visit.over
    assert (ended.code, "2 free" in ended.out) == (0, True)


@pytest_twisted.ensureDeferred
async def test_every_line_is_recorded_with_the_key_before_it_is_done(served: Served) -> None:
    await served.ask("vera", "queue")
    visit = served.visit("ann", "-T")
    visit.type("1 +\nsecret = 'ä'\n")
    visit.close_input()
    await visit.over
    assert await served.typed() == [
        ("vera", "console login", None),
        ("vera", "console", "queue"),
        ("ann", "console login", None),
        ("ann", "console", "1 +"),
        ("ann", "console", "secret = 'ä'"),
        ("ann", "console", ""),
    ]
    last = (await served.audit.tail(1, Wanted()))[0].actor
    assert (last.role, last.address) == ("operator", "127.0.0.1")
    assert last.token == fingerprint_of(served.own["ann"])


def fingerprint_of(key: Path) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(key)], check=True, capture_output=True, text=True, timeout=10
    )
    return shown.stdout.split()[1]


@pytest_twisted.ensureDeferred
async def test_the_host_key_is_made_once_and_for_its_owner_only(served: Served) -> None:
    path = served.directory / "host_key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert served.console.host_key[1] == fingerprint_of(path)
    assert host_key(path) == host_key(path)
    assert (path.with_suffix(".pub")).read_text().split()[:2] == served.console.host_key[0].split()


@pytest_twisted.ensureDeferred
async def test_a_terminal_edits_lines_with_history_and_ctrl_c_and_ctrl_d(served: Served) -> None:
    visit = served.visit("ann", "-t", tty=True)
    greeting = await visit.until(">>> ")
    assert "time.sleep too" in greeting
    assert "\x1bc" not in greeting, "the screen of the visitor stays"
    assert "\r\nGRÜSSE ☃\r\n" in await visit.told("print('grüße ☃'.upper())\r", ">>> ")
    assert "\r\nGRÜSSE ☃\r\n" in await visit.told("\x1b[A\r", ">>> ")
    assert "^C" in await visit.told("1 / 0 + \x03", ">>> ")
    await visit.told("6 * \x1b[D\x1b[D\x1b[D7 * 0 + \r", ">>> ")
    await visit.told("for n in (1,):\r", "... ")
    await visit.told("\x03", ">>> ")
    ended = await visit.leave()
    assert "Connection to" in ended.out + ended.err


@pytest_twisted.ensureDeferred
async def test_a_terminal_may_change_its_size(served: Served) -> None:
    visit = served.visit("ann", "-t", tty=True)
    await visit.until(">>> ")
    resize(visit.transport, 132, 50)
    assert "'ann'" in await visit.told("who[0].visitor.name\r", ">>> ")
    session = next(iter(served.console._connections[0].service.channels.values()))
    assert (session.session._size) == (132, 50)
    await visit.leave()


@pytest_twisted.ensureDeferred
async def test_tables_are_no_wider_than_the_terminal_and_nothing_of_them_is_lost(
    served: Served,
) -> None:
    await served.ask("ann", "drain v1 " + "a disk of it makes noises " * 3)
    for user, prompt in (("ann", ">>> "), ("vera", "> ")):
        visit = served.visit(user, "-t", tty=True)
        await visit.until(prompt)
        resize(visit.transport, 80, 24)
        while not any(session._size == (80, 24) for session in sessions(served)):
            await pause(0.01)
        told = (await visit.told("volunteers\r", prompt)).splitlines()[1:]
        assert max(map(len, told)) <= 80
        assert "VOLUNTEER" in told[0]
        assert " ".join(" ".join(told).split()).count("noises") == 3
        await visit.leave() if user == "ann" else visit.type("exit\r")
    whole = (await served.ask("ann", "volunteers")).out.splitlines()
    assert len(whole) == 4


def sessions(served: Served) -> list[Any]:
    return [
        channel.session
        for connection in served.console._connections
        for channel in connection.service.channels.values()
        if getattr(channel, "session", None) is not None
    ]


def resize(transport: Any, width: int, height: int) -> None:
    fcntl.ioctl(transport.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    os.kill(transport.pid, signal.SIGWINCH)


@pytest_twisted.ensureDeferred
async def test_tab_completes_words_and_what_belongs_to_them(served: Served) -> None:
    visit = served.visit("ann", "-t", tty=True)
    await visit.until(">>> ")
    assert "VOLUNTEER" in await visit.told("volunt\t\r", ">>> ")
    assert "delayed" in await visit.told("de\t\t", ">>> ")
    await visit.told("\x03", ">>> ")
    await visit.leave()
    visit = served.visit("vera", "-t", tty=True)
    await visit.until("> ")
    assert "VOLUNTEER" in await visit.told("vol\t\r", "> ")
    visit.type("exit\r")
    await visit.over


@pytest_twisted.ensureDeferred
async def test_what_fires_later_is_shown_above_the_line_in_work(served: Served) -> None:
    visit = served.visit("ann", "-t", tty=True)
    await visit.until(">>> ")
    await visit.told("async def later():\r  return 6 * 7\r\r", "... ")
    await visit.until(">>> ")
    assert "42" in await visit.told("do(later())\r", ">>> ")
    assert "42" in await visit.told("later()\r", ">>> ")
    assert "say do(" in await visit.told("await later()\r", ">>> ")
    assert "There is no volunteer 'v9'" in await visit.told("drain('v9')\r", ">>> ")
    assert "hello there" in await visit.told("say('hello', 'there')\r", ">>> ")
    await visit.leave()


@pytest_twisted.ensureDeferred
async def test_the_log_is_shown_for_a_while_and_ends_with_the_session(served: Served) -> None:
    visit = served.visit("ann", "-t", tty=True)
    await visit.until(">>> ")
    before = len(globalLogPublisher._observers)
    await visit.told("log('debug', for_='1m')\r", ">>> ")
    Logger("tests").debug("something {kind} happened", kind="odd")
    assert "[debug tests] something odd" in await visit.until("happened")
    await visit.told("log('loud')\r", "no level of a log")
    await visit.told("log('info')\r", "shown here")
    await visit.leave()
    await pause(0.05)
    assert len(globalLogPublisher._observers) == before


@pytest_twisted.ensureDeferred
async def test_process_words_answer(served: Served) -> None:
    for word in ("conns", "delayed", "threads", "stats", "who", "cluster", "jobs", "v v1", "help"):
        ended = await served.ask("ann", word)
        assert (ended.code, ended.err) == (0, ""), word
        assert ended.out.strip(), word
    assert "SHA256:" in (await served.ask("ann", "who")).out


@pytest_twisted.ensureDeferred
async def test_jobs_are_hurt_from_the_console_in_the_operators_name(served: Served) -> None:
    number = served.cluster.submit_with_clients(machines=2)
    ended = await served.ask("ann", f"kill {number} slave[0]")
    assert ended.code == 0, ended.err
    assert "by        " in ended.out
    assert "slave[0]" in (await served.ask("vera", f"faults {number}")).out
    assert "killed" in (await served.ask("vera", f"job {number}")).out
    assert (await served.ask("vera", f"revive {number} slave[0]")).code == 1
    assert (await served.ask("ann", f"revive {number} slave[0] with_disk=false")).code == 0


@pytest_twisted.ensureDeferred
async def test_who_is_kicked_is_gone(served: Served) -> None:
    visit = served.visit("vera", "-t", tty=True)
    await visit.until("> ")
    (served.keys / "vera.keys").unlink()
    assert (await served.ask("ann", "kick vera")).out.strip() == "1 connections ended."
    await visit.over
    assert (await served.ask("vera", "queue")).code == 255
    assert (await served.ask("ann", "kick vera")).err == "'vera' is not here.\n"


@pytest_twisted.ensureDeferred
async def test_strangers_are_kept_out_and_recorded(served: Served) -> None:
    other = make_key(served.directory, "eve")
    assert (await served.ask("ann", "queue", key=other)).code == 255
    assert (await served.ask("eve", "queue", key=other)).code == 255
    served.admit("eve", other)
    assert (await served.ask("eve", "queue", key=other)).code == 255, "no role"
    assert (await served.ask("../keys/ann", "queue", key=other)).code == 255
    assert await served.typed(Kind.STRANGER) == [("", "console login", None)] * 4
    assert await served.typed() == []


@pytest.mark.parametrize(
    ("user", "hint"),
    [("ann", "keys/ann.keys"), ("eve", "operators and viewers in [console]")],
)
@pytest_twisted.ensureDeferred
async def test_the_log_tells_what_lets_somebody_in_and_no_more_often_than_is_of_use(
    served: Served, caught_log: list[str], user: str, hint: str
) -> None:
    other = make_key(served.directory, "eve")
    for _ in range(3):
        assert (await served.ask(user, "queue", key=other)).code == 255
    (line,) = [line for line in caught_log if "not let into the console" in line]
    assert f"'{user}' at 127.0.0.1" in line
    assert hint in line


@pytest_twisted.ensureDeferred
async def test_keys_with_options_are_skipped_and_that_is_said(
    served: Served, caught_log: list[str]
) -> None:
    path = served.keys / "ann.keys"
    line = path.read_bytes()
    path.write_bytes(b'from="10.0.0.1",no-pty ' + line + b"nonsense\n")
    assert (await served.ask("ann", "queue")).code == 255
    said = "\n".join(caught_log)
    assert "line 1, is skipped: it begins with options" in said
    assert "line 2, is skipped: it is no public key" in said
    assert "holds 0 keys" in said
    path.write_bytes(b"# a comment\n\nnonsense\n" + line)
    assert (await served.ask("ann", "queue")).code == 0


@pytest.fixture
def caught_log() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    said: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_files_that_others_can_write_are_not_trusted(
    served: Served, caught_log: list[str]
) -> None:
    (served.keys / "ann.keys").chmod(0o620)
    assert (await served.ask("ann", "queue")).code == 255
    (served.keys / "ann.keys").chmod(0o644)
    served.keys.chmod(0o777)
    assert (await served.ask("ann", "queue")).code == 255
    served.keys.chmod(0o755)
    assert (await served.ask("ann", "queue")).code == 0
    assert "can be written by others" in "\n".join(caught_log)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which needs root")
@pytest_twisted.ensureDeferred
async def test_files_of_another_user_are_not_trusted(served: Served, caught_log: list[str]) -> None:
    for path in (served.keys / "ann.keys", served.keys):
        os.chown(path, 65534, 65534)
        assert (await served.ask("ann", "queue")).code == 255
        assert "belongs to user 65534" in caught_log[-1] + "".join(caught_log)
        os.chown(path, 0, 0)
    assert (await served.ask("ann", "queue")).code == 0


@pytest_twisted.ensureDeferred
async def test_old_ciphers_and_passwords_are_refused(served: Served) -> None:
    assert (await served.ask("ann", "-oCiphers=aes256-cbc", "queue")).code == 255
    assert (await served.ask("ann", "-oMACs=hmac-sha1", "queue")).code == 255
    assert (await served.ask("ann", "-oKexAlgorithms=diffie-hellman-group14-sha1", "queue")).code
    assert (await served.ask("ann", "-oCiphers=aes128-ctr", "queue")).code == 0
    ended = await served.ask("ann", "-oPreferredAuthentications=password", "queue")
    assert "Permission denied (publickey)" in ended.err


@pytest_twisted.ensureDeferred
async def test_nothing_but_sessions_is_to_be_had(served: Served) -> None:
    ended = await served.ask("ann", "-W127.0.0.1:22")
    assert ended.code == 255
    ended = await served.ask("ann", "-s", "sftp")
    assert ended.code != 0


@pytest_twisted.ensureDeferred
async def test_too_many_keys_end_the_connection(served: Served) -> None:
    keys = [make_key(served.directory, f"wrong{n}") for n in range(7)]
    options = [word for key in keys for word in (f"-oIdentityFile={key}",)]
    ended = await served.ask("ann", *options, "queue", key=keys[0])
    assert ended.code == 255
    assert "too many bad auths" in ended.err


@pytest_twisted.ensureDeferred
async def test_who_does_not_log_in_is_sent_away(served: Served) -> None:
    served.console.login_time = 0.3
    client, port = socket.socket(), served.port.getHost().port
    with client:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        await pause(0.1)
        assert served.console._connections
        await pause(0.6)
        assert not served.console._connections


@pytest_twisted.ensureDeferred
async def test_a_console_is_not_crowded_out_for_ever(served: Served) -> None:
    clients = [socket.socket() for _ in range(MOST_CONNECTIONS + 5)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", served.port.getHost().port))
    await pause(0.3)
    assert len(served.console._connections) == MOST_CONNECTIONS
    for client in clients:
        client.close()
    await pause(0.2)
    assert (await served.ask("ann", "queue")).code == 0
