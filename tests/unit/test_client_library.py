"""The library for clients as a file: what it needs, and how it behaves when things go wrong."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syndicate.client import sync
from syndicate.client.kit import lay_out
from syndicate.client.samples import check_samples
from syndicate.domain import errors
from syndicate.domain.errors import Invalid

ROOM = Path(__file__).parents[2] / "syndicate/client"
#: What the library for Twisted may import beside the standard library.
TWISTED = {"twisted", "syndicate.client.sync", "syndicate.client"}


@pytest.mark.parametrize("name", ["__init__.py", "sync.py", "fault.py", "pb.py"])
def test_what_runs_in_sandboxes_is_python_3_8(name: str) -> None:
    ast.parse((ROOM / name).read_text(), feature_version=(3, 8))


def imported(name: str) -> set[str]:
    """What a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOM / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module))
    return found


@pytest.mark.parametrize(
    ("name", "ours"),
    [("sync.py", set()), ("fault.py", {"syndicate.client"}), ("pb.py", TWISTED)],
)
def test_nothing_is_imported_that_a_sandbox_lacks(name: str, ours: set[str]) -> None:
    foreign = {
        module
        for module in imported(name)
        if module.split(".")[0] not in sys.stdlib_module_names
        and module not in ours
        and module.split(".")[0] not in ours
    }
    assert foreign == set()


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.12"])
def test_the_one_file_works_when_it_is_copied(version: str, tmp_path: Path) -> None:
    python = shutil.which(f"python{version}")
    runs = python and subprocess.run([python, "-c", ""], capture_output=True, check=False)
    if not python or not runs or runs.returncode:
        pytest.skip(f"there is no Python {version} on this machine")
    shutil.copy(ROOM / "sync.py", tmp_path / "faults.py")
    script = """
import faults, socket
try:
    faults.connect()
except faults.NoDoor as error:
    print(error.code)
silent = socket.socket(socket.AF_UNIX)
silent.bind("http")
silent.listen()
try:
    faults.connect("http", timeout=0.1)
except faults.Timeout as error:
    print(error.code)
"""
    ended = subprocess.run(
        [python, "-S", "-c", script], cwd=tmp_path, env={}, capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("no_door\ntimeout\n", "")


def loaded_by(statement: str, *, path: Path) -> set[str]:
    script = f"import sys; sys.path.insert(0, {str(path)!r}); {statement}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_the_package_gives_what_the_file_has_and_loads_it_late() -> None:
    top = ROOM.parents[1]
    idle = loaded_by("import syndicate.client as sc", path=top)
    assert "syndicate.client.sync" not in idle
    used = loaded_by("import syndicate.client as sc; sc.connect, sc.NotYours", path=top)
    assert "syndicate.client.sync" in used
    assert "twisted" not in used
    assert not used & {"typing", "http", "http.client", "ssl", "argparse", "asyncio"}


def test_there_is_nothing_in_the_package_but_what_the_file_has() -> None:
    import syndicate.client as sc

    assert sc.connect is sync.connect
    assert sc.Revoked is sync.Revoked
    for name in ("Nonsense", "nonsense", "_nonsense"):
        with pytest.raises(AttributeError):
            getattr(sc, name)


def test_its_errors_are_those_of_the_manager() -> None:
    ours = {error.code: error for error in sync._tree(sync.SyndicateError)}
    for code, error in ours.items():
        if error in (sync.SyndicateError, sync.NoDoor):
            continue
        theirs = errors.BY_CODE[code]
        assert theirs.__name__ == error.__name__
        assert theirs.__base__ is not None
        assert error.__base__ is not None
        assert theirs.__base__.__name__ == error.__base__.__name__


def test_an_error_that_it_does_not_know_keeps_its_code() -> None:
    error = sync.error_of({"code": "brand_new", "message": "Hm.", "details": {"a": 1}})
    assert type(error) is sync.SyndicateError
    assert (error.code, str(error), error.details) == ("brand_new", "Hm.", {"a": 1})
    for nonsense in (None, {}, {"code": 3}, "text"):
        assert sync.error_of(nonsense).code == "internal"


@pytest.mark.parametrize(
    "values",
    [
        ("put", 1.5, True, 1_700_000_000.25),
        ('a "quoted" one', 0.0, False, 1_700_000_000.0),
        ("back\\slash", 123456.789, True, None),
        ("Grüße 🙂" * 12, 1e-9, True, None),
        ("x" * 100, 9e11, False, 0.0),
    ],
)
def test_samples_that_it_writes_are_taken(values: Any) -> None:
    line = sync.sample_line(*values)
    assert check_samples(line.encode()) == (line.encode(), 1)
    told = json.loads(line)
    assert (told["op"], told["ok"]) == (values[0], values[2])
    assert told["ms"] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize(
    ("op", "ms"), [("", 1.0), ("x" * 101, 1.0), ("a\nb", 1.0), ("a", -1.0), ("a", float("nan"))]
)
def test_what_is_no_sample_is_not_taken_in(op: str, ms: float) -> None:
    with pytest.raises(ValueError, match=r"operation|measured"):
        sync.sample_line(op, ms, True, None)


GOOD = b'{"t": 1.5, "op": "put", "ms": 2, "ok": true}'


def test_samples_come_out_as_lines() -> None:
    assert check_samples(b"") == (b"", 0)
    assert check_samples(b"\n \n") == (b"", 0)
    assert check_samples(GOOD) == (GOOD + b"\n", 1)
    odd = b'{"ok": false, "ms": 1e-3, "op": "g\\u00e9t", "t": -4}'
    assert check_samples(GOOD + b"\r\n\n" + odd) == (GOOD + b"\n" + odd + b"\n", 2)


@pytest.mark.parametrize(
    "bad",
    [
        b"x",
        b"[]",
        b"{}",
        b'{"t": 1, "op": "put", "ms": 2}',
        b'{"t": 1, "op": "put", "ms": 2, "ok": true, "key": 1}',
        b'{"t": "1", "op": "put", "ms": 2, "ok": true}',
        b'{"t": 1, "op": "put", "ms": NaN, "ok": true}',
        b'{"t": 1, "op": "put", "ms": 1e999, "ok": true}',
        b'{"t": 1, "op": "put", "ms": true, "ok": true}',
        b'{"t": 1, "op": 7, "ms": 2, "ok": true}',
        b'{"t": 1, "op": "", "ms": 2, "ok": true}',
        b'{"t": 1, "op": "a\\nb", "ms": 2, "ok": true}',
        b'{"t": 1, "op": "put", "ms": 2, "ok": 1}',
        b'{"t": 1, "op": "' + b"x" * 101 + b'", "ms": 2, "ok": true}',
        b'{"t": 1, "op": "\xff", "ms": 2, "ok": true}',
        b"[" * 2000,
        b" " * 2000 + b"x",
    ],
)
def test_a_line_that_is_no_sample_refuses_all_and_is_named(bad: bytes) -> None:
    with pytest.raises(Invalid, match="Line 3 is no sample"):
        check_samples(GOOD + b"\n" + GOOD + b"\n" + bad + b"\n" + GOOD)


# With a door that misbehaves.


@contextlib.contextmanager
def door(path: Path, *answers: Callable[[socket.socket, bytes], None]) -> Iterator[list[bytes]]:
    """Answers one request after another in the given ways; gives what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            left = list(answers)
            while left:
                connection, _ = listener.accept()
                with connection:
                    while left and (request := _request(connection)):
                        asked.append(request)
                        if left.pop(0)(connection, request) is not None:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(5)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(connection: socket.socket, request: bytes) -> None:
    body = b'{"id": "f1"}'
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def hang_up(connection: socket.socket, request: bytes) -> Any:
    return "gone"


def answer_half(connection: socket.socket, request: bytes) -> Any:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    return "gone"


def say_nothing(connection: socket.socket, request: bytes) -> Any:
    connection.settimeout(5)
    connection.recv(1)
    return "gone"


def key_of(request: bytes) -> bytes:
    return request.split(b"Idempotency-Key: ")[1].split(b"\r\n")[0]


def test_a_request_whose_connection_breaks_is_made_again_with_its_key(tmp_path: Path) -> None:
    with door(tmp_path / "http", hang_up, answer_half, answer, answer) as asked:
        wire = sync.Wire(str(tmp_path))
        assert wire.post("/v1/faults/kill", {"machine": "slave[0]"}) == {"id": "f1"}
        wire.post("/v1/faults/kill", {"machine": "slave[0]"})
        wire.forget()
    assert len(asked) == 4
    assert len({key_of(request) for request in asked[:3]}) == 1
    assert len({key_of(request) for request in asked}) == 2
    assert asked[0] == asked[2]


def test_a_door_that_only_hangs_up_is_no_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PAUSES", (0.0, 0.0))
    with door(tmp_path / "http", *[hang_up] * 3), pytest.raises(sync.NoDoor):
        sync.Wire(str(tmp_path)).get("/v1/job")


def test_a_silent_door_is_a_timeout_and_not_asked_again(tmp_path: Path) -> None:
    late = pytest.raises(sync.Timeout, match=r"within 0\.1 s")
    with door(tmp_path / "http", say_nothing) as asked, late:
        sync.Wire(str(tmp_path / "http"), timeout=0.1).get("/v1/job")
    assert len(asked) == 1


def test_an_answer_that_is_no_json_is_a_defect(tmp_path: Path) -> None:
    def nonsense(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nhm!")

    with door(tmp_path / "http", nonsense):
        wire = sync.Wire(str(tmp_path))
        with pytest.raises(sync.Internal):
            wire.get("/v1/job")
        wire.forget()


def test_no_door_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNDICATE_SOCKET", raising=False)
    with pytest.raises(sync.NoDoor, match="SYNDICATE_SOCKET is not set"):
        sync.connect()
    monkeypatch.setenv("SYNDICATE_SOCKET", str(tmp_path / "http"))
    with pytest.raises(sync.NoDoor, match="No such file"):
        sync.connect()


def test_a_socket_is_found_by_its_directory_or_its_name(tmp_path: Path) -> None:
    for given in (tmp_path, tmp_path / "http"):
        assert sync.socket_path(str(given)) == str(tmp_path / "http")
        assert sync.socket_path(str(given), "pb") == str(tmp_path / "pb")
    assert sync.socket_path(str(tmp_path / "other")) == str(tmp_path / "other")


# Samples on their way.


class Tray:
    """Where a sampler sends its batches."""

    def __init__(self, *problems: sync.SyndicateError | None) -> None:
        self.problems = list(problems)
        self.sent: list[tuple[bytes, str]] = []

    def __call__(self, lines: bytes, key: str) -> None:
        self.sent.append((lines, key))
        problem = self.problems.pop(0) if self.problems else None
        if problem is not None:
            raise problem


def test_samples_are_sent_in_time_and_in_batches() -> None:
    tray = Tray()
    sampler = sync.Sampler(tray)
    for number in range(sync.BATCH + 10):
        sampler.add(f"{number}\n")
    sampler.close()
    assert b"".join(lines for lines, _ in tray.sent).split() == [
        b"%d" % number for number in range(sync.BATCH + 10)
    ]
    assert len({key for _, key in tray.sent}) == len(tray.sent)
    sampler.add("later\n")
    arrived = threading.Event()
    while not arrived.wait(0.01):
        if tray.sent[-1][0] == b"later\n":
            arrived.set()
    sampler.close()


def test_a_batch_that_could_not_be_sent_is_sent_again_with_its_key() -> None:
    tray = Tray(sync.NoDoor("gone"))
    sampler = sync.Sampler(tray)
    sampler.add("one\n")
    with pytest.raises(sync.NoDoor):
        sampler.close()
    sampler.add("two\n")
    sampler.close()
    (first, key), (again, same), (second, other) = tray.sent
    assert (first, again, second) == (b"one\n", b"one\n", b"two\n")
    assert key == same != other


def test_a_batch_that_is_refused_is_told_of_and_let_go() -> None:
    tray = Tray(sync.Invalid("no"))
    sampler = sync.Sampler(tray)
    sampler.add("one\n")
    with pytest.raises(sync.Invalid):
        sampler.close()
    sampler.close()
    assert len(tray.sent) == 1


def test_no_sample_of_many_threads_is_lost_or_sent_twice() -> None:
    tray = Tray()
    sampler = sync.Sampler(tray)

    def work(name: int) -> None:
        for number in range(3000):
            sampler.add(f"{name}.{number}\n")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sampler.close()
    got = b"".join(lines for lines, _ in tray.sent).split()
    assert len(got) == len(set(got)) == 12_000


def test_timing_tells_how_a_block_ended() -> None:
    told: list[tuple[str, bool]] = []

    def sample(op: str, ms: float, *, ok: bool, t: float) -> None:
        assert 0 <= ms < 10_000
        assert t > 1.6e9
        told.append((op, ok))

    with sync.Timed(sample, "good"):
        pass
    with sync.Timed(sample, "said") as it:
        it.ok = False
    with contextlib.suppress(ZeroDivisionError), sync.Timed(sample, "raised"):
        raise ZeroDivisionError
    assert told == [("good", True), ("said", False), ("raised", False)]


# As it is laid out.


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kit")
    lay_out(directory)
    return directory


def test_everything_can_be_read_by_everybody_and_written_by_nobody(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        lay_out(tmp_path)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        executable = path.is_dir() or path.parent.name == "bin"
        assert path.stat().st_mode & 0o777 == (0o755 if executable else 0o644), path
    (tmp_path / "lib/syndicate/left.py").write_text("")
    lay_out(tmp_path)
    assert not (tmp_path / "lib/syndicate/left.py").exists()


def test_what_is_laid_out_can_be_imported_and_brings_nothing_else_along(kit: Path) -> None:
    loaded = loaded_by("import syndicate.client as sc; sc.connect", path=kit / "lib")
    ours = {name for name in loaded if name.startswith("syndicate")}
    assert ours == {"syndicate", "syndicate.client", "syndicate.client.sync"}


def test_the_command_does_not_compile_the_library_anew(kit: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-ISv", str(kit / "bin/syndicate-fault"), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert "Usage: syndicate-fault" in ended.stdout
    cached = kit / f"lib/syndicate/client/__pycache__/sync.{sys.implementation.cache_tag}.pyc"
    assert f"{cached} matches" in ended.stderr


def test_the_command_names_the_system_python(kit: Path) -> None:
    first = (kit / "bin/syndicate-fault").read_text().splitlines()[0]
    assert first == "#!/usr/bin/python3 -IS"
