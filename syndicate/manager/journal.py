"""The manager's way to the store: one batch in flight, the next gathers meanwhile.

Records that the same batch sets twice go out once, with the last value. When the store cannot
take a batch (disk full, engine away) the journal *stalls*: it keeps the batch and tries it again
until it is taken, so that memory and store never part; only entries marked optional are given
back with the error.
"""

from __future__ import annotations

import uuid

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import SyndicateError, Unavailable
from syndicate.store.interface import (
    Append,
    Archive,
    Batch,
    Create,
    Delete,
    IStore,
    ITerm,
    Operation,
    Put,
)

log = Logger()

#: Seconds between two tries to get a batch into a store that refuses it.
RETRY = 1.0


@attrs.define(eq=False)
class _Entry:
    operations: tuple[Operation, ...]
    optional: bool
    written: Deferred[None]


@attrs.define(eq=False)
class Journal:
    """Writes changes in the order in which they are given."""

    _store: IStore
    _clock: IReactorTime
    _term: ITerm
    #: Why nothing can be written at the moment; empty while all is well.
    stalled: str = ""
    #: The error of the last try.
    _why: SyndicateError = attrs.field(init=False, default=Unavailable("Nothing was written."))
    _waiting: list[_Entry] = attrs.field(init=False, factory=list)
    _busy: bool = attrs.field(init=False, default=False)
    _retry: IDelayedCall | None = attrs.field(init=False, default=None)
    _closed: bool = attrs.field(init=False, default=False)
    #: The batch that was refused last, and its entries: it is sent again as it was, since a store
    #: that did take it knows it by its id.
    _refused: tuple[Batch, list[_Entry]] | None = attrs.field(init=False, default=None)

    def write(self, *operations: Operation, optional: bool = False) -> Deferred[None]:
        """Add a change; fires once it is durable.

        :param optional: give it back with the store's error rather than try again.
        :raises Unavailable: the change is optional and the journal closed or stalled.
        """
        written: Deferred[None] = Deferred()
        if optional and (self._closed or self.stalled):
            stopping = Unavailable("The manager is stopping; try later.")
            why = self._why
            again = type(why)(why.message, **why.details)
            written.errback(stopping if self._closed else again)
            return written
        if self._closed:
            # What happens while the manager stops is found out anew by the next one.
            return written
        self._waiting.append(_Entry(operations, optional, written))
        self._go_on()
        return written

    def settled(self) -> Deferred[None]:
        """Fires once everything that was given so far is durable."""
        if not self._busy and not self._waiting and self._refused is None:
            return succeed(None)
        # An empty change: it is written after all that came before it.
        return self.write()

    def close(self) -> None:
        """Take no more; what is under way may still be written by the store."""
        self._closed = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        # Nobody is told of what was not written: those who wait are being stopped too.
        self._waiting.clear()

    def _go_on(self) -> None:
        ready = bool(self._waiting) or self._refused is not None
        if not self._busy and ready and self._retry is None:
            self._busy = True
            if self._refused is not None:
                (batch, entries), self._refused = self._refused, None
            else:
                entries, self._waiting = self._waiting, []
                batch = Batch(uuid.uuid4().hex, _coalesced(entries))
            Deferred.fromCoroutine(self._commit(batch, entries)).addErrback(
                lambda failure: log.failure("the journal stopped", failure)
            )

    async def _commit(self, batch: Batch, entries: list[_Entry]) -> None:
        try:
            await self._store.commit(batch, self._term.number)
        except SyndicateError as error:
            self._busy = False
            self._stall(batch, entries, error)
            return
        self._busy = False
        if self.stalled:
            log.info("The store takes writes again.")
            self.stalled = ""
        for entry in entries:
            entry.written.callback(None)
        self._go_on()

    def _stall(self, batch: Batch, entries: list[_Entry], error: SyndicateError) -> None:
        if not self.stalled:
            log.error("The store refuses writes; trying on. {why}", why=str(error))
        self.stalled, self._why = str(error), error
        kept = [entry for entry in entries if not entry.optional]
        if kept == entries:
            self._refused = (batch, entries)
        else:
            self._waiting = kept + self._waiting
        if not self._closed:
            self._retry = self._clock.callLater(RETRY, self._try_again)
        for entry in entries:
            if entry.optional:
                entry.written.errback(error)

    def _try_again(self) -> None:
        self._retry = None
        if not self._waiting and self._refused is None:
            # Nothing is left to try with; an empty change shows whether the store is well.
            self._waiting.append(_Entry((), False, Deferred()))
        self._go_on()


def _coalesced(entries: list[_Entry]) -> tuple[Operation, ...]:
    """All operations, of those on one record only the last."""
    merged: dict[tuple[str, str, int], Operation] = {}
    for entry in entries:
        for operation in entry.operations:
            match operation:
                case Append():
                    merged["", str(operation.job), operation.n] = operation
                case Put() | Create() | Archive() | Delete():
                    key = (operation.kind, operation.key, 0)
                    merged.pop(key, None)
                    merged[key] = operation
    return tuple(merged.values())
