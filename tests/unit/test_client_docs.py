"""What the page on benchmark clients says is so."""

from __future__ import annotations

import re
from pathlib import Path

from syndicate.client import calls, fault, gate, pb, samples, stream, sync, web
from syndicate.domain import errors
from syndicate.domain.fault import Kind

PAGE = (Path(__file__).parents[2] / "doc/clients.rst").read_text("utf-8")


def names_of(kind: type[object]) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_the_page_has_everything_that_a_client_can() -> None:
    for name in names_of(sync.Client):
        assert re.search(rf"``(with )?c\.{name}\b|``{name}``", PAGE), name


def test_both_libraries_have_the_same_names() -> None:
    assert names_of(sync.Client) == names_of(pb.Client)


def test_the_page_has_every_kind_of_fault_and_every_address() -> None:
    for kind in Kind:
        assert f"``{kind.value}``" in PAGE or f"c.{kind.value}(" in PAGE
    served = {
        (method.decode(), path.decode())
        for method, paths in web._VERBS.items()
        for path in paths
        if not path.startswith(b"/v1/faults/")
    }
    said = set(re.findall(r"``(GET|POST) (/v1/\S+)``", PAGE))
    assert said == served | {
        ("POST", "/v1/faults/KIND"),
        ("POST", "/v1/faults/ID/heal"),
        ("GET", "/v1/faults/ID"),
    }


def test_the_page_gives_every_code_the_right_status() -> None:
    rows = dict(re.findall(r"(?m)^``(\w+)``\s+(\d{3}) ", PAGE))
    for code, status in rows.items():
        assert errors.BY_CODE[code].status == int(status)
    known = {error.code for error in sync._tree(sync.SyndicateError)}
    assert known - rows.keys() == {"error", "no_door", "forbidden"}


def test_the_page_gives_the_true_limits() -> None:
    limits = PAGE.split("Limits\n------")[1]
    for number in (gate.MOST_CONNECTIONS, calls.MOST_CALLS, samples.OPERATION_LENGTH):
        assert f" {number} " in limits
    assert f"{web.BODY_CAP >> 20} MiB" in limits
    assert f"{calls.SAMPLE_RATE:,}".replace(",", " ") in limits
    assert f"every {stream.HEARTBEAT:.0f} seconds" in PAGE
    assert f"timeout={sync.TIMEOUT:.0f}" in PAGE
    assert round(1 / sync.GATHER) == 5  # "five times a second"
    # The library leaves some of the door to others, and fits into what a body may hold.
    assert sync.MOST_CONNECTIONS < gate.MOST_CONNECTIONS
    assert sync.BATCH * (4 * samples.OPERATION_LENGTH + 90) < web.BODY_CAP
    assert stream.HEARTBEAT * 2 < sync.SILENCE


def test_the_commands_that_the_page_shows_are_some() -> None:
    shown = re.findall(r"(?m)^   \$ syndicate-fault (.*)$", PAGE)
    assert len(shown) == 8
    import shlex

    for line in shown:
        assert list(fault.requests(*fault.read(shlex.split(line))))
