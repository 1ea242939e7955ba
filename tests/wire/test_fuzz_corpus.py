"""What the fuzzers have found worth keeping, played again; `tests.fuzz` tells how it is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.fuzz import api, pb
from tests.fuzz.requests import Asked
from tests.support.banana import GREETING, call, encoded
from tests.support.traces import LoggedErrors

FAILURE = b"twisted.spread.pb.CopyableFailure"

#: Of earlier findings: what each was, and what showed it.
FINDINGS: list[tuple[str, str, bytes]] = [
    (what, name, GREETING + call(word, *values))
    for what, name, word, values in (
        ("half a reference", "door", b"join", (b"{}", [b"remote"])),
        ("half a reference of a client's", "client", b"kill", ([b"remote"], [b"None"])),
        ("no pairs", "client", b"kill", ([b"dictionary", b"x"], [b"None"])),
        ("a list as a key", "client", b"kill", ([b"dictionary", [[b"list"], 1]], [b"None"])),
        ("a class that Twisted has registered", "client", b"kill", ([FAILURE, [b"dictionary"]],)),
        ("no text", "client", b"kill", ([b"unicode", b"\xff"], [b"None"])),
    )
]

REQUESTS = [
    (what, line + b" HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
    for what, line, header in (
        ("a token that is no text", b"GET /v1/status", b"Authorization: \xff"),
        ("a bearer that is no text", b"GET /v1/jobs", b"Authorization: Bearer \xff"),
        ("a path that is no text", b"GET /v1/jobs/%ff", b"X: y"),
        ("a range that is no text", b"GET /v1/blobs/" + b"0" * 64, b"Range: \xff"),
        ("a host that is no text", b"GET /v1/version", b"Host: \xbf"),
    )
]


@pytest.fixture
def targets() -> Iterator[dict[str, pb.Target]]:
    made: dict[str, pb.Target] = {}
    with contextlib.ExitStack() as stack:
        for kind in pb.TARGETS:
            target = kind()
            stack.callback(target.close)
            made[target.name] = target
        yield made


@pytest.mark.parametrize(("what", "name", "data"), FINDINGS, ids=[each[0] for each in FINDINGS])
def test_what_was_found_once_is_refused(
    targets: dict[str, pb.Target], what: str, name: str, data: bytes
) -> None:
    signs = pb.play(targets[name], data)
    assert "answered invalid" in signs
    targets[name].check()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([b"tuple"], [b"tuple", b"x"]),
        ([b"tuple"], [b"dictionary", [b"message", b"x"]]),
        ([b"list", b"x"], [b"dictionary"]),
        ([], [b"dictionary"]),
        ([b"dictionary"], []),
    ],
)
def test_values_that_are_in_no_row_are_refused(
    targets: dict[str, pb.Target], args: list[Any], named: list[Any]
) -> None:
    signs = pb.play(targets["joined"], encoded([b"message", 1, 1, b"ended", 1, args, named]))
    assert "answered invalid" in signs


@pytest.mark.deadline(60)
def test_the_corpus_of_perspective_broker_does_no_harm(targets: dict[str, pb.Target]) -> None:
    corpus = pb.load()
    assert len(corpus) > 100
    for name, data in corpus:
        pb.play(targets[name], data)
    for target in targets.values():
        target.check()


def test_a_finding_would_be_one(
    targets: dict[str, pb.Target], monkeypatch: Any, logged_errors: LoggedErrors
) -> None:
    """A broker that answers with a defect, or logs one, is found out."""
    from syndicate.wire.pb.server import VolunteerAvatar

    def fail(self: object, message: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(VolunteerAvatar, "perspective_clean", fail)
    with pytest.raises(pb.Finding, match="logged"):
        pb.play(targets["joined"], call(b"clean", b'""', target=1))
    with pytest.raises(pb.Finding, match="unguarded"):
        pb.play(_Raising(), b"x")
    logged_errors.flush(ZeroDivisionError)


class _Raising(pb.Target):
    """Something that does not guard itself."""

    def open(self) -> pb.Wire:
        from twisted.internet.protocol import Protocol

        class Open(Protocol):
            def dataReceived(self, data: bytes) -> None:
                raise ValueError("unguarded")

        return pb.Wire(Open(), "")


@pytest.fixture
def world() -> Iterator[api.World]:
    made = api.World()
    yield made
    made.close()


@pytest.mark.parametrize(("what", "data"), REQUESTS, ids=[each[0] for each in REQUESTS])
def test_a_request_that_was_found_once_is_refused(world: api.World, what: str, data: bytes) -> None:
    answer, heard = world.ask(data)
    assert answer.split()[1] in (b"400", b"401", b"404")
    assert not [event for event in heard if event.get("log_failure") or event.get("isError")]


HEAD = b"GET /v1/version HTTP/1.1\r\nHost: x\r\n"
#: In the place of a good secret: nothing is read of a body that a stranger sends.
KNOWN = b"Authorization: Bearer SECRET\r\n"


@pytest.mark.parametrize(
    "data",
    [
        (b"GET /v1/version\r\n", b"Host: x\r\n", b"\r\n"),
        (HEAD + b"Content-Length: x\r\nA: b\r\n", b"\r\n", b"more"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nA: b\r\n", b"\r\n", HEAD),
        (HEAD + b"No colon\r\nA: b\r\n", b"\r\n", HEAD + b"\r\n"),
        (
            HEAD + KNOWN + b"Transfer-Encoding: chunked\r\n\r\n",
            b"g\r\n",
            b"0\r\n\r\n" + HEAD + b"\r\n",
        ),
    ],
)
def test_nothing_is_read_behind_what_is_no_request(
    world: api.World, data: tuple[bytes, ...]
) -> None:
    """As TLS goes on to read until the peer has closed its end, too."""
    secret = world.secrets["user"].encode()
    answer, heard = world.ask(*(each.replace(b"SECRET", secret) for each in data))
    assert answer == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    assert not [event for event in heard if event.get("log_failure") or event.get("isError")]


def test_whoever_goes_away_before_the_answer_is_no_failure(
    world: api.World, monkeypatch: Any
) -> None:
    monkeypatch.setattr(type(world.cluster.manager.audit), "tail", lambda *wanted: Deferred())
    asked = Asked("GET", "/v1/audit", "operator", b"")
    answer, heard = world.ask(asked.encoded(world.secrets))
    assert not answer
    assert not [event for event in heard if event.get("log_failure") or event.get("isError")]


@pytest.mark.deadline(60)
def test_the_corpus_of_the_api_does_no_harm(world: api.World) -> None:
    corpus = api.load()
    assert len(corpus) > 50
    for asked in corpus:
        answer, heard = world.ask(asked.encoded(world.secrets))
        api.judge(asked, answer, heard)
    answer, _ = world.ask(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in answer


def test_the_corpora_are_small() -> None:
    for path in (pb.CORPUS, api.CORPUS):
        assert Path(path).stat().st_size < 2 << 20
