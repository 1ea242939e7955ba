"""A UNIX socket that listens, and was never open to anybody but its owner.

Not `twisted.internet.unix.Port`: that opens the socket's file to everybody for a moment, unless
the umask of the whole process is changed meanwhile, and finds it again by a path that may have no
more than 107 bytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

#: Connections that may wait to be accepted, and those accepted at once.
BACKLOG = 64
#: Seconds that connections have to wait when there are no file descriptors left for them.
RESPITE = 0.1


class Listener(FileDescriptor):
    """Accepts connections to a socket in a directory until it is closed.

    :param uid: of the one user that may connect.
    :raises OSError: it cannot be made.
    """

    def __init__(
        self, reactor: Any, directory: Path, name: str, uid: int, factory: IProtocolFactory
    ) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._factory = factory
        self._path = directory / name
        self._respite: IDelayedCall | None = None
        self._socket = _make_socket(directory, name, uid)
        self.startReading()

    def fileno(self) -> int:
        """See `IFileDescriptor`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See `ILoggingContext`."""
        return f"door {self._path.name}"

    def doRead(self) -> None:
        """See `IReadDescriptor`."""
        for _ in range(BACKLOG):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warn("a connection to a door has to wait: {why}", why=error.strerror)
                self.stopReading()
                self._respite = self._reactor.callLater(RESPITE, self.startReading)
                return
            with accepted:
                accepted.setblocking(False)
                self._serve(accepted)

    def _serve(self, accepted: socket.socket) -> None:
        """Have the reactor serve a connection, of which it makes a copy."""
        try:
            self._reactor.adoptStreamConnection(accepted.fileno(), socket.AF_UNIX, self._factory)
        except OSError as error:
            log.warn("a connection to a door was lost: {why}", why=error.strerror)

    def close(self) -> None:
        """Listen no more, and remove the socket."""
        if self._respite is not None and self._respite.active():
            self._respite.cancel()
        self.stopReading()
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def connectionLost(self, reason: Failure) -> None:
        """See `IReadDescriptor`: the reactor stops."""
        self.close()


def _make_socket(directory: Path, name: str, uid: int) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        # Linux gives what bind(2) makes the mode of the socket, so that it never has another.
        os.fchmod(made.fileno(), 0o600)
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place)
            made.bind(f"/proc/self/fd/{place}/{name}")
            os.chown(name, uid, -1, dir_fd=place, follow_symlinks=False)
        finally:
            os.close(place)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
