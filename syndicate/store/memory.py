"""A store without a disk, with the promises of the real ones but that of surviving the process.

It lives as long as its object: what was written is there again after `close` and `open`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import attrs
from twisted.internet.defer import Deferred, execute, succeed
from zope.interface import implementer

from syndicate.domain.errors import Unavailable
from syndicate.store.encoding import REMEMBERED, Encoded, decode, encoded, exists, fenced
from syndicate.store.interface import (
    Append,
    Archive,
    Batch,
    Create,
    Delete,
    ILeadership,
    IStore,
    ITerm,
    Page,
    Plain,
    Put,
    Snapshot,
    StoreHealth,
)
from syndicate.store.term import Term


@attrs.frozen
class _Aside:
    value: str
    label: str
    until: float | None


@implementer(IStore)
@attrs.define(eq=False)
class MemoryStore:
    """Keeps records as a disk would: encoded, so that nobody shares a value with it."""

    #: The term that is held, if any; and how many there have been.
    term: Term | None = attrs.field(init=False, default=None)
    terms: int = attrs.field(init=False, default=0)
    _open: bool = attrs.field(init=False, default=False)
    _records: dict[tuple[str, str], str] = attrs.field(init=False, factory=dict)
    _archive: dict[tuple[str, str], _Aside] = attrs.field(init=False, factory=dict)
    _events: dict[int, dict[int, str]] = attrs.field(init=False, factory=dict)
    _applied: OrderedDict[str, int] = attrs.field(init=False, factory=OrderedDict)
    _position: int = attrs.field(init=False, default=0)

    def open(self) -> Deferred[None]:
        return execute(self._do_open)

    def _do_open(self) -> None:
        if self._open:
            raise Unavailable("The store is open already.")
        self._open = True

    def check(self) -> None:
        """Raise `Unavailable` unless the store is open."""
        if not self._open:
            raise Unavailable("The store is not open; nothing was written.")

    def load(self) -> Deferred[Snapshot]:
        return execute(self._load)

    def _load(self) -> Snapshot:
        self.check()
        records = {key: decode(value) for key, value in self._records.items()}
        return Snapshot(records, self._position)

    def commit(self, batch: Batch, term: int) -> Deferred[int]:
        return execute(self._commit, batch, term)

    def _commit(self, batch: Batch, term: int) -> int:
        work = encoded(batch, term)
        self.check()
        present = self.term.number if self.term else 0
        if term != present or not present:
            raise fenced(term, present)
        if batch.id in self._applied:
            return self._applied[batch.id]
        self._apply(work)
        self._position += 1
        self._applied[batch.id] = self._position
        if len(self._applied) > REMEMBERED:
            self._applied.popitem(last=False)
        return self._position

    def _apply(self, work: Encoded) -> None:
        # Beside what is stored, so that an error half way leaves no mark.
        records: dict[tuple[str, str], str | _Aside | None] = {}
        events: dict[tuple[int, int], str] = {}
        for operation, value in work.operations:
            match operation:
                case Put(kind=kind, key=key):
                    records[kind, key] = value
                case Delete(kind=kind, key=key):
                    records[kind, key] = None
                case Create(kind=kind, key=key):
                    if self._present(records, (kind, key)):
                        raise exists(operation)
                    records[kind, key] = value
                case Archive(kind=kind, key=key, label=label, until=until):
                    records[kind, key] = _Aside(value, label, until)
                case Append(job=job, n=n):
                    if (job, n) in events or n in self._events.get(job, {}):
                        raise exists(operation)
                    events[job, n] = value
        self._store(records, events)

    def _present(
        self, changed: Mapping[tuple[str, str], str | _Aside | None], key: tuple[str, str]
    ) -> bool:
        if key in changed:
            return changed[key] is not None
        return key in self._records or key in self._archive

    def _store(
        self,
        records: Mapping[tuple[str, str], str | _Aside | None],
        events: dict[tuple[int, int], str],
    ) -> None:
        for key, value in records.items():
            self._records.pop(key, None)
            self._archive.pop(key, None)
            if isinstance(value, _Aside):
                self._archive[key] = value
            elif value is not None:
                self._records[key] = value
        for (job, n), event in events.items():
            self._events.setdefault(job, {})[n] = event

    def archived(self, kind: str, key: str) -> Deferred[Plain]:
        return execute(self._archived, kind, key)

    def _archived(self, kind: str, key: str) -> Plain:
        self.check()
        found = self._archive.get((kind, key))
        return None if found is None else decode(found.value)

    def archive(self, kind: str, page: Page) -> Deferred[list[tuple[str, Plain]]]:
        return execute(self._page, kind, page)

    def _page(self, kind: str, page: Page) -> list[tuple[str, Plain]]:
        self.check()
        keys = sorted(
            key
            for (of, key), aside in self._archive.items()
            if of == kind
            and key > page.after
            and (page.below is None or key < page.below)
            and page.label in (None, aside.label)
        )
        chosen = (keys[::-1] if page.newest else keys)[: max(0, page.limit)]
        return [(key, decode(self._archive[kind, key].value)) for key in chosen]

    def archive_size(self, kind: str) -> Deferred[int]:
        return execute(self._archive_size, kind)

    def _archive_size(self, kind: str) -> int:
        self.check()
        return sum(of == kind for of, _ in self._archive)

    def expire(self, now: float) -> Deferred[int]:
        return execute(self._expire, now)

    def _expire(self, now: float) -> int:
        self.check()
        over = [
            key
            for key, aside in self._archive.items()
            if aside.until is not None and aside.until < now
        ]
        for key in over:
            del self._archive[key]
        return len(over)

    def resolve(self, batch_id: str) -> Deferred[int | None]:
        return execute(self._resolve, batch_id)

    def _resolve(self, batch_id: str) -> int | None:
        self.check()
        return self._applied.get(batch_id)

    def events(self, job: int, after: int, limit: int) -> Deferred[list[Plain]]:
        return execute(self._events_after, job, after, limit)

    def _events_after(self, job: int, after: int, limit: int) -> list[Plain]:
        self.check()
        mine = self._events.get(job, {})
        return [decode(mine[n]) for n in sorted(n for n in mine if n > after)[: max(0, limit)]]

    def trim(self, jobs: tuple[int, ...]) -> Deferred[None]:
        return execute(self._trim, jobs)

    def _trim(self, jobs: tuple[int, ...]) -> None:
        self.check()
        for job in jobs:
            self._events.pop(job, None)

    def health(self) -> Deferred[StoreHealth]:
        problem = "" if self._open else "The store is not open."
        return succeed(StoreHealth("memory", self._position, 0, problem))

    def close(self) -> Deferred[None]:
        self._open = False
        if self.term is not None:
            self.term.end()
            self.term = None
        return succeed(None)


@implementer(ILeadership)
@attrs.define(eq=False)
class MemoryLeadership:
    """Leadership over a `MemoryStore`."""

    _store: MemoryStore

    def campaign(self, me: str) -> Deferred[ITerm]:
        return execute(self._campaign, me)

    def _campaign(self, me: str) -> ITerm:
        self._store.check()
        self._store.terms += 1
        if self._store.term is not None:
            self._store.term.end(f"{me} began term {self._store.terms} in this process.")
        self._store.term = Term(me, self._store.terms, self._resign)
        return self._store.term

    def _resign(self, number: int) -> Deferred[None]:
        if self._store.term is not None and self._store.term.number == number:
            self._store.term = None
        return succeed(None)

    def leader(self) -> Deferred[tuple[str, int] | None]:
        term = self._store.term
        return succeed(None if term is None else (term.holder, term.number))
