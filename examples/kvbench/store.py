"""The store as one thread of a client sees it: a connection, and what came of each request."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")

#: Seconds that a connection may take, and an answer.
CONNECT, ANSWER = 0.4, 1.2


class NotDone(Exception):
    """It was surely not done, and never will be: the store said so, or has not heard of it."""


class Unsure(Exception):
    """Nobody knows: it may have been done, or may still be."""


class Store:
    """One connection to the store, made when it is needed, and made anew after any trouble."""

    def __init__(self, address: str, port: int) -> None:
        self._place = (address, port)
        self._link: socket.socket | None = None

    def put(self, key: str, version: int, value: str) -> None:
        """Write; it is acknowledged when this returns.

        :raises NotDone: it was not written.
        :raises Unsure: it may have been.
        """
        answer = self._ask({"do": "put", "key": key, "version": version, "value": value})
        if answer.get("done") is not True:
            raise Unsure(str(answer))

    def get(self, key: str) -> tuple[int, str]:
        """Read: version and value; version 0 when there is none.

        :raises NotDone: the store does not tell.
        :raises Unsure: there was no answer.
        """
        match self._ask({"do": "get", "key": key}):
            case {"version": int(version), "value": str(value)}:
                return version, value
        raise Unsure("the answer to a get has a version and a value")

    def in_step(self, backups: int) -> bool:
        """Whether the store serves, and so many backups have all that the master has committed.

        :raises NotDone: the store does not tell.
        :raises Unsure: there was no answer.
        """
        match self._ask({"do": "status"}):
            case {"problem": "", "committed": int(committed), "copies": dict(copies)}:
                return sum(safe >= committed for safe in copies.values()) >= backups
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._link is None:
            try:
                self._link = socket.create_connection(self._place, CONNECT)
            except OSError as error:
                raise NotDone(f"no connection: {error}") from error
        self._link.settimeout(ANSWER)
        data = json.dumps(message).encode()
        try:
            self._link.sendall(_LENGTH.pack(len(data)) + data)
            (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
            answer = json.loads(self._exactly(length))
        except (OSError, EOFError, ValueError) as error:
            # An answer that comes late must not be taken for that to the next question.
            self.close()
            raise Unsure(f"no answer: {error}") from error
        if not isinstance(answer, dict):
            raise Unsure(f"no answer of a store: {answer!r}")
        if "refused" in answer:
            raise NotDone(str(answer["refused"]))
        return answer

    def _exactly(self, count: int) -> bytes:
        assert self._link is not None
        data = bytearray()
        while len(data) < count:
            piece = self._link.recv(count - len(data))
            if not piece:
                raise EOFError("the store has closed the connection")
            data += piece
        return bytes(data)
