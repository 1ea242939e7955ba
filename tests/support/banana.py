"""Values as Perspective Broker sends them, for tests that speak it by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import StringTransport
from twisted.spread.banana import Banana


def encoded(value: Any) -> bytes:
    """A value as it crosses, by Twisted's own encoder."""
    encoder, transport = Banana(isClient=0), StringTransport()
    encoder.makeConnection(transport)
    transport.clear()
    encoder.currentDialect = b"pb"
    encoder.sendEncoded(value)
    return bytes(transport.value())


#: What a client begins with.
GREETING = encoded(b"pb") + encoded([b"version", 6])


def call(
    name: bytes,
    *arguments: Any,
    number: int = 1,
    target: Any = b"root",
    wants_answer: int = 1,
    named: Any = None,
) -> bytes:
    """A call with arguments that are jelly already."""
    rest = [b"tuple", *arguments], named or [b"dictionary"]
    return encoded([b"message", number, target, name, wants_answer, *rest])
