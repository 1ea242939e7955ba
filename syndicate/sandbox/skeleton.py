"""What a job's root has beside its source: links into ``/usr``, and a small ``/etc``.

Two layers lie below the source. The *skeleton* is the same for all jobs. Its ``bin``, ``lib`` and
so on are directories with one link for each thing in ``/usr/bin``, ``/usr/lib``: were they links
themselves, as on the host, a ``bin`` of the source would hide them, and with them ``/bin/sh``. The
*identity* lies above it and belongs to the job's user: as a merged directory has the owner that its
topmost layer gives it, the job may write to ``/bin`` and ``/etc`` whether or not its source has
them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Files and directories of the host's ``/etc`` without which programs in ``/usr`` do not work.
#: Nothing here may hold secrets; what others cannot read is left out anyway.
_ETC = (
    "alternatives",
    "ca-certificates",
    "debian_version",
    "ethertypes",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java*",
    "jvm*",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "magic.mime",
    "maven",
    "mime.types",
    "networks",
    "nodejs",
    "openjdk*",
    "os-release",
    "perl",
    "pki",
    "protocols",
    "python3*",
    "rpc",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)
#: Mount points.
_MOUNT_POINTS = ("dev", "proc", "tmp", "usr")
#: Changes with what `provide` makes.
_FORM = "1"


def merged_directories() -> tuple[str, ...]:
    """The directories at the host's root that are links into ``/usr``: bin, lib and so on."""
    found = []
    with os.scandir("/") as entries:
        for entry in entries:
            if entry.is_symlink() and os.path.realpath(entry.path).startswith("/usr/"):
                found.append(entry.name)
    return tuple(sorted(found))


def provide(place: Path, *, shared: bool = False) -> Path:
    """The skeleton for the host as it is now, made when it is not there yet.

    Several volunteers on one machine may share a place: whoever comes first makes it, the others
    wait for it. One that was made for a former state of the host is removed, unless it may be a
    layer of somebody else's jobs.

    :param place: directory that skeletons are kept in.
    :param shared: whether others use it too.
    """
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    signs = "\n".join((_FORM, *_signs()))
    wanted = place / hashlib.sha256(os.fsencode(signs)).hexdigest()[:16]
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.is_dir():
            draft = wanted.with_suffix(".new")
            shutil.rmtree(draft, ignore_errors=True)
            _build(draft)
            draft.rename(wanted)
        if not shared:
            for old in place.iterdir():
                if old.is_dir() and old != wanted:
                    shutil.rmtree(old)
    return wanted


def _build(place: Path) -> None:
    place.mkdir(mode=0o755)
    for name in _MOUNT_POINTS:
        (place / name).mkdir()
    for name in merged_directories():
        _fill_with_links(place / name, Path(os.path.realpath(f"/{name}")))
    (place / "etc").mkdir()
    for path in _etc_files():
        _copy(path, place / "etc" / path.relative_to("/etc"))
    (place / "etc/mtab").symlink_to("/proc/self/mounts")
    (place / "etc/nsswitch.conf").write_text(
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
    )


def _signs() -> Iterator[str]:
    """Whatever changes when something that the skeleton shows is installed or removed."""
    directories = (Path(os.path.realpath(f"/{name}")) for name in merged_directories())
    for path in (*directories, *_etc_files()):
        yield f"{path} {path.lstat().st_mtime_ns}"


def _fill_with_links(directory: Path, shown: Path) -> None:
    directory.mkdir()
    for name in os.listdir(shown):
        target = shown / name
        if name.startswith("ld-") and target.is_symlink():
            # The loader is often a link by way of /lib, which the source may have a directory in.
            target = Path(os.path.realpath(target))
        (directory / name).symlink_to(os.path.join("..", target.relative_to("/")))


def _etc_files() -> Iterable[Path]:
    for pattern in _ETC:
        yield from Path("/etc").glob(pattern)


def _copy(source: Path, target: Path) -> None:
    """Copy what everybody may read, links as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        if source.stat().st_mode & 0o005 != 0o005:
            return
        target.mkdir()
        for entry in source.iterdir():
            _copy(entry, target / entry.name)
    elif source.is_file() and source.stat().st_mode & 0o004:
        shutil.copy(source, target)


def make_identity(
    place: Path,
    uid: int,
    hosts: Iterable[tuple[str, str]],
    hostname: str,
    resolv_conf: Path | None = None,
    owned: bool = False,
    mount_points: Iterable[str] = (),
) -> None:
    """Make the layer that belongs to one job's user.

    :param hosts: names and addresses for ``/etc/hosts``.
    :param resolv_conf: where to take ``/etc/resolv.conf`` from; without it a job has no DNS.
    :param mount_points: directories to make, absolute as the job sees them.
    :param owned: whether to give it to ``uid`` (else it stays ours, as we are that user inside).
    """
    place.mkdir(mode=0o755)
    for name in (*merged_directories(), "etc"):
        (place / name).mkdir(mode=0o755)
    entries = [f"{address}\t{name}" for name, address in hosts]
    files = {
        "passwd": f"root:x:0:0:root:/:/bin/sh\njob:x:{uid}:{uid}:job:/:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/bin/false\n",
        "group": f"root:x:0:\njob:x:{uid}:\nnogroup:x:65534:\n",
        "hosts": "\n".join(("127.0.0.1\tlocalhost", "::1\tip6-localhost", *entries, "")),
        "hostname": f"{hostname}\n",
    }
    if resolv_conf is not None:
        files["resolv.conf"] = resolv_conf.read_text()
    for name, text in files.items():
        (place / "etc" / name).write_text(text)
    for point in mount_points:
        (place / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
    if owned:
        for directory, _, names in os.walk(place):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                os.chown(path, uid, uid)
