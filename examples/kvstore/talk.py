"""How master, slaves and clients talk: JSON messages over TCP, each with its length before it."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

_LENGTH = struct.Struct(">I")

#: Longest message in bytes; a whole copy of the store travels as one.
LONGEST = 64 << 20


class LinkBroken(Exception):
    """The other side has gone, or is silent for longer than it may be."""


class Link:
    """One connection.

    A link that breaks is never mended: TCP would wait longer and longer between its tries, so a
    new connection is there much sooner.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, message: dict[str, Any]) -> None:
        """Send one message; waits while the other side does not take it.

        :raises LinkBroken: it is gone.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            self._writer.write(_LENGTH.pack(len(data)) + data)
            await self._writer.drain()
        except OSError as error:
            raise LinkBroken(str(error)) from error

    async def receive(self, patience: float | None = None) -> dict[str, Any]:
        """Wait for the next message.

        :param patience: seconds to wait for it; None waits for ever.
        :raises LinkBroken: there will be none, or it did not come in time.
        """
        try:
            async with asyncio.timeout(patience):
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if length > LONGEST:
                    raise LinkBroken(f"a message of {length} bytes is too long")
                message: dict[str, Any] = json.loads(await self._reader.readexactly(length))
        except TimeoutError as error:
            raise LinkBroken(f"silent for {patience:g} s") from error
        except (OSError, EOFError, ValueError) as error:
            raise LinkBroken(str(error)) from error
        return message

    def cut(self) -> None:
        """Be done with it at once; what was not sent yet is thrown away."""
        self._writer.transport.abort()


async def connect(address: str, port: int, patience: float) -> Link:
    """Make a connection.

    :raises LinkBroken: nobody has answered within ``patience`` seconds.
    """
    try:
        async with asyncio.timeout(patience):
            return Link(*await asyncio.open_connection(address, port))
    except (OSError, TimeoutError) as error:
        raise LinkBroken(f"no answer from {address}:{port}: {error}") from error


def say(text: str) -> None:
    """Print a line at once: output that goes to no terminal would wait for more of it."""
    print(text, flush=True)
