"""Banana, the encoding below Perspective Broker, read within bounds.

What Twisted reads it with lets a peer nest lists until memory is gone, and copies what is left of
its input for every item in it. Here each bound is looked at when an item is announced, before
anything is kept or built for it.

The format is that of Twisted's ``banana-spec``: an item is a number in base 128, least digit
first, then a byte that tells what the number means. It counts a list's items or a string's bytes,
or is the value itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import attrs
from twisted.spread.banana import Banana

LIST, INT, STRING, NEG, FLOAT, LONGINT, LONGNEG, VOCAB = range(0x80, 0x88)

#: Most digits of a number, 7 bits each: all that is sent fits into 63 bits.
DIGITS = 9

#: What the shortcuts of the dialect ``pb`` stand for.
_WORDS = {number: word for word, number in Banana.outgoingVocabulary.items()}


class Violation(Exception):
    """What a peer sent is no message, or one beyond the bounds; its connection is to be ended."""


@attrs.frozen
class Bounds:
    """The most that a peer may send in one message, and have under way."""

    #: Bytes of one string.
    string: int
    #: Bytes of one message.
    message: int
    #: Items of one message, lists and what is in them together.
    items: int
    #: Lists inside of each other.
    depth: int
    #: Calls that wait for their answers.
    calls: int


@attrs.define(eq=False)
class Decoder:
    """Makes messages of the bytes of one connection, in time that grows with their number alone.

    :param received: called with each message: an int, float, bytes, or a list of such.
    """

    bounds: Bounds
    _received: Callable[[Any], None]
    _buffer: bytearray = attrs.field(init=False, factory=bytearray)
    #: The lists that are open, the outermost first, and how many items each still lacks.
    _open: list[list[Any]] = attrs.field(init=False, factory=list)
    _lacking: list[int] = attrs.field(init=False, factory=list)
    #: Of the present message, what came of it so far.
    _items: int = 0
    _bytes: int = 0

    @property
    def waiting(self) -> bool:
        """Whether a message has begun that is not whole."""
        return bool(self._buffer or self._open)

    def feed(self, data: bytes) -> None:
        """Take what has come.

        :raises Violation: see there; nothing more may be fed then.
        """
        self._buffer += data
        at = 0
        while at < len(self._buffer):
            end = self._take(at)
            if end is None:
                break
            at = end
        del self._buffer[:at]

    def _take(self, at: int) -> int | None:
        """Take the item that begins there; where it ends, or None when it is not whole yet."""
        buffer, start = self._buffer, at
        number, shift = 0, 0
        while at < len(buffer) and buffer[at] < 0x80:
            number |= buffer[at] << shift
            shift += 7
            at += 1
            if at - start > DIGITS:
                raise Violation(f"a number of more than {DIGITS} digits")
        if at == len(buffer):
            return None
        kind = buffer[at]
        at += 1
        follow = number if kind == STRING else 8 if kind == FLOAT else 0
        self._check(kind, number, at - start + follow)
        if at + follow > len(buffer):
            return None
        self._bytes += at - start + follow
        self._items += 1
        if kind == LIST and number:
            self._open.append([])
            self._lacking.append(number)
        else:
            self._got(self._value(kind, number, at))
        return at + follow

    def _check(self, kind: int, number: int, size: int) -> None:
        """Look at an item that is announced.

        :param size: its bytes; of a list, without what is in it.
        """
        bounds = self.bounds
        if kind == STRING and number > bounds.string:
            raise Violation(f"a string of {number} bytes; {bounds.string} are allowed")
        if self._bytes + size > bounds.message:
            raise Violation(f"a message of more than {bounds.message} bytes")
        if self._items >= bounds.items:
            raise Violation(f"a message of more than {bounds.items} items")
        if kind == LIST:
            if number > bounds.items - self._items - 1:
                raise Violation(f"a message of more than {bounds.items} items")
            if len(self._open) >= bounds.depth:
                raise Violation(f"more than {bounds.depth} lists inside of each other")

    def _value(self, kind: int, number: int, at: int) -> Any:
        if kind == STRING:
            return bytes(self._buffer[at : at + number])
        if kind in (INT, LONGINT):
            return number
        if kind in (NEG, LONGNEG):
            return -number
        if kind == LIST:
            return []
        if kind == FLOAT:
            return struct.unpack_from("!d", self._buffer, at)[0]
        if kind == VOCAB and number in _WORDS:
            return _WORDS[number]
        raise Violation(f"an item of the unknown kind {kind:#x}, number {number}")

    def _got(self, value: Any) -> None:
        while self._open:
            self._open[-1].append(value)
            self._lacking[-1] -= 1
            if self._lacking[-1]:
                return
            value = self._open.pop()
            self._lacking.pop()
        self._items = self._bytes = 0
        self._received(value)
