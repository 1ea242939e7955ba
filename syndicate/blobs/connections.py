"""Connections to the manager's HTTPS door, for the threads that move bytes through them.

The standard library's TLS moves bytes without holding the interpreter's lock, so that a volunteer
goes on with everything else while it brings a source in as fast as the network allows.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from syndicate.credentials.interface import SERVER_NAME
from syndicate.domain.errors import BY_CODE, Invalid, SyndicateError, Unavailable

#: Seconds without a byte after which a connection counts as broken, and seconds to make one.
SILENCE = 20.0
CONNECTING = 5.0

#: Seconds that a connection is kept unused; the manager keeps its side for longer.
IDLE = 20.0

#: Bytes of an answer that are read before it is answered to: error messages are short.
ANSWER = 1 << 20


class Connection(http.client.HTTPSConnection):
    """A connection that another thread can break."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=SILENCE, context=context)
        self._tls = context
        self._lock = threading.Lock()
        self._broken = False
        self._raw: socket.socket | None = None
        #: When it was used last, by the monotonic clock.
        self.used_at = 0.0

    def connect(self) -> None:
        """Connect to the first address that answers, whatever its certificate's addresses."""
        problem: OSError = ConnectionError(f"{self.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                self._hold(sock)
                sock.settimeout(CONNECTING)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(SILENCE)
                sock = self._tls.wrap_socket(
                    sock, server_hostname=SERVER_NAME, do_handshake_on_connect=False
                )
                self._hold(sock)
                sock.do_handshake()
            except OSError as error:
                sock.close()
                problem = error
            else:
                self.sock = sock
                return
        raise problem

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            if self._broken:
                raise ConnectionAbortedError("the connection was broken off on this side")
            self._raw = sock

    def break_off(self) -> None:
        """Make whatever a thread does with it fail at once; that thread closes it."""
        with self._lock:
            self._broken = True
            if self._raw is not None:
                with contextlib.suppress(OSError):
                    # Not the method of the TLS socket, which is not made for two threads.
                    socket.socket.shutdown(self._raw, socket.SHUT_RDWR)

    def is_fresh(self) -> bool:
        """Whether an idle connection can still be used: its peer has said nothing, not even bye."""
        if self.sock is None or time.monotonic() - self.used_at > IDLE:
            return False
        readable, _, _ = select.select([self.sock], [], [], 0)
        return not readable


@attrs.define(eq=False)
class Door:
    """Makes connections to one manager, lends them to threads, and keeps the idle ones."""

    host: str
    port: int
    _tls: ssl.SSLContext
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _idle: list[Connection] = attrs.field(init=False, factory=list)
    _lent: set[Connection] = attrs.field(init=False, factory=set)
    _closed: bool = attrs.field(init=False, default=False)

    @classmethod
    def of(cls, host: str, port: int, ca_file: Path) -> Door:
        """The door of a manager whose certificate is signed by the given authority, no other.

        :raises Invalid: the authority's file cannot be used.
        """
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            tls.load_verify_locations(ca_file)
        except ssl.SSLError as error:
            raise Invalid(
                f"The authority {ca_file} holds no certificate. "
                "Copy ca.pem of the manager's state directory there."
            ) from error
        except OSError as error:
            raise Invalid(
                f"The authority {ca_file} cannot be read: {error.strerror or error}. "
                "Copy ca.pem of the manager's state directory there."
            ) from error
        return cls(host, port, tls)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection; it is kept for the next one if its answer was read to the end.

        :raises Unavailable: the door is closed.
        """
        connection = self._take()
        good = False
        try:
            yield connection
            good = True
        finally:
            with self._lock:
                self._lent.discard(connection)
                keep = good and not self._closed and connection.sock is not None
                if keep:
                    connection.used_at = time.monotonic()
                    self._idle.append(connection)
            if not keep:
                connection.close()

    def _take(self) -> Connection:
        with self._lock:
            if self._closed:
                raise Unavailable("This transfer was broken off on this side.")
            found = None
            while self._idle and found is None:
                candidate = self._idle.pop()
                if candidate.is_fresh():
                    found = candidate
                else:
                    candidate.close()
            found = found or Connection(self.host, self.port, self._tls)
            self._lent.add(found)
            return found

    def close(self) -> None:
        """Close the idle connections and break off the others; their threads let go of them."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            lent = list(self._lent)
        for connection in idle:
            connection.close()
        for connection in lent:
            connection.break_off()


def read_all(response: http.client.HTTPResponse) -> bytes:
    """The whole body of a short answer, so that its connection can be used again.

    :raises ConnectionError: it is not short.
    """
    body = response.read(ANSWER)
    if not response.isclosed():
        raise ConnectionError("an answer is longer than any that was asked for")
    return body


def refusal(status: int, body: bytes) -> SyndicateError:
    """The error that the manager has answered with; an answer to HEAD has a status alone."""
    try:
        told: Any = json.loads(body)["error"]
        kind = BY_CODE.get(told["code"], SyndicateError)
        details = {str(key): value for key, value in dict(told["details"]).items()}
        details.pop("message", None)
        return kind(str(told["message"]), **details)
    except (ValueError, KeyError, TypeError):
        known = (kind for kind in BY_CODE.values() if kind.status == status)
        return next(known, Unavailable)(f"The manager's door answered with status {status}.")
