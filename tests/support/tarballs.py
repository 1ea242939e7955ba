"""Tarballs for tests: honest ones, and ones that no honest tool would write."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

MAKEFILE = b"master:\n\techo hello\nslave:\n\techo hello\n"

COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def member(name: str, data: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member; ``attributes`` are those of `tarfile.TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 1_700_000_000
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, data


def directory(name: str, **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """A directory."""
    attributes.setdefault("mode", 0o755)
    return member(name, b"", type=tarfile.DIRTYPE, **attributes)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symbolic link."""
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link."""
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def archive(
    members: Iterable[tuple[tarfile.TarInfo, bytes]],
    form: int = tarfile.PAX_FORMAT,
    makefile: bool = True,
) -> bytes:
    """An uncompressed archive of these members, after a Makefile."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for info, data in (*([member("Makefile", MAKEFILE)] if makefile else []), *members):
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def source(place: Path, files: Mapping[str, bytes | str], executable: bool = True) -> str:
    """Write a source of these files, compressed; returns its digest."""
    members = []
    for name, data in files.items():
        content = data.encode() if isinstance(data, str) else data
        members.append(member(name, content, mode=0o755 if executable else 0o644))
    data = gzip.compress(archive(members, makefile=False), 1, mtime=0)
    place.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def header(name: bytes, size: int, kind: bytes = b"0", link: bytes = b"") -> bytes:
    """One header block, of whatever one likes."""
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,
            b"%011o\0" % size,
            b"00000000000\0",
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
        )
    ).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
