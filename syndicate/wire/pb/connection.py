"""Connections between manager and volunteers: what a peer may send over one."""

from __future__ import annotations

from typing import Any

from twisted.python.reflect import qual

from syndicate.spread.broker import BoundedBroker
from syndicate.spread.decoder import Bounds
from syndicate.spread.jelly import PLAIN
from syndicate.wire.pb.errors import WireError, refusal
from syndicate.wire.pb.values import MESSAGE_CAP

#: Seconds that a peer has to log in after connecting.
LOGIN_TIME = 20.0

#: Room in a message for what is around the one value of ours.
FRAME = 4 << 10

#: Of a peer that has not joined yet: a hello, which has the size of any message, and nothing else.
STRANGER = Bounds(string=MESSAGE_CAP, message=MESSAGE_CAP + FRAME, items=64, depth=8, calls=1)

#: Of a peer that has joined. Clients' calls pass through a volunteer's connection, so these are
#: some of them; more are refused, not cut off, as a volunteer's own reports come the same way.
JOINED = Bounds(string=MESSAGE_CAP, message=MESSAGE_CAP + FRAME, items=64, depth=8, calls=256)

#: What Jelly may build: an error of ours beside what is plain.
TYPES = (*PLAIN, qual(WireError).encode("ascii"))


def make_broker(bounds: Bounds, *, is_client: bool) -> Any:
    """A connection; what PB calls a broker has no room, in its types, for what we note on it."""
    return BoundedBroker(bounds, refusal, TYPES, isClient=is_client)
