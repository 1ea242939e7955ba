"""Brings a backup back: ``syndicate-manager restore``.

It is laid out beside the state directory, checked whole, and only then renamed into its place; so
whatever goes wrong before, or cuts it short, what was there is there still.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import attrs

from syndicate.domain.errors import Conflict, Corrupt, Invalid
from syndicate.durable import sync_directory
from syndicate.plugins.backup import FORM, MANIFEST, PORTION
from syndicate.plugins.carrying import Carried, carry_over
from syndicate.store.copying import check, contents, prepare_to_go_on
from syndicate.store.schema import DATABASE
from syndicate.store.state_directory import DirectoryLock


@attrs.frozen
class Restored:
    """What was brought back."""

    jobs: int
    made_at: str
    next_job: int
    #: Where what was there before is now; None if there was nothing.
    aside: Path | None
    #: What had been revoked since the backup was made.
    carried: Carried


def bring_back(source: Path, state: Path, *, force: bool = False) -> Restored:
    """Make a backup the state directory.

    :param source: a directory or tarball that ``backup`` has made.
    :param force: move a state that is there aside.
    :raises StateDirectoryInUse: a manager runs on it.
    :raises Conflict: it is not empty, or is a file system of its own.
    :raises Corrupt: the backup is damaged, or not whole.
    :raises Invalid: it is no backup.
    """
    state = state.absolute()
    state.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        if state.exists():
            _check_place(state, held, force)
        draft = Path(tempfile.mkdtemp(prefix=f".{state.name}.restoring-", dir=state.parent))
        try:
            manifest = _lay_out(source, draft)
            next_job, carried = _check(draft, manifest, state)
            if os.geteuid() == 0:
                _give_to_owner_of(state if state.exists() else state.parent, draft)
            for root, _, _ in os.walk(draft):
                sync_directory(Path(root))
            aside = _put_in_place(draft, state)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return Restored(manifest["jobs"], manifest["made_at"], next_job, aside, carried)


def _check_place(state: Path, held: contextlib.ExitStack, force: bool) -> None:
    if os.path.ismount(state):
        raise Conflict(
            f"{state} is a file system of its own and cannot be renamed; restore into a directory "
            "below it, and set [manager] state to that."
        )
    lock = DirectoryLock.take(state)
    held.callback(lock.release)
    rest = sorted(path.name for path in state.iterdir() if path.name != "lock")
    if rest and not force:
        raise Conflict(
            f"{state} is not empty (it holds {', '.join(rest[:3])}…). With --force it is moved "
            "aside, and nothing of it is deleted."
        )


def _put_in_place(draft: Path, state: Path) -> Path | None:
    aside = None
    if state.exists():
        aside = state.with_name(f"{state.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
        if [path.name for path in state.iterdir()] == ["lock"]:
            shutil.rmtree(state)
            aside = None
        else:
            state.rename(aside)
    draft.rename(state)
    sync_directory(state.parent)
    return aside


def _check(draft: Path, manifest: dict[str, Any], state: Path) -> tuple[int, Carried]:
    """Check what was laid out, and carry over what was revoked since; gives the number of the next
    job.
    """
    database = draft / DATABASE
    check(database)
    found = contents(database)
    lacking = [
        name
        for sha256 in (*found.needed, *found.others)
        if not (draft / (name := f"blobs/{sha256[:2]}/{sha256}")).exists()
        and name not in manifest["missing"]
    ]
    if lacking:
        raise Corrupt(f"The backup lacks {lacking[0]}, which a job refers to; take another one.")
    number = prepare_to_go_on(database)
    carried = carry_over(state, draft)
    check(database)
    return number, carried


def _lay_out(source: Path, draft: Path) -> dict[str, Any]:
    """Copy all files of a backup, each checked against the manifest."""
    digests: dict[str, tuple[str, int]] = {}
    try:
        for name, file in _files(source):
            digests[name] = _copy(file, _below(draft, name))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        # Of a file that is no tarball at all Python lists what it has tried, on many lines.
        why = str(error) if "\n" not in str(error) else "it is no tarball"
        raise Corrupt(f"The backup {source} is damaged, or no backup: {why}.") from error
    path = draft / MANIFEST
    if not path.exists():
        raise Invalid(f"{source} is no backup, or was cut short: it has no {MANIFEST}.")
    manifest = _read(path)
    path.unlink()
    digests.pop(MANIFEST)
    told = {name: (file["sha256"], file["size"]) for name, file in manifest["files"].items()}
    if digests != told:
        odd = min(set(digests.items()) ^ set(told.items()))[0]
        raise Corrupt(
            f"The backup {source} is damaged: {odd} is not what was saved. Nothing was changed; "
            "take another backup."
        )
    for name, about in manifest["files"].items():
        (draft / name).chmod(about["mode"] & 0o777)
    return manifest


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        form = manifest["form"]
        _ = manifest["jobs"], manifest["made_at"], manifest["missing"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"The backup's {MANIFEST} is damaged: {error!r}.") from error
    if form > FORM:
        raise Invalid(
            f"The backup has form {form}, and this version of Syndicate knows {FORM} and older. "
            "Restore it with the version it was made with."
        )
    return manifest


def _files(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if source.is_dir():
        for root, _, names in os.walk(source):
            for name in names:
                path = Path(root) / name
                if path.is_symlink() or not path.is_file():
                    raise Corrupt(f"{path} is no plain file; no backup holds such.")
                with path.open("rb") as file:
                    yield str(path.relative_to(source)), file
        return
    with tarfile.open(source) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                raise Corrupt(f"{source} holds {member.name!r}, which is no plain file.")
            yield member.name, content


def _below(draft: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise Corrupt(f"The backup holds {name!r}, which would lie outside of the state directory.")
    return draft.joinpath(*parts)


def _copy(file: IO[bytes], target: Path) -> tuple[str, int]:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        while data := file.read(PORTION):
            digest.update(data)
            size += len(data)
            copy.write(data)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest(), size


def _give_to_owner_of(like: Path, draft: Path) -> None:
    """The manager may run as another user than the one who restores."""
    owner = like.stat()
    for root, directories, names in os.walk(draft):
        for name in (".", *directories, *names):
            os.chown(Path(root) / name, owner.st_uid, owner.st_gid)
