"""Clients in sandboxes without any network: ``python -m tests.support.clients_offline STATE``.

Runs every example of a client, and one that is written with Twisted, each in the sandbox of a
volunteer and before a real door, and prints as JSON what became of each.
"""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from syndicate.domain.job import Limits
from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.doorsteps import EXAMPLES, NEEDS, PROGRAM, WORDS, Doorstep
from tests.support.sandboxes import Kit, uids
from tests.support.tarballs import source

INSIDE = "/run/syndicate"
PROBE = """
import socket
print(open("/proc/net/dev").read().count(":"), "interface")
try:
    socket.create_connection(("10.0.0.1", 9), 5)
except OSError as error:
    print(error.strerror)
"""
#: What Twisted needs, of what it is installed with here; what the system has beside it (``-S``) is
#: not looked at.
PACKAGES = (
    *("twisted", "zope", "attr", "attrs", "automat", "constantly", "hyperlink", "idna"),
    *("incremental", "packaging", "typing_extensions.py"),
)


def with_twisted() -> dict[str, bytes | str]:
    """A client's source that brings Twisted along."""
    installed = Path(sysconfig.get_paths()["purelib"])
    files: dict[str, bytes | str] = {
        "Makefile": "client:\n\tPYTHONPATH=$$PYTHONPATH:/own /usr/bin/python3 -S -B program.py\n",
        "program.py": PROGRAM,
    }
    for name in PACKAGES:
        top = installed / name
        for path in [top] if top.is_file() else top.rglob("*.py"):
            if "test" not in path.parts:
                files[f"own/{path.relative_to(installed)}"] = path.read_bytes()
    return files


def example(name: str) -> dict[str, bytes | str]:
    """The source of an example."""
    return {path.name: path.read_bytes() for path in (EXAMPLES / name).iterdir()}


async def hurt(kit: Kit, name: str, files: dict[str, bytes | str]) -> dict[str, Any]:
    """Run a client to its end; tells what it did."""
    place = kit.directory / f"{name}.tar.gz"
    shown = kit.directory / f"door-{name}"
    enclosure = await kit.prepare(
        "1.1.client-0",
        source=place,
        sha256=source(place, {**files, "probe.py": PROBE}),
        shares=((shown, INSIDE),),
        limits=Limits(disk=256 << 20),
    )
    doorstep = await Doorstep.at(shown, enclosure.uid)
    script = f"/usr/bin/python3 probe.py; make {' '.join(WORDS)} 2>&1"
    printed = await kit.shell(enclosure, script, **doorstep.environment(INSIDE))
    await doorstep.door.close()
    await enclosure.destroy()
    handle = doorstep.handle
    return {
        "faults": [(fault["kind"], fault["machines"]) for fault in handle.done],
        "emptied": [call[2].get("with_disk") for call in handle.calls if call[0] == "fault"][-1:]
        == [False],
        "result": handle.result,
        "printed": printed,
    }


async def _main(reactor: Any, state: str) -> None:
    kit = Kit(
        ChrootSandbox(reactor, Path(state) / "state", "offline", uids(80), "root"), Path(state)
    )
    await kit.sandbox.probe()
    told: dict[str, Any] = {}
    for name, need in NEEDS.items():
        there = shutil.which(need, path="/usr/local/bin:/usr/bin:/bin")
        told[name] = await hurt(kit, name, example(name)) if there else None
    told["twisted"] = await hurt(kit, "twisted", with_twisted())
    await kit.sandbox.close()
    print(json.dumps(told))


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(_main(reactor, *words)), sys.argv[1:])
