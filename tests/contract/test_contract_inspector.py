"""Looking into tarballs that users send."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList
from zope.interface.verify import verifyObject

from syndicate.domain.errors import InvalidSource, SandboxFailed, SyndicateError
from syndicate.sandbox.inspector import LauncherInspector
from syndicate.sandbox.interface import ISourceInspector, SourceFacts, SourceRules
from tests.support.sandboxes import the_reactor
from tests.support.tarballs import MAKEFILE, archive, header, member, symlink


@pytest.fixture
def inspector(tmp_path: Path) -> Iterator[Any]:
    """One that takes ten members and a mebibyte."""
    rules = SourceRules(unpacked=1 << 20, members=10)
    inspector = LauncherInspector(the_reactor(), tmp_path / "scratch", rules)
    yield inspector
    pytest_twisted.blockon(inspector.close())


def written(place: Path, data: bytes) -> Path:
    """A file of these bytes, that nobody but us may read."""
    place.write_bytes(data)
    place.chmod(0o600)
    return place


@pytest_twisted.ensureDeferred
async def test_a_good_source_is_described(inspector: Any, tmp_path: Path) -> None:
    verifyObject(ISourceInspector, inspector)
    place = written(tmp_path / "x", gzip.compress(archive([member("a/b", b"hello")])))
    facts = await inspector.inspect(place)
    assert facts == SourceFacts(members=3, unpacked=len(MAKEFILE) + 5, makefile=MAKEFILE)


@pytest_twisted.ensureDeferred
async def test_a_makefile_of_any_bytes_arrives_whole(inspector: Any, tmp_path: Path) -> None:
    makefile = bytes(range(256)) * 2000
    data = archive([member("Makefile", makefile)], makefile=False)
    assert (await inspector.inspect(written(tmp_path / "x", data))).makefile == makefile


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nonsense", "not a tarball"),
        (archive([symlink("x", "../y")]), "outside the source"),
        (archive([member(str(index)) for index in range(10)]), "more than 10 files"),
        (gzip.compress(archive([member("big", bytes(2 << 20))])), "more than 1 MiB"),
        (archive([member("main.c")], makefile=False), "no Makefile"),
    ],
    ids=["nonsense", "escape", "members", "size", "makefile"],
)
@pytest_twisted.ensureDeferred
async def test_a_bad_source_is_refused_with_a_reason(
    inspector: Any, tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(InvalidSource, match=words):
        await inspector.inspect(written(tmp_path / "x", data))


@pytest.mark.deadline(30)
@pytest_twisted.ensureDeferred
async def test_bombs_are_refused(inspector: Any, tmp_path: Path) -> None:
    bomb = lzma.compress(header(b"bomb", 6 << 30) + bytes(64 << 20))
    with pytest.raises(InvalidSource):
        await inspector.inspect(written(tmp_path / "x", bomb))
    endless = gzip.compress(header(b"././@LongLink", 60_000, b"L") + bytes(60_416)) * 2000
    with pytest.raises(InvalidSource):
        await inspector.inspect(written(tmp_path / "y", endless))


@pytest.mark.deadline(30)
@pytest_twisted.ensureDeferred
async def test_what_takes_too_long_is_refused(tmp_path: Path) -> None:
    rules = SourceRules(unpacked=1 << 40)
    inspector = LauncherInspector(the_reactor(), tmp_path / "scratch", rules, cpu=1)
    nothing = bz2.compress(bytes(8 << 20)) * 200
    data = bz2.compress(archive([])[:1024] + header(b"big", 1 << 32)) + nothing
    try:
        with pytest.raises(InvalidSource, match="too long"):
            await inspector.inspect(written(tmp_path / "x", data))
    finally:
        await inspector.close()


@pytest_twisted.ensureDeferred
async def test_many_are_looked_into_side_by_side(inspector: Any, tmp_path: Path) -> None:
    good = written(tmp_path / "good", archive([]))
    bad = written(tmp_path / "bad", b"bad")
    results = await DeferredList(
        [inspector.inspect(place) for place in (good, bad) * 4], consumeErrors=True
    )
    assert [success for success, _ in results] == [True, False] * 4


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_not_there_is_no_fault_of_the_user(
    inspector: Any, tmp_path: Path
) -> None:
    with pytest.raises(SandboxFailed, match="missing"):
        await inspector.inspect(tmp_path / "missing")


@pytest_twisted.ensureDeferred
async def test_after_closing_nothing_is_inspected(inspector: Any, tmp_path: Path) -> None:
    await inspector.close()
    with pytest.raises(SyndicateError):
        await inspector.inspect(written(tmp_path / "x", archive([])))
    assert os.listdir(tmp_path / "scratch") == ["empty"]
