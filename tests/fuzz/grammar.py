"""Bytes, Banana, Jelly and calls that are wrong in ever new ways."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

from tests.support.banana import GREETING, encoded

#: What the tests' transcripts are made of, so that mutations begin near what is right.
WORDS = (
    *(b"None", b"boolean", b"unicode", b"tuple", b"list", b"dictionary", b"remote", b"local"),
    *(b"copy", b"cache", b"cached", b"lcache", b"persistent", b"reference", b"dereference"),
    *(b"class", b"module", b"function", b"instance", b"unpersistable", b"method", b"decimal"),
    *(b"datetime", b"set", b"frozenset", b"twisted.spread.pb.CopyableFailure", b"os.system"),
    *(b"syndicate.wire.pb.errors.WireError", b"syndicate.domain.job.Limits", b"root", b"true"),
)
MESSAGES = (
    *(b"message", b"answer", b"error", b"decref", b"version", b"didNotUnderstand"),
    *(b"cachemessage", b"decache", b"uncache", b"login", b"", b"\xff\xfe", b"__class__"),
)
NAMES = (
    *(b"join", b"ended", b"clean", b"ask", b"ping", b"report", b"hello", b"renew", b"job"),
    *(b"kill", b"finish", b"samples", b"events", b"mark", b"faults", b"__init__", b"_answer"),
    *(b"", b"\xff", b"x" * 300, b"rootObject", b"perspectiveMessageReceived"),
)


def raw(random: Random) -> bytes:
    """Bytes with no sense at all, more of those that mean something to Banana."""
    heavy = bytes(range(0x80, 0x88)) + b"\x00\x01\x02\x7f"
    pool = heavy if random.random() < 0.5 else bytes(range(256))
    return bytes(random.choice(pool) for _ in range(random.randrange(1, 200)))


def number(random: Random) -> bytes:
    """A number in Banana's digits, of any length."""
    count = random.choice((0, 1, 1, 1, 2, 3, 8, 9, 10, 20, 70))
    return bytes(random.randrange(128) for _ in range(count))


def item(random: Random, depth: int = 0) -> bytes:
    """Something that Banana could be, or nearly."""
    if random.random() < 0.05:
        return number(random) + bytes((random.randrange(0x80, 0x100),))
    kind = random.randrange(0x80, 0x88)
    if kind == 0x80 and depth < 12:
        count = random.choice((0, 1, 2, 3, 7))
        said = count if random.random() < 0.95 else random.randrange(128)
        return bytes((said, 0x80)) + b"".join(item(random, depth + 1) for _ in range(count))
    if kind == 0x82:
        text = random.choice((*WORDS, *MESSAGES, *NAMES, random.randbytes(20)))
        return encoded(text) if random.random() < 0.5 else bytes((len(text) & 127, 0x82)) + text
    if kind == 0x84:
        return b"\x84" + struct.pack("!d", random.choice((0.0, 1e308, float("inf"), float("nan"))))
    return number(random) + bytes((kind,))


def jelly(random: Random, depth: int = 0) -> Any:
    """An s-expression that Jelly may or may not build something from."""
    chance = random.random()
    if depth > 6 or chance < 0.3:
        values = (0, 1, -1, 2**31, 1.5, b"", b"x", b"{}", b"[]", b"null", *WORDS)
        return random.choice((*values, message(random)))
    inner = [jelly(random, depth + 1) for _ in range(random.choice((0, 1, 1, 2, 3)))]
    if chance < 0.85:
        return [random.choice(WORDS), *inner]
    return inner


def plain(random: Random, depth: int = 0) -> Any:
    """A value of JSON."""
    chance = random.random()
    if depth > 4 or chance < 0.6:
        texts = ("", "v1", "master", "slave[0]", "../x", "\x00", "ä" * 20, "kill", "x" * 2000)
        numbers = (0, 1, -1, 17, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308)
        return random.choice((None, True, False, *numbers, *texts))
    if chance < 0.8:
        return [plain(random, depth + 1) for _ in range(random.randrange(4))]
    keys = ("job", "attempt", "machine", "part", "term", "name", "verb", "body", "run", "id", "x")
    return {random.choice(keys): plain(random, depth + 1) for _ in range(random.randrange(4))}


def mutated(random: Random, value: Any, rate: float = 0.15) -> Any:
    """A plain value, here and there another one."""
    if random.random() < rate:
        return plain(random)
    if isinstance(value, dict):
        made = {key: mutated(random, each, rate) for key, each in value.items()}
        if made and random.random() < rate:
            del made[random.choice(list(made))]
        if random.random() < rate / 2:
            made["extra"] = plain(random)
        return made
    if isinstance(value, list):
        return [mutated(random, each, rate) for each in value]
    return value


def message(random: Random, like: Any = None) -> bytes:
    """A message as the wire carries one, or nearly."""
    value = plain(random) if like is None else mutated(random, like)
    data = json.dumps(value).encode()
    chance = random.random()
    if chance < 0.05:
        return b"[" * random.choice((10, 1000, 100_000)) + data
    if chance < 0.1:
        at = random.randrange(len(data) + 1)
        return data[:at] + random.randbytes(3) + data[at:]
    return data


def call(random: Random, targets: tuple[Any, ...], likes: dict[bytes, list[Any]]) -> bytes:
    """A call of something, with values that are right, wrong, or strange."""
    name = random.choice(list(likes) if likes and random.random() < 0.8 else NAMES)
    arguments: list[Any] = []
    for like in likes.get(name, [None]):
        chance = random.random()
        if like is OBJECT:
            arguments.append([b"remote", random.randrange(5)] if chance < 0.9 else jelly(random))
        elif chance < 0.8:
            arguments.append(message(random, like))
        else:
            arguments.append(jelly(random))
    if random.random() < 0.1:
        arguments.append(jelly(random))
    target = random.choice((*targets, *targets, b"root", 1, 99, -1, b"", [b"x"]))
    args = [b"tuple", *arguments] if random.random() < 0.95 else jelly(random)
    named = [b"dictionary"] if random.random() < 0.95 else jelly(random)
    wants = 1 if random.random() < 0.97 else 0
    return encoded([b"message", random.randrange(1, 1000), target, name, wants, args, named])


#: Stands for a reference among the values of a call.
OBJECT = object()


def spoilt(random: Random, data: bytes) -> bytes:
    """Bytes with some of them changed, lost, doubled, or moved."""
    made = bytearray(data)
    for _ in range(random.choice((0, 0, 1, 1, 2, 5, 20))):
        if not made:
            break
        at = random.randrange(len(made))
        match random.randrange(5):
            case 0:
                made[at] ^= 1 << random.randrange(8)
            case 1:
                del made[at : at + random.randrange(1, 10)]
            case 2:
                made[at:at] = random.randbytes(random.randrange(1, 5))
            case 3:
                made[at:at] = made[at : at + random.randrange(1, 40)]
            case 4:
                made[at] = random.choice((0x80, 0x82, 0x87, 0x00, 0x7F, 0xFF))
    return bytes(made)


def conversation(random: Random, targets: tuple[Any, ...], likes: dict[bytes, list[Any]]) -> bytes:
    """All that a peer says on one connection."""
    parts = [GREETING] if random.random() < 0.9 else []
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        match random.randrange(6):
            case 0:
                parts.append(raw(random))
            case 1:
                parts.append(item(random))
            case 2:
                head = random.choice(MESSAGES)
                rest = [jelly(random) for _ in range(random.choice((0, 1, 2, 6)))]
                parts.append(encoded([head, *rest]))
            case _:
                parts.append(call(random, targets, likes))
    data = b"".join(parts)
    return spoilt(random, data) if random.random() < 0.3 else data
