"""Port of the audit room: who did what to which job, volunteer or token, and what came of it.

Entries are only ever added. There are three *streams*, each with room of its own, so that those who
can make many entries (clients of jobs, strangers at the door) cannot push out what people did.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

#: The outcome of what was done; anything else is the code of the error that it ended with.
DONE = "done"


class Kind(enum.Enum):
    """Who can do something, and with that the stream of its entry."""

    #: Somebody with a token or a key; and the manager itself.
    PERSON = "person"
    #: A benchmark client of a job.
    CLIENT = "client"
    #: Who showed nothing that is good.
    STRANGER = "stranger"


@attrs.frozen
class Actor:
    """Who did it."""

    kind: Kind
    #: A user's name; for a client ``client[0] of job 17``; empty for a stranger.
    name: str = ""
    role: str = ""
    #: The id of a token or the fingerprint of a key; never a secret.
    token: str = ""
    #: Where it came from: an address, or the name of a client's volunteer.
    address: str = ""


@attrs.frozen
class Entry:
    """One deed."""

    #: Epoch seconds.
    at: float
    actor: Actor
    #: What was done, in a word or two: ``cancel``, ``token new``, ``console``.
    did: str
    #: To what: ``job 17``, ``volunteer v1``, ``token 4f21``; empty for nothing in particular.
    on: str = ""
    #: `DONE`, or the code of an error.
    outcome: str = DONE
    #: Plain values.
    details: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Wanted:
    """Which entries are asked for: those that match all that is set."""

    who: str = ""
    did: str = ""
    on: str = ""
    kind: Kind | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        return (
            self.who in ("", entry.actor.name)
            and self.did in ("", entry.did)
            and self.on in ("", entry.on)
            and self.kind in (None, entry.actor.kind)
        )


class IAudit(Interface):
    """The audit log of one manager."""

    def record(entry: Entry) -> None:
        """Add an entry. It outlives a crash of the daemon from now on, and a crash of the host
        soon after. What cannot be written is counted and told later, and does not keep anybody
        from working: doc/decisions tells why.
        """

    def tail(count: int, wanted: Wanted) -> Deferred[list[Entry]]:
        """The newest so many entries of those wanted, the oldest of them first."""

    def close() -> None:
        """Make all of it durable and let go of what is open. May be called again."""
