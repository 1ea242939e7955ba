"""The jobs that are measured, as source directories and as tarballs that are new each time."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import attrs

#: Nothing to do: what is left is what we cost.
NO_OP = "master slave:\n\t@true\n.PHONY: master slave\n"
#: One line from each machine.
HELLO = "master slave:\n\t@echo hello from $$SYNDICATE_MACHINE\n.PHONY: master slave\n"
#: Goes on until it is killed.
ENDLESS = "master slave:\n\t@sleep 1000\n.PHONY: master slave\n"


def brief(seconds: float) -> str:
    """Ends by itself, and says when."""
    return f"master slave:\n\t@sleep {seconds:.2f}; date +%s.%N\n.PHONY: master slave\n"


@attrs.frozen
class Tarball:
    """A source as it is uploaded."""

    data: bytes = attrs.field(repr=False)
    sha256: str

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)


def tarball(makefile: str, files: Mapping[str, bytes] | None = None) -> Tarball:
    """A source that nobody has seen before: it holds a nonce."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in _contents(makefile, files).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = target.getvalue()
    return Tarball(data, hashlib.sha256(data).hexdigest())


def directory(place: Path, makefile: str) -> Path:
    """The same as a directory, for the command line."""
    place.mkdir(mode=0o755)
    for name, data in _contents(makefile, None).items():
        (place / name).write_bytes(data)
    return place


def _contents(makefile: str, files: Mapping[str, bytes] | None) -> dict[str, bytes]:
    return {"Makefile": makefile.encode(), "nonce": os.urandom(16), **(files or {})}
