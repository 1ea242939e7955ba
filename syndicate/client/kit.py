"""What a benchmark client finds in its sandbox beside its door: the command and the libraries.

All of it comes as files in a directory that is shown there, so that neither the client's source
nor the host needs any package of ours.
"""

from __future__ import annotations

import functools
import py_compile
import shutil
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
_LIBRARY = "lib/syndicate"

#: Where things go, and which file of ours they are.
_FILES = {
    "bin/syndicate-fault": _HERE / "fault.py",
    f"{_LIBRARY}/__init__.py": _HERE.parent / "__init__.py",
    f"{_LIBRARY}/client/__init__.py": _HERE / "__init__.py",
    f"{_LIBRARY}/client/sync.py": _HERE / "sync.py",
    f"{_LIBRARY}/client/pb.py": _HERE / "pb.py",
}
#: What the command imports: it starts faster when that is compiled already.
_COMPILED = tuple(
    f"{_LIBRARY}/{name}" for name in ("__init__.py", "client/__init__.py", "client/sync.py")
)


def lay_out(directory: Path) -> None:
    """Put the command into ``bin`` of a directory, and the libraries into ``lib``.

    Everybody may read them, and nobody but their owner write.

    :param directory: it exists; what is there of an earlier time is replaced.
    """
    for name in ("bin", "lib"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for name, data in _contents().items():
        path = directory / name
        _make_folders(path.parent, directory)
        path.write_bytes(data)
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)


def _make_folders(folder: Path, top: Path) -> None:
    if folder != top and not folder.exists():
        _make_folders(folder.parent, top)
        folder.mkdir()
        folder.chmod(0o755)


@functools.cache
def _contents() -> dict[str, bytes]:
    """Every file, read and compiled once."""
    return {
        **{name: path.read_bytes() for name, path in _FILES.items()},
        **dict(_compiled(name) for name in _COMPILED),
    }


def _compiled(name: str) -> tuple[str, bytes]:
    """A file as Python keeps it beside its source, and where that is."""
    folder, _, file = name.rpartition("/")
    cached = f"{folder}/__pycache__/{file[:-3]}.{sys.implementation.cache_tag}.pyc"
    with tempfile.TemporaryDirectory() as scratch:
        made = f"{scratch}/{file}c"
        py_compile.compile(
            str(_FILES[name]),
            cfile=made,
            dfile=f"/run/syndicate/{name}",
            doraise=True,
            # It is never compared with the source, whose time is not what a copy keeps.
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return cached, Path(made).read_bytes()
