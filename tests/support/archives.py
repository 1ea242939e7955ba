"""Tarballs, good and bad, for whoever must tell them apart."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

MAKEFILE = "master slave:\n\t@true\n"


def tarball(path: Path, *members: tarfile.TarInfo, makefile: str | None = MAKEFILE) -> Path:
    """A gzipped tarball of a Makefile, unless told otherwise, and empty members."""
    with tarfile.open(path, "w:gz") as archive:
        if makefile is not None:
            add(archive, "Makefile", makefile.encode())
        for member in members:
            archive.addfile(member, io.BytesIO(b"\0" * member.size))
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    """One entry of a tarball."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


def _written(data: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return make


def _truncated(path: Path) -> Path:
    whole = tarball(path, member("data", size=200_000)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _below(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "lab/Makefile", MAKEFILE.encode())
    return path


#: What is wrong, and a tarball with which it is; the words tell the user.
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "not-a-tarball": (_written(b"hello, I am a text\n" * 100), "tarball"),
    "empty": (_written(b""), "empty"),
    "truncated": (_truncated, ""),
    "no-makefile": (lambda p: tarball(p, member("x"), makefile=None), "Makefile"),
    "makefile-below": (_below, "-C lab ."),
    "no-slave": (lambda p: tarball(p, makefile="master:\n\ttrue\n"), "'slave'"),
    "escapes": (lambda p: tarball(p, member("../../etc/passwd")), "../../etc/passwd"),
    "absolute": (lambda p: tarball(p, member("/etc/passwd")), "/etc/passwd"),
    "device": (lambda p: tarball(p, member("null", tarfile.CHRTYPE)), "null"),
    "fifo": (lambda p: tarball(p, member("pipe", tarfile.FIFOTYPE)), "pipe"),
    "link-out": (
        lambda p: tarball(p, member("a", tarfile.SYMTYPE, "/etc"), member("a/shadow")),
        "a",
    ),
    "bomb": (lambda p: tarball(p, member("zeros", size=600 << 20)), ""),
}
