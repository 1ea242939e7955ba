"""Connections to a real daemon that carry bytes in ways that no decent peer chooses.

TLS is done in memory, so that it is ours to say how its records are cut, run together, spoilt, or
broken off on their way.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from syndicate.credentials.authority import SERVER_NAME

#: Seconds for a handshake, or for the kernel to take what we send.
PATIENCE = 10.0
#: Seconds after which a peer that has said nothing is taken to say nothing more.
QUIET = 0.15
#: Bytes of one connection that are read at the most.
MOST = 4 << 20

#: How a connection may end: in order, with or without TLS's own last word; reset by force; with
#: our half closed while we read on; or with that last word alone, and nothing after it.
ENDINGS = ("close", "close", "unsaid", "reset", "half", "last word")


class Refused(Exception):
    """The daemon let us get no further: no connection, or no handshake."""


def context(authority: Path, shown: Path | None = None) -> ssl.SSLContext:
    """What TLS is to be like at our end.

    :param shown: a directory with a certificate of a volunteer.
    """
    made = ssl.create_default_context(cafile=str(authority))
    if shown is not None:
        made.load_cert_chain(shown / "certificate.pem", shown / "key.pem")
    return made


def address(random: Random) -> str:
    """One of the many addresses of the loopback device: what is limited is so by address."""
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def tcp(port: int, source: str) -> socket.socket:
    """A connection to a port of this machine.

    :raises Refused: there is none.
    """
    try:
        made = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
    except OSError as error:
        raise Refused(str(error)) from error
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def unix(path: Path) -> socket.socket:
    """A connection to a socket in a directory.

    :raises Refused: there is none.
    """
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    try:
        made.connect(str(path))
    except OSError as error:
        made.close()
        raise Refused(str(error)) from error
    return made


def pieces(random: Random, data: bytes) -> Iterator[bytes]:
    """The data, cut somewhere; only its beginning into the smallest pieces, or it took for ever."""
    sizes = random.choice(((1 << 20,), (1 << 20,), (1, 2, 3), (7, 100), (1, 7, 100, 5000, 1 << 20)))
    count = 0
    while data:
        size = random.choice(sizes) if count < 60 else 1 << 20
        yield data[:size]
        data, count = data[size:], count + 1


class Line:
    """One connection, over TLS if it is given a context."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self.sock = sock
        self.heard = bytearray()
        #: Whether nothing more can come.
        self.over = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._tls = tls.wrap_bio(self._in, self._out, server_hostname=SERVER_NAME)
            try:
                self._shake()
            except BaseException:
                sock.close()
                raise

    def _shake(self) -> None:
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                try:
                    self._take()
                except TimeoutError:
                    raise Refused("it was late with its handshake") from None
                if self.over:
                    raise Refused("it hung up in the handshake") from None
            except ssl.SSLError as error:
                raise Refused(str(error)) from error
            else:
                self._flush()
                return

    def _flush(self) -> None:
        if data := self._out.read():
            self.raw(data)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, past TLS."""
        try:
            self.sock.sendall(data)
        except OSError:  # it has hung up, or takes nothing any more
            self.over = True

    def _take(self) -> None:
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.over = True
            self._in.write_eof()
        elif self._tls is None:
            self.heard += data
        else:
            self._in.write(data)

    def say(self, data: bytes, random: Random | None = None) -> None:
        """Send data; with chance, cut into records, and these into segments, as it wants."""
        if random is None:
            self._send(data)
            return
        slow = random.random() < 0.05
        together = random.random() < 0.3  # all records in one segment
        held = b""
        for piece in pieces(random, data):
            if self._tls is None:
                self.raw(piece)
            else:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.write(piece)
                held += self._out.read()
                if not together:
                    self._cut(random, held)
                    held = b""
            if slow:
                time.sleep(0.005)
            if self.over:
                return
        self._cut(random, held)

    def _send(self, data: bytes) -> None:
        if self._tls is None:
            self.raw(data)
            return
        with contextlib.suppress(ssl.SSLError):
            self._tls.write(data)
        self._flush()

    def _cut(self, random: Random, records: bytes) -> None:
        for piece in pieces(random, records):
            self.raw(piece)

    def spoil(self, random: Random) -> None:
        """Send what cannot be a record, or is one that was changed on its way."""
        if self._tls is not None and random.random() < 0.5:
            self._tls.write(b"x" * 20)
            record = bytearray(self._out.read())
            record[random.randrange(len(record))] ^= 1 << random.randrange(8)
            self.raw(bytes(record))
        else:
            self.raw(random.randbytes(random.randrange(1, 200)))

    def hear(self, enough: Callable[[bytes], bool] = bool, seconds: float = QUIET) -> bytes:
        """What has come, once it is enough, or for so long nothing more has come."""
        while not self.over and not enough(bytes(self.heard)) and len(self.heard) < MOST:
            self.sock.settimeout(seconds)
            try:
                self._take()
            except TimeoutError:
                break
            finally:
                self.sock.settimeout(PATIENCE)
            self._decrypt()
        return bytes(self.heard)

    def _decrypt(self) -> None:
        while self._tls is not None:
            try:
                data = self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLError, ssl.SSLSyscallError):
                self.over = True
                break
            if not data:
                self.over = True
                break
            self.heard += data
        self._flush()

    def end(self, how: str = "close") -> None:
        """End it, in one of `ENDINGS`."""
        try:
            if how in ("close", "half", "last word") and self._tls is not None:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._flush()
            if how == "reset":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "half":
                self.sock.shutdown(socket.SHUT_WR)
                self.hear(lambda heard: False)
            elif how == "last word":
                self.hear(lambda heard: False)
        except OSError:  # it was ended at the other end
            pass
        finally:
            self.sock.close()
