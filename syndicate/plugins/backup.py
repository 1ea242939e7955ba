"""Saves a manager's state directory while the manager runs: ``syndicate-manager backup``.

The database is copied first, as of one moment; then everything that it refers to. Blobs never
change and logs only grow, so that what is copied later is never less than the database knows of.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import attrs

from syndicate import __version__
from syndicate.domain.errors import Conflict, Corrupt, NotFound, StorageFull
from syndicate.durable import sync_directory
from syndicate.store.copying import Contents, contents, copy_database
from syndicate.store.schema import DATABASE, MADE

MANIFEST = "manifest.json"
#: Counts the forms that a backup has had.
FORM = 1
PORTION = 1 << 20

#: What the system says where no more can be written.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: In the state directory, but not of it: the lock, the live database, and what is made anew.
PASSED_OVER = (
    *("lock", "probe", "inspect", "blobs", "damaged"),
    *(DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", MADE),
)


@attrs.frozen
class Made:
    """A backup that was made."""

    jobs: int
    files: int
    size: int
    #: What finished jobs refer to and is not there any more.
    missing: tuple[str, ...]


class Sink(Protocol):
    """Where files of a backup go."""

    def add(self, name: str, file: IO[bytes], size: int, mode: int) -> str:
        """Take exactly ``size`` bytes; gives their SHA-256."""

    def finish(self) -> None:
        """All is there: make it durable, under its name."""

    def abandon(self) -> None:
        """Remove what was begun."""


def make(state: Path, target: Path) -> Made:
    """Save a state directory.

    :param target: not there yet; a tarball if its name ends like one.
    :raises Conflict: ``target`` exists.
    :raises Corrupt: the database, or a blob that a job still needs, is damaged or lacking.
    :raises NotFound: there is no directory for it.
    :raises StorageFull: there is no room for it; nothing of it is left.
    """
    if target.exists():
        raise Conflict(f"{target} exists already; choose another name.")
    if target.absolute().is_relative_to(state.absolute()):
        raise Conflict(f"{target} is below the state directory itself; choose another place.")
    if not target.absolute().parent.is_dir():
        raise NotFound(f"There is no directory {target.absolute().parent}; make it first.")
    try:
        return _make(state, target)
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            raise StorageFull(
                f"There is no room for the backup {target}: {error.strerror}. It was removed."
            ) from error
        raise


def _make(state: Path, target: Path) -> Made:
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as of:
        database = Path(of) / DATABASE
        copy_database(state / DATABASE, database)
        sink = _sink_for(target)
        try:
            return _save(state, database, contents(database), sink)
        except BaseException:
            sink.abandon()
            raise


def _save(state: Path, database: Path, found: Contents, sink: Sink) -> Made:
    files: dict[str, dict[str, Any]] = {}

    def add(name: str, path: Path) -> str:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            # What is added to a log meanwhile is of a later time than the database.
            digest = sink.add(name, file, about.st_size, about.st_mode & 0o777)
        files[name] = {"sha256": digest, "size": about.st_size, "mode": about.st_mode & 0o777}
        return digest

    add(DATABASE, database)
    missing = _save_blobs(state, found, add)
    for path in _others(state):
        add(str(path.relative_to(state)), path)
    manifest = {
        "form": FORM,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "format": found.format,
        "jobs": found.jobs,
        "missing": missing,
        "files": files,
    }
    text = json.dumps(manifest, indent=1).encode()
    sink.add(MANIFEST, io.BytesIO(text), len(text), 0o600)
    sink.finish()
    size = sum(file["size"] for file in files.values())
    return Made(found.jobs, len(files), size, tuple(missing))


def _save_blobs(state: Path, found: Contents, add: Callable[[str, Path], str]) -> list[str]:
    missing = []
    for needed, digests in ((True, found.needed), (False, found.others)):
        for sha256 in digests:
            name = f"blobs/{sha256[:2]}/{sha256}"
            try:
                digest = add(name, state / name)
            except FileNotFoundError:
                if needed:
                    raise Corrupt(
                        f"{state / name}, which a job that is not finished needs, is not there. "
                        "Cancel that job, or put the file back; no backup was made."
                    ) from None
                missing.append(name)
                continue
            if digest != sha256:
                raise Corrupt(
                    f"{state / name} is damaged: it is not what its name says. Remove it; no "
                    "backup was made."
                )
    return missing


def _others(state: Path) -> Iterator[Path]:
    """Logs, authority, tokens, and what else is kept beside the database."""
    for root, directories, names in os.walk(state):
        if Path(root) == state:
            directories[:] = [name for name in directories if name not in PASSED_OVER]
            names = [name for name in names if name not in PASSED_OVER]
        directories.sort()
        for name in sorted(names):
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                yield path


def _sink_for(target: Path) -> Sink:
    if target.name.endswith((".tar.gz", ".tgz")):
        return _Tarball(target, "w:gz")
    return _Tarball(target, "w") if target.suffix == ".tar" else _Directory(target)


class _Hashing:
    """Reads a file up to a size, and hashes what it gives."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(self._left, size if size >= 0 else self._left))
        self._left -= len(data)
        self.hash.update(data)
        return data


@attrs.define(eq=False)
class _Directory:
    """A backup as a directory; it grows under another name."""

    _target: Path
    _draft: Path = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._draft = Path(
            tempfile.mkdtemp(prefix=f".{self._target.name}.", dir=self._target.absolute().parent)
        )

    def add(self, name: str, file: IO[bytes], size: int, mode: int) -> str:
        """See `Sink.add`."""
        path = self._draft / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = _Hashing(file, size)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy:
            while data := source.read(PORTION):
                copy.write(data)
            copy.flush()
            os.fsync(copy.fileno())
        return source.hash.hexdigest()

    def finish(self) -> None:
        """See `Sink.finish`."""
        for root, _, _ in os.walk(self._draft):
            sync_directory(Path(root))
        self._draft.rename(self._target)
        sync_directory(self._target.absolute().parent)

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        shutil.rmtree(self._draft, ignore_errors=True)


class _Tarball:
    """A backup as one file; it grows under another name."""

    def __init__(self, target: Path, mode: Any) -> None:
        self._target = target
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.absolute().parent)
        self._draft, self._file = Path(name), os.fdopen(fd, "wb")
        # Closed by `finish`, or with its file.
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=self._file, mode=mode, format=tarfile.PAX_FORMAT
        )

    def add(self, name: str, file: IO[bytes], size: int, mode: int) -> str:
        """See `Sink.add`."""
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = size, mode, int(time.time())
        source: Any = _Hashing(file, size)
        self._tar.addfile(member, source)
        digest: str = source.hash.hexdigest()
        return digest

    def finish(self) -> None:
        """See `Sink.finish`."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.rename(self._target)
        sync_directory(self._target.absolute().parent)

    def abandon(self) -> None:
        """See `Sink.abandon`."""
        self._draft.unlink(missing_ok=True)
        # What it holds back has no room either.
        with contextlib.suppress(OSError):
            self._file.close()
