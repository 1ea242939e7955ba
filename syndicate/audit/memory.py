"""An audit log that is gone with its process."""

from __future__ import annotations

from collections import deque

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from syndicate.audit.interface import Entry, IAudit, Kind, Wanted

#: Entries kept of each stream.
KEPT = 10_000


@implementer(IAudit)
@attrs.define(eq=False)
class MemoryAudit:
    """Keeps the newest entries of each stream."""

    _streams: dict[Kind, deque[Entry]] = attrs.field(
        init=False, factory=lambda: {kind: deque(maxlen=KEPT) for kind in Kind}
    )

    def record(self, entry: Entry) -> None:
        self._streams[entry.actor.kind].append(entry)

    def tail(self, count: int, wanted: Wanted) -> Deferred[list[Entry]]:
        found = [e for stream in self._streams.values() for e in stream if wanted.matches(e)]
        found.sort(key=lambda entry: entry.at)
        return succeed(found[-count:] if count > 0 else [])

    def close(self) -> None:
        """Nothing is open."""
