"""Ports of the store room: durable records, and who may write them.

A store has no policy. The leader holds everything in memory and is the only writer; one change
is one `Batch`, written whole or not at all. Two guards protect every commit: the term (whose
write it is) and the position (which batch it follows). doc/decisions tells why both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

#: Kind and key of the record that says, as ``{"next": n}``, below which number no new job may be.
NEXT_JOB = ("counter", "job")

#: A plain value: None, bool, int, float, str, list or dict with str keys of such.
Plain = Any


@attrs.frozen
class Put:
    """Set a record, new or not. Values are absolute, never increments. One that was set aside is
    a record like others again.
    """

    kind: str
    key: str
    value: Plain


@attrs.frozen
class Create:
    """Set a record that must not exist yet, nor be set aside; else the whole batch fails with
    `Exists`.
    """

    kind: str
    key: str
    value: Plain


@attrs.frozen
class Archive:
    """Set a record aside: from now on it is not among those that `IStore.load` gives, so that
    what is over costs neither memory nor time at the start; `IStore.archived` reads it.
    """

    kind: str
    key: str
    value: Plain
    #: What `IStore.archive` can choose by, such as whose it is.
    label: str = ""
    #: Epoch seconds after which `IStore.expire` removes it; None keeps it.
    until: float | None = None


@attrs.frozen
class Delete:
    """Remove a record, set aside or not; no error if there is none."""

    kind: str
    key: str


@attrs.frozen
class Append:
    """Add event number ``n`` (from 1, without gaps) to a job's events."""

    job: int
    n: int
    value: Plain


Operation = Put | Create | Archive | Delete | Append


@attrs.frozen
class Batch:
    """One change: the records it touches and the events that tell of it."""

    #: Unique, made by the writer; `IStore.resolve` asks for it.
    id: str
    operations: tuple[Operation, ...]


@attrs.frozen
class Page:
    """Which records of a kind that were set aside are asked for."""

    #: Only greater keys, and only lesser ones.
    after: str = ""
    below: str | None = None
    #: So many at the most.
    limit: int = 100
    #: Only those with this one.
    label: str | None = None
    #: Whether to begin with the greatest key and go down.
    newest: bool = True


@attrs.frozen
class Snapshot:
    """All records, consistent at one position (the number of the last batch, 0 for none)."""

    records: Mapping[tuple[str, str], Plain]
    position: int


@attrs.frozen
class StoreHealth:
    """What an operator wants to know of a store."""

    engine: str
    position: int
    #: Bytes on disk (0 in memory), and an error sentence or an empty string.
    size: int
    problem: str = ""


class IStore(Interface):
    """Durable records of the manager; one implementation per engine."""

    def open() -> Deferred[None]:
        """Take hold of the storage and check or migrate its format.

        :raises StateDirectoryInUse: another process holds it.
        :raises Corrupt: what is stored is damaged or of a newer format.
        """

    def load() -> Deferred[Snapshot]:
        """All records at one position; none of those set aside."""

    def archived(kind: str, key: str) -> Deferred[Plain]:
        """A record that was set aside; None if there is none."""

    def archive(kind: str, page: Page) -> Deferred[list[tuple[str, Plain]]]:
        """Keys and values of records that were set aside, in the order of their keys."""

    def archive_size(kind: str) -> Deferred[int]:
        """How many records of a kind are set aside."""

    def expire(now: float) -> Deferred[int]:
        """Remove what was set aside until a time before ``now``; fires with how many records."""

    def commit(batch: Batch, term: int) -> Deferred[int]:
        """Write a batch durably; fires with its position once it would survive a crash.

        Batches are applied in the order of the calls. Those that gather while one is being
        written go out together. One that was written already is answered with its position and
        not written again, as long as `resolve` knows it.

        :raises Fenced: ``term`` is not the present one; nothing was written.
        :raises Exists: a `Create` found its record, or an `Append` its event; nothing of this
            batch was written.
        :raises Invalid: a value is not plain, or a key cannot be one; nothing was written.
        :raises StorageFull: no room; nothing was written.
        :raises Unavailable: not open, or the engine failed; nothing was written.
        """

    def resolve(batch_id: str) -> Deferred[int | None]:
        """The position of a batch whose commit had no answer, or None if it was not written."""

    def events(job: int, after: int, limit: int) -> Deferred[list[Plain]]:
        """Up to ``limit`` events of a job with numbers above ``after``, in order."""

    def trim(jobs: tuple[int, ...]) -> Deferred[None]:
        """Remove the events of these jobs."""

    def health() -> Deferred[StoreHealth]:
        """How the store is."""

    def close() -> Deferred[None]:
        """Finish what was accepted, and let go of the storage. May be called again."""


class ITerm(Interface):
    """One manager's time as the leader."""

    number = Attribute("Strictly greater than the number of every earlier term (int).")
    lost = Attribute("Deferred[str] that fires with a reason when the term has ended unwanted.")

    def valid() -> bool:
        """Whether the holder may still act."""

    def resign() -> Deferred[None]:
        """End the term."""


class ILeadership(Interface):
    """Who leads."""

    def campaign(me: str) -> Deferred[ITerm]:
        """Fires once ``me`` (an id, shown to others) leads. With one manager: at once, with a
        term one above the last, durably counted.
        """

    def leader() -> Deferred[tuple[str, int] | None]:
        """Id and term of the present leader, if any."""
