"""What Jelly may be given to build something from, checked before it builds anything.

Jelly itself trusts that what is called a reference has a number, and a dictionary pairs; it leaves
half-made objects behind when they have not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: The values that every peer may send; ``remote`` is a reference to an object of the peer's.
PLAIN = (b"None", b"boolean", b"unicode", b"tuple", b"list", b"dictionary", b"remote")


class Malformed(Exception):
    """What a peer sent describes no value, or one that is not let in."""


def check(value: Any, kinds: Collection[bytes]) -> None:
    """Look through what a peer's value is said to be; it is no deeper than the decoder let pass.

    :param kinds: `PLAIN` or less, and names of classes of ours that are registered to be built.
    :raises Malformed: it is none.
    """
    if not isinstance(value, list):
        return
    if not value or not isinstance(value[0], bytes) or value[0] not in kinds:
        raise Malformed("a value of a kind that is not let in")
    kind, *rest = value
    match kind:
        case b"tuple" | b"list":
            good = True
        case b"None":
            good = not rest
        case b"boolean":
            good = rest in ([b"true"], [b"false"])
        case b"unicode":
            good = len(rest) == 1 and isinstance(rest[0], bytes) and _is_text(rest[0])
        case b"remote":
            good = len(rest) == 1 and type(rest[0]) is int
        case b"dictionary":
            good = all(isinstance(pair, list) and len(pair) == 2 for pair in rest)
            rest = [each for pair in rest for each in pair] if good else []
            good = good and not any(_is_mutable(key) for key in rest[::2])
        case _:  # a class: its state is a dictionary
            good = len(rest) == 1 and isinstance(rest[0], list) and rest[0][:1] == [b"dictionary"]
    if not good:
        raise Malformed(f"a {kind.decode('ascii', 'replace')} that is none")
    for each in rest:
        check(each, kinds)


def _is_mutable(key: Any) -> bool:
    """Whether it cannot be the key of a dictionary, for sure or perhaps."""
    return isinstance(key, list) and key[:1] not in ([b"unicode"], [b"None"], [b"boolean"])


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
