from __future__ import annotations

import hashlib
import os
import socket
import tarfile
from pathlib import Path

import pytest

from syndicate.cli import packing
from syndicate.cli.packing import Package, package
from syndicate.domain.errors import InvalidSource, NotFound

MAKEFILE = "master:\n\ttrue\nslave:\n\ttrue\n"


#: The targets that a job's source must have.
BOTH = ("master", "slave")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "lib").mkdir(parents=True)
    (top / "Makefile").write_text(MAKEFILE)
    (top / "lib/run.sh").write_text("#!/bin/sh\n")
    (top / "lib/run.sh").chmod(0o770)
    (top / "empty").mkdir()
    return top


def members(top: Path, targets: tuple[str, ...] = BOTH) -> dict[str, tarfile.TarInfo]:
    packed = package(top, targets)
    with packed.file, tarfile.open(fileobj=packed.file) as tar:
        return {member.name: member for member in tar}


def packed_bytes(top: Path) -> bytes:
    packed = package(top, BOTH)
    with packed.file:
        data = packed.file.read()
    assert (packed.size, packed.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


def refusal(top: Path, targets: tuple[str, ...] = BOTH) -> str:
    with pytest.raises(InvalidSource) as caught:
        package(top, targets)
    return str(caught.value)


def test_the_same_files_give_the_same_bytes_whoever_packs_them(
    source: Path, tmp_path: Path
) -> None:
    before = packed_bytes(source)
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(source.rglob("*"), reverse=True):  # made in another order
        target = other / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(0o700 if os.access(path, os.X_OK) and path.suffix else 0o600)
    for path in [*source.rglob("*"), *other.rglob("*")]:
        os.utime(path, (1e9, 1e9))
    assert packed_bytes(source) == packed_bytes(other) != before


def test_times_and_the_executable_bit_are_kept_and_the_owner_is_not(source: Path) -> None:
    os.utime(source / "Makefile", (1, 1234567890.75))
    found = members(source)
    assert set(found) == {"Makefile", "lib", "lib/run.sh", "empty"}
    assert found["Makefile"].mtime == 1234567890
    assert found["Makefile"].mode == 0o644
    assert found["lib/run.sh"].mode == 0o755
    assert all((m.uid, m.gid, m.uname, m.gname) == (0, 0, "", "") for m in found.values())


def test_what_is_no_source_is_left_out(source: Path) -> None:
    for name in (".git/config", "lib/__pycache__/x.pyc", "old.pyc", "build/a.o", "data/big.bin"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    (source / ".syndicateignore").write_text("# comment\n\nbuild/\ndata/*.bin\n")
    assert set(members(source)) == {"Makefile", "lib", "lib/run.sh", "empty", "data"}


def test_links_inside_are_kept_as_links(source: Path) -> None:
    (source / "lib/link").symlink_to("../Makefile")
    found = members(source)["lib/link"]
    assert (found.issym(), found.linkname) == (True, "../Makefile")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", ".."])
def test_links_that_lead_out_are_refused(source: Path, target: str) -> None:
    (source / "lib/link").symlink_to("../.." if target == ".." else target)
    assert "lib/link: the link leads out of the source" in refusal(source)


def test_what_is_neither_file_nor_directory_nor_link_is_refused(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(source / "s"))
        said = refusal(source)
    assert "pipe: neither" in said
    assert "s: neither" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(source: Path) -> None:
    (source / "secret").write_text("x")
    (source / "secret").chmod(0)
    assert "secret: you may not read it" in refusal(source)


def test_a_name_that_is_not_utf8_is_told(source: Path) -> None:
    os.close(os.open(os.fsencode(source) + b"/\xff", os.O_CREAT))
    assert "is not UTF-8" in refusal(source)


def test_a_file_that_got_shorter_since_it_was_looked_at_is_told(source: Path) -> None:
    looked_at = tarfile.TarInfo("Makefile")
    looked_at.size = 10_000
    with (
        pytest.raises(InvalidSource, match="Makefile: it became shorter"),
        tarfile.open("/dev/null", "w") as tar,
    ):
        packing._add(tar, source, looked_at)


def test_a_source_without_a_makefile_is_refused(source: Path) -> None:
    (source / "Makefile").rename(source / "lib/Makefile")
    assert refusal(source) == f"{source} cannot be a source: it has no Makefile at its top."


def test_a_makefile_without_its_targets_is_refused_before_anything_is_sent(source: Path) -> None:
    (source / "Makefile").write_text("master:\n\ttrue\n")
    assert "its Makefile has no target 'slave'" in refusal(source)
    assert "no target 'client'" in refusal(source, ("client",))


def test_a_makefile_that_may_have_more_targets_is_taken(source: Path) -> None:
    (source / "Makefile").write_text("include rules.mk\n")
    assert members(source)


def test_a_tarball_is_taken_as_it_is(tmp_path: Path) -> None:
    tarball = tmp_path / "x.tar"
    tarball.write_bytes(b"whatever it is")
    found = package(tarball, BOTH)
    with found.file:
        assert found.file.read() == b"whatever it is"
    assert isinstance(found, Package)


def test_an_empty_tarball_and_none_at_all_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").touch()
    assert "is empty" in refusal(tmp_path / "x.tar")
    assert "neither a directory nor a tarball" in refusal(Path("/dev/null"))
    with pytest.raises(NotFound):
        package(tmp_path / "y.tar", BOTH)
