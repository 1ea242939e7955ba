"""Files of a job as they come to this machine: whole, and only below the directory asked for."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote

from syndicate.cli.connection import Connection
from syndicate.domain.errors import Invalid, SyndicateError

#: The tarball of a machine's outputs, which is unpacked and not kept.
OUTPUTS = "outputs.tar"


class UnsafePath(Invalid):
    """A name that leads out of the directory that things are written to."""

    code = "unsafe_path"


def place(top: Path, name: str) -> Path:
    """Where a file of that name goes.

    :raises UnsafePath: the name leads out of the directory, or through a link.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise UnsafePath(f"{name!r} is no name of a file below {top}.")
    path = top
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise UnsafePath(f"{name!r} would be written through the link {path}.")
    return path / parts[-1]


def download(connection: Connection, job: int, name: str, size: int | None, target: Path) -> None:
    """Bring one file, and put it in its place when it is whole.

    :param size: bytes that it has to have; None for output, which is kept in another form: that
        it is whole is then told by the end of the answer alone.
    """

    def once() -> None:
        path = f"/v1/jobs/{job}/files/{quote(name)}"
        with connection.stream(path, timeout=60.0) as chunks, replacing(target) as file:
            for chunk in chunks:
                file.write(chunk)
            if size is not None and file.tell() != size:
                raise ConnectionError(f"{name} came with {file.tell()} of {size} bytes")

    connection.persist(once)


class replacing:  # noqa: N801  (used as a function)
    """A file that takes its place when it has been written without an error."""

    def __init__(self, target: Path, mode: int = 0o666) -> None:
        self._target, self._mode = target, mode
        self._unfinished = target.with_name(f".{target.name}.part")

    def __enter__(self) -> IO[bytes]:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._unfinished, flags, self._mode), "wb")
        return self._file

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._file.close()
        if error is None:
            self._unfinished.replace(self._target)
        else:
            self._unfinished.unlink(missing_ok=True)


def unpack(archive: Path, top: Path, refused: Callable[[str], None]) -> Iterator[Path]:
    """Unpack regular files, and nothing but these; no filter of tarfile is relied on, since not
    every Python that we run on has them.

    :param refused: is told of each member that was left out.
    :raises Invalid: it cannot be read as a tarball.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isdir():
                    continue
                if not member.isreg():
                    refused(f"{member.name}: not a regular file, left out")
                    continue
                try:
                    target = place(top, member.name)
                    _write(tar, member, target)
                except (UnsafePath, OSError) as error:
                    refused(f"{member.name}: left out: {error}")
                    continue
                yield target
    except tarfile.TarError as error:
        raise Invalid(f"The outputs {archive} cannot be read: {error}.") from error


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise SyndicateError("it has no content")
    mode = 0o777 if member.mode & 0o100 else 0o666
    with content, replacing(target, mode) as file:
        shutil.copyfileobj(content, file)
