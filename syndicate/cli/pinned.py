"""A connection to a manager, whose certificate is checked, and the answers that come on it."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from email.message import Message
from typing import Any, NamedTuple

from syndicate.domain.errors import BY_CODE, SyndicateError

#: The name in every manager's certificate.
SERVER_NAME = "syndicate-manager"

#: Seconds to wait for a connection, and for an answer on it.
CONNECT = 5.0
ANSWER = 60.0

_BLOCK = 1 << 18


class Answer(NamedTuple):
    """What the manager said, whole."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)

    def error(self) -> SyndicateError:
        """The error in it; when it is none of ours, one that shows what came."""
        try:
            found = self.json()["error"]
            kind = BY_CODE.get(found["code"], SyndicateError)
            return kind(found["message"], **(found.get("details") or {}))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = self.body[:200].decode("utf-8", "replace").strip()
            return SyndicateError(f"The manager answered with HTTP status {self.status}: {text}")


class Pinned(http.client.HTTPSConnection):
    """A connection to a manager by whatever address."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=ANSWER, context=tls, blocksize=_BLOCK)
        self._tls = tls

    def connect(self) -> None:
        """Connect, and check who is there."""
        self.secure(self.reach())

    def reach(self) -> socket.socket:
        """Connect, and nothing else."""
        raw = socket.create_connection((self.host, self.port), CONNECT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A manager that vanished without a word is noticed within a minute, in streams too.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        return raw

    def secure(self, raw: socket.socket) -> None:
        """Check who is there, and speak with nobody else from now on."""
        try:
            self.sock = self._tls.wrap_socket(raw, server_hostname=SERVER_NAME)
        except BaseException:
            raw.close()
            raise
        self.sock.settimeout(self.timeout)
