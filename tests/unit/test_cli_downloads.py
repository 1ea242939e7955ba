from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from syndicate.cli.downloads import UnsafePath, place, unpack
from syndicate.domain.errors import Invalid


def archive(path: Path, *members: tuple[str, bytes | Callable[[tarfile.TarInfo], None]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                content(member)
                tar.addfile(member)
    return path


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


def device(member: tarfile.TarInfo) -> None:
    member.type = tarfile.CHRTYPE


def test_regular_files_are_unpacked_and_nothing_else(tmp_path: Path) -> None:
    refused: list[str] = []
    tar = archive(
        tmp_path / "outputs.tar",
        ("a/b.txt", b"one"),
        ("./c.txt", b"two"),
        ("../evil", b"x"),
        ("/evil", b"x"),
        ("a/../../evil", b"x"),
        ("link", link("/etc/passwd")),
        ("hard", link("a/b.txt", tarfile.LNKTYPE)),
        ("null", device),
    )
    top = tmp_path / "top"
    found = list(unpack(tar, top, refused.append))
    assert [path.relative_to(top).as_posix() for path in found] == ["a/b.txt", "c.txt"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(
        ["outputs.tar", "top", "a", "b.txt", "c.txt"]
    )
    assert [text.partition(":")[0] for text in refused] == [
        *("../evil", "/evil", "a/../../evil", "link", "hard", "null")
    ]


def test_nothing_is_written_through_a_link_that_is_there(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    top = tmp_path / "top"
    top.mkdir()
    (top / "a").symlink_to(outside)
    (top / "f").symlink_to(outside / "target")
    refused: list[str] = []
    tar = archive(tmp_path / "outputs.tar", ("a/x", b"x"), ("f", b"new"))
    list(unpack(tar, top, refused.append))
    assert list(outside.iterdir()) == []
    assert len(refused) == 1
    assert not (top / "f").is_symlink()  # replaced, not followed
    assert (top / "f").read_bytes() == b"new"


def test_the_executable_bit_is_all_of_the_mode_that_is_kept(tmp_path: Path) -> None:
    def mode(bits: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(oct(bits))
        member.mode = bits
        return member

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for bits in (0o4755, 0o600):
            tar.addfile(mode(bits))
    modes = [p.stat().st_mode & 0o7777 for p in unpack(tmp_path / "x.tar", tmp_path / "t", print)]
    assert [bits & 0o7100 for bits in modes] == [0o100, 0]


def test_what_is_no_tarball_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tarball at all" * 100)
    with pytest.raises(Invalid, match="cannot be read"):
        list(unpack(tmp_path / "x.tar", tmp_path, print))


@pytest.mark.parametrize("name", ["", "/", "..", "../x", "a/../../x", "/etc/passwd", "a\0b"])
def test_names_that_lead_out_have_no_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePath):
        place(tmp_path, name)


def test_the_names_of_machines_have_a_place(tmp_path: Path) -> None:
    assert place(tmp_path, "attempt-1/slave[0].out") == tmp_path / "attempt-1/slave[0].out"
