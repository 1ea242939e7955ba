"""Messages to the kernel's packet filter, as far as `syndicate.network.delayer` needs them.

Needs nothing but the standard library. The numbers are those of linux/netfilter/nf_tables.h,
nfnetlink_queue.h and netlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

NETFILTER = 12
NF_TABLES, QUEUE = 10, 3

_REQUEST, _ACK, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ERROR = 2
_NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_INET = 1

#: The receive buffer, in bytes, of a socket that packets are told on.
_ROOM = 8 << 20
_SO_RCVBUFFORCE = 33


def connect() -> socket.socket:
    """A connection to the packet filter."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    made.bind((0, 0))
    return made


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute of a message."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a name."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute that has others in it."""
    return attribute(kind | _NESTED, b"".join(parts))


def expression(name: str, *parts: bytes) -> bytes:
    """One step of a rule."""
    return nest(1, text(1, name), nest(2, *parts))


def message(subsystem: int, kind: int, flags: int, body: bytes, resource: int = 0) -> bytes:
    """A whole message."""
    return _raw(subsystem << 8 | kind, flags, _INET, body, resource)


def _raw(kind: int, flags: int, family: int, body: bytes, resource: int) -> bytes:
    head = struct.pack("=BBH", family, 0, socket.htons(resource))
    return _HEADER.pack(_HEADER.size + 4 + len(body), kind, _REQUEST | flags, 0, 0) + head + body


def transact(sock: socket.socket, *steps: tuple[int, bytes]) -> None:
    """Make things in the packet filter, all or none.

    :param steps: kind and body of each message.
    :raises OSError: it was refused.
    """
    out = _raw(_BATCH_BEGIN, 0, 0, b"", NF_TABLES)
    for kind, body in steps:
        out += message(NF_TABLES, kind, _ACK | _CREATE | _APPEND, body)
    out += _raw(_BATCH_END, 0, 0, b"", NF_TABLES)
    sock.send(out)
    acknowledged(sock, len(steps))


def acknowledged(sock: socket.socket, count: int) -> None:
    """Wait for the answers to some messages.

    :raises OSError: the first that was refused.
    """
    sock.settimeout(5)
    try:
        while count:
            for kind, body in messages(sock.recv(1 << 16)):
                if kind != _ERROR:
                    continue
                count -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code:
                    raise OSError(code, os.strerror(code))
    finally:
        sock.settimeout(None)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kinds and bodies of the messages that came in."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a body, behind its head of four bytes."""
    found = {}
    at = 4
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (max(length, 4) + 3) & ~3
    return found
