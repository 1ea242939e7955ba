"""The volunteers' port of a real manager, as `tests.fuzz.pb` fuzzes it with ``--daemon``."""

from __future__ import annotations

import json
from random import Random

import attrs

from tests.fuzz import calls, grammar, lines
from tests.fuzz.attacked import NAMES, Attacked
from tests.fuzz.lines import ENDINGS, Line
from tests.support.banana import GREETING

#: Connections of a batch.
SIZE = 200


@attrs.frozen
class Conversation:
    """A volunteer that says something on its connection."""

    attacked: Attacked
    random: Random
    name: str
    #: Whether it joins before.
    joins: bool
    data: bytes
    #: Whether TLS is broken in the end.
    spoilt: bool = False

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        target = "joined" if self.joins else "door"
        return json.dumps({"target": target, "data": self.data.hex(), "spoilt": self.spoilt})

    def __call__(self) -> str:
        """Have it said."""
        open_line = self.attacked.joined if self.joins else self.attacked.wire
        line = open_line(self.random, self.name)
        before = len(line.heard)
        ending = self.random.choice(ENDINGS)
        line.say(self.data, self.random)
        if self.spoilt:
            line.spoil(self.random)
        if ending not in ("reset", "unsaid") or self.random.random() < 0.5:
            line.hear()
        parted = line.over
        line.end(ending)
        said = bytes(line.heard)[before:]
        return judge(said, parted)


def judge(said: bytes, parted: bool) -> str:
    """What came of a conversation, in a word.

    :raises AssertionError: something that must not.
    """
    assert b"Traceback" not in said, said
    assert b'File "' not in said, said
    assert b"internal" not in said, said
    for code in (b"invalid", b"not_found", b"unavailable", b"forbidden", b"conflict"):
        if code in said:
            return f"answered {code.decode()}"
    return "parted" if parted else "heard" if said else "silence"


@attrs.frozen
class Stranger:
    """Somebody who does not get through the handshake, or does not try to."""

    attacked: Attacked
    random: Random
    data: bytes

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return json.dumps({"target": "stranger", "data": self.data.hex()})

    def __call__(self) -> str:
        """Try to be let in."""
        if self.random.random() < 0.6:
            line = self.attacked.wire(self.random, self.random.choice(("", "late")))
            line.say(self.data)  # in TLS 1.3 who shows no certificate is refused after this only
            said = line.hear(lambda heard: False, 5.0)
            line.end()
            assert line.over, "somebody without a good certificate is not sent away"
            assert not said, f"somebody without a good certificate is told {said!r}"
            return "not let in"
        return plain_text(
            Line(lines.tcp(self.attacked.daemon.wire_port, lines.address(self.random))),
            self.random,
            self.data,
        )


def plain_text(line: Line, random: Random, data: bytes) -> str:
    """Say what is no TLS, or its beginning."""
    start = random.choice((b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
    line.say(start + data, random)
    said = line.hear()
    line.end(random.choice(ENDINGS))
    assert said[:1] in (b"", b"\x15"), said  # an alert of TLS, at the most
    return "no TLS"


def batch(attacked: Attacked, seed: int, number: int) -> list[Conversation | Stranger]:
    """What is said in a batch."""
    made: list[Conversation | Stranger] = []
    for which in range(SIZE):
        random = Random(f"{seed}/{number}/{which}")
        name = NAMES[(number * SIZE + which) % (len(NAMES) - 1) + 1]
        joins = random.random() < 0.5
        likes = calls.volunteer(1) if joins else calls.stranger(name)
        data = grammar.conversation(random, (1,) if joins else (b"root",), likes)
        if joins and data.startswith(GREETING):
            data = data[len(GREETING) :]
        if random.random() < 0.12:
            made.append(Stranger(attacked, random, data))
        else:
            spoilt = random.random() < 0.1
            made.append(Conversation(attacked, random, name, joins, data, spoilt))
    return made


def connect(attacked: Attacked, random: Random) -> Line:
    """One of many."""
    line = attacked.wire(random, random.choice(NAMES[1:]))
    line.say(GREETING[: random.randrange(len(GREETING) + 1)])
    return line
