"""How master and slaves talk: JSON messages, each with its length before it."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

_LENGTH = struct.Struct(">I")


class LinkBroken(Exception):
    """The other side has gone, in the middle of a message or between two."""


def send(link: socket.socket, message: dict[str, Any]) -> None:
    """Send one message.

    :raises LinkBroken: the other side does not take it.
    """
    data = json.dumps(message).encode()
    try:
        link.sendall(_LENGTH.pack(len(data)) + data)
    except OSError as error:
        raise LinkBroken(str(error)) from error


def receive(link: socket.socket) -> dict[str, Any]:
    """Wait for the next message.

    :raises LinkBroken: there will be none, or not within the link's timeout.
    """
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    message: dict[str, Any] = json.loads(_exactly(link, length))
    return message


def _exactly(link: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            piece = link.recv(min(count - len(data), 1 << 20))
        except OSError as error:
            raise LinkBroken(str(error)) from error
        if not piece:
            raise LinkBroken("the other side has closed the connection")
        data += piece
    return bytes(data)


def say(text: str = "") -> None:
    """Print a line at once: output that goes to no terminal would wait for more of it."""
    print(text, flush=True)


def describe_me(address: str) -> dict[str, Any]:
    """Who and where this process is, as it sees it from inside."""
    return {
        "machine": os.environ.get("SYNDICATE_MACHINE", "by hand"),
        "address": os.environ.get("SYNDICATE_ADDRESS", address),
        "uid": os.getuid(),
        "root": sorted(os.listdir("/")),
    }


def say_who(me: dict[str, Any]) -> str:
    """The same as one line of text."""
    return f"{me['machine']} at {me['address']}, uid {me['uid']}, / holds: {' '.join(me['root'])}"
