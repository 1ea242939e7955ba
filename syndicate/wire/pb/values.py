"""What crosses on Perspective Broker: one bytes value a message, holding JSON.

Jelly never sees a value of ours, so nothing but bytes can be built from what a peer sends; types
and sizes are checked in one place before sending and after receiving. doc/decisions/0001 says
what it costs and saves.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from syndicate.domain.errors import Invalid
from syndicate.plain import from_plain, read_json, to_plain

#: Longest message, in bytes. Banana refuses more than 640 KiB in one string.
MESSAGE_CAP = 512 << 10

T = TypeVar("T")


def pack(value: Any) -> bytes:
    """A value of ours, or None, as a message.

    :raises Invalid: it is longer than `MESSAGE_CAP` or not made of plain values.
    """
    try:
        message = json.dumps(to_plain(value), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise Invalid(f"{type(value).__name__} cannot cross the wire: {error}") from error
    if len(message) > MESSAGE_CAP:
        raise Invalid(
            f"{type(value).__name__} of {len(message)} bytes cannot cross the wire: "
            f"{MESSAGE_CAP} are allowed."
        )
    return message


def unpack(message: object, kind: type[T]) -> T:
    """The value that a peer's message describes.

    :raises Invalid: it describes none of this kind.
    """
    return from_plain(unpack_plain(message, kind.__name__), kind)


def unpack_plain(message: object, name: str = "value") -> Any:
    """The plain value that a peer's message holds.

    :param name: what it should be, for the error.
    :raises Invalid: it holds none.
    """
    if not isinstance(message, bytes) or len(message) > MESSAGE_CAP:
        raise Invalid(f"A message that should hold a {name} is none.")
    try:
        return read_json(message)
    except ValueError as error:
        raise Invalid(f"A message that should hold a {name} is no JSON.") from error
