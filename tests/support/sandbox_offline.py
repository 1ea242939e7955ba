"""A volunteer's side without any network: ``python -m tests.support.sandbox_offline STATE``.

It serves a socket that only the job's user may open, and prints what the job makes of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from syndicate.sandbox.chroot import ChrootSandbox
from tests.support.sandboxes import Kit, uids
from tests.support.tarballs import source

PROGRAM = """
import os, socket
print(open("/proc/net/dev").read().count(":"), "interface")
try:
    socket.create_connection(("127.0.0.1", 80), 5)
except OSError as error:
    print(error.strerror)
door = socket.socket(socket.AF_UNIX)
door.connect("/run/own/door")
door.sendall(b"hello")
print(door.recv(100).decode(), oct(os.stat("/run/own/door").st_mode & 0o777))
"""


class Echo(Protocol):
    """Says what it is told, louder."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data.upper())


async def _main(reactor: Any, state: str) -> None:
    directory = Path(state)
    kit = Kit(ChrootSandbox(reactor, directory / "state", "offline", uids(70), "root"), directory)
    place = directory / "client.tar.gz"
    sha256 = source(place, {"Makefile": "client:\n", "client.py": PROGRAM})
    with tempfile.TemporaryDirectory(prefix="syn") as short:  # as a socket's path has to be
        shared = Path(short)
        os.chmod(shared, 0o711)
        enclosure = await kit.prepare(source=place, sha256=sha256, shares=((shared, "/run/own"),))
        port = reactor.listenUNIX(str(shared / "door"), Factory.forProtocol(Echo), mode=0o600)
        os.chown(shared / "door", enclosure.uid, enclosure.uid)
        print(await kit.shell(enclosure, "/usr/bin/python3 client.py; ls /run/own"))
        # Who is somebody else, in another enclosure, sees nothing of it.
        other = await kit.prepare("1.1.slave-0")
        print(await kit.shell(other, "ls /run/own"))
        await port.stopListening()
        await kit.sandbox.close()


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(_main(reactor, *words)), sys.argv[1:])
