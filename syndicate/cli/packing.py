"""A source directory as a tarball: the same files give the same bytes, whoever packs them."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import attrs

from syndicate.domain.errors import Invalid, InvalidSource, NotFound
from syndicate.domain.makefile import missing

#: What is never part of a source.
ALWAYS_IGNORED = (".git/", ".hg/", ".svn/", "__pycache__/", "*.pyc", ".syndicateignore")

#: The file at the top of a source with further patterns, one a line.
IGNORE_FILE = ".syndicateignore"

#: Names of a Makefile, in the order in which make looks for them.
MAKEFILES = ("GNUmakefile", "makefile", "Makefile")

#: Larger tarballs are made on disk.
_IN_MEMORY = 32 << 20
_BLOCK = 1 << 20
_MOST_PROBLEMS = 10


@attrs.frozen
class Package:
    """A tarball ready to be sent."""

    file: IO[bytes]
    sha256: str
    size: int

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def package(source: Path, targets: tuple[str, ...]) -> Package:
    """The tarball of a source: a directory is packed, anything else is taken for a tarball.

    :param targets: what a directory's Makefile must have.
    :raises NotFound: there is nothing of that name.
    :raises InvalidSource: what is there is no source, or cannot be packed.
    """
    if source.is_dir():
        return _pack(source, targets)
    if not source.exists():
        raise NotFound(f"There is no source {source}.")
    if not source.is_file():
        raise InvalidSource(f"{source} is neither a directory nor a tarball.")
    file = source.open("rb")
    sha256, size = _measure(file)
    if size == 0:
        file.close()
        raise InvalidSource(f"{source} is empty, so it is no tarball.")
    return Package(file, sha256, size)


def _measure(file: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    file.seek(0)
    return digest.hexdigest(), size


def _pack(top: Path, targets: tuple[str, ...]) -> Package:
    problems: list[str] = []
    members = sorted(_members(top, problems), key=lambda member: member.name)
    problems = problems or _about_makefile(top, targets)
    if problems:
        raise InvalidSource(_said(top, problems), problems=problems)
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  (closed by who gets it)
    try:
        # Without name and time in gzip's head; level 6 takes twice as long for a few per cent.
        with (
            gzip.GzipFile("", "wb", 4, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for member in members:
                _add(tar, top, member)
    except BaseException:
        file.close()
        raise
    sha256, size = _measure(file)
    return Package(file, sha256, size)


def _said(top: Path, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{top} cannot be a source: {problems[0]}."
    shown = "\n  ".join(problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS
    return f"{top} cannot be a source:\n  {shown}" + (f"\n  and {more} more" if more > 0 else "")


def _about_makefile(top: Path, targets: tuple[str, ...]) -> list[str]:
    found = next((top / name for name in MAKEFILES if (top / name).is_file()), None)
    if found is None:
        return ["it has no Makefile at its top"]
    lacking = missing(found.read_bytes(), targets)
    return [f"its {found.name} has no target {target!r}" for target in lacking]


def _members(top: Path, problems: list[str]) -> Iterator[tarfile.TarInfo]:
    ignored = [*ALWAYS_IGNORED, *_ignore_file(top)]
    directories = [top]
    while directories:
        directory = directories.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError as error:
            problems.append(f"{directory.relative_to(top)}: {error.strerror}")
            continue
        for entry in entries:
            name = Path(entry.path).relative_to(top).as_posix()
            is_directory = entry.is_dir(follow_symlinks=False)
            if _is_ignored(name, is_directory, ignored):
                continue
            if is_directory:
                directories.append(Path(entry.path))
            member = _describe(entry, name, problems)
            if member is not None:
                yield member


def _ignore_file(top: Path) -> list[str]:
    try:
        lines = (top / IGNORE_FILE).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{top / IGNORE_FILE} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _is_ignored(name: str, is_directory: bool, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        if pattern.endswith("/") and not is_directory:
            continue
        bare = pattern.rstrip("/")
        # With a slash inside, it is a path from the top; without one, a name anywhere.
        target = name if "/" in bare else PurePosixPath(name).name
        if fnmatch.fnmatchcase(target, bare.lstrip("/")):
            return True
    return False


def _describe(entry: os.DirEntry[str], name: str, problems: list[str]) -> tarfile.TarInfo | None:
    try:
        name.encode("utf-8")
        about = entry.stat(follow_symlinks=False)
    except UnicodeEncodeError:
        problems.append(f"{name!r}: the name is not UTF-8")
        return None
    except OSError as error:
        problems.append(f"{name}: {error.strerror}")
        return None
    member = tarfile.TarInfo(name)
    member.mtime = int(about.st_mtime)  # make goes by it, so it is kept
    if stat.S_ISDIR(about.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISREG(about.st_mode):
        member.mode = 0o755 if about.st_mode & 0o100 else 0o644
        member.size = about.st_size
        if not os.access(entry.path, os.R_OK):
            problems.append(f"{name}: you may not read it")
    elif stat.S_ISLNK(about.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(entry.path)
        if _leads_out(name, member.linkname):
            problems.append(
                f"{name}: the link leads out of the source, to {member.linkname};"
                f" what is not part of the source can be named in its {IGNORE_FILE}"
            )
    else:
        problems.append(f"{name}: neither a file, nor a directory, nor a link")
    return member


def _leads_out(name: str, target: str) -> bool:
    path = os.path.normpath(PurePosixPath(name).parent / target)
    return target.startswith("/") or path == ".." or path.startswith("../")


def _add(tar: tarfile.TarFile, top: Path, member: tarfile.TarInfo) -> None:
    if not member.isreg():
        tar.addfile(member)
        return
    try:
        with open(top / member.name, "rb") as file:
            tar.addfile(member, file)
    except OSError as error:
        raise InvalidSource(
            f"{top} cannot be packed: {member.name}: {error.strerror or 'it became shorter'}."
        ) from error
