"""The tarballs of a torture's jobs, and what is asked for with each."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import attrs

from syndicate.torture import tormentor, witness
from syndicate.torture.schedule import Manner, Task

#: Of so many jobs one has a source of its own, so that bytes are sent again and again.
FRESH = 4

_MAKEFILE = """\
.PHONY: master slave client
master slave:
\t@exec /usr/bin/python3 witness.py
client:
\t@exec /usr/bin/python3 tormentor.py
"""


@attrs.frozen
class Source:
    """A tarball."""

    data: bytes
    sha256: str


def source_of(task: Task) -> Source:
    """What the machines of a task run, its client too."""
    own = f"{task.number} " * 20_000 if task.number % FRESH == 0 else ""
    files = {"Makefile": _MAKEFILE.encode(), "own.txt": own.encode()}
    for program in (witness.__file__, tormentor.__file__):
        files[Path(program).name] = Path(program).read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return Source(packed.getvalue(), hashlib.sha256(packed.getvalue()).hexdigest())


def spec_of(task: Task, source: Source) -> dict[str, Any]:
    """The specification of a task's job, as the API takes it."""
    client = {"client_sha256": source.sha256, "client_size": len(source.data)}
    return {
        "name": task.name,
        "sha256": source.sha256,
        "size": len(source.data),
        "machines": task.machines,
        "clients": task.clients,
        **(client if task.clients else {}),
        "limits": {
            "wall": 4.0 if task.manner is Manner.ENDLESS else 600.0,
            "disk": 8 << 20,
            "memory": 128 << 20,
        },
        "outputs": [witness.KEPT_NAME] if task.manner is Manner.KEEPS else [],
        "env": {
            "TASK": str(task.number),
            "MANNER": task.manner.value,
            "LASTS": str(task.lasts),
            "LINES": str(task.lines),
            "FAULTS": "\n".join(task.faults),
        },
    }
