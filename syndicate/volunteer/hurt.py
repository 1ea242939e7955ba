"""What is done to one machine on purpose: killed, revived, paused, cut off; and proof of it.

One thing at a time is done to a machine. Each order is done once, however often it comes; leases
end by a timer of the volunteer's own, so that they end when no manager is there.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from syndicate.domain.errors import AlreadyRunning, Conflict, SandboxFailed, Unsupported
from syndicate.domain.fault import Links
from syndicate.network.interface import IGuard
from syndicate.once import Once
from syndicate.sandbox.interface import IEnclosure, IRun
from syndicate.wire.interface import FaultDone, FaultOrder

log = Logger()


class Body(Protocol):
    """The machine, as its faults need it."""

    @property
    def enclosure(self) -> IEnclosure:
        """Where it runs."""

    @property
    def run(self) -> IRun | None:
        """The last start of its target."""

    @property
    def runs(self) -> bool:
        """Whether that lives."""

    def begin(self) -> Awaitable[None]:
        """Start the target once more; over once it has been executed."""

    def guard(self) -> Deferred[IGuard]:
        """What stands over its packets."""


@attrs.define(eq=False)
class Hurt:
    """Carries out the orders about one machine."""

    _clock: IReactorTime
    _timeline: Callable[[], float]
    _body: Body
    _hand: DeferredLock = attrs.field(init=False, factory=DeferredLock)
    _done: dict[int, Once[FaultDone]] = attrs.field(init=False, factory=dict)
    #: By what they undo: the lease of a kill, of a pause, and the links of later.
    _leases: dict[str, list[IDelayedCall]] = attrs.field(init=False, factory=dict)
    #: The revival by the lease of the last kill, until the manager has asked for one.
    _by_itself: FaultDone | None = attrs.field(init=False, default=None)

    def inflict(self, order: FaultOrder) -> Deferred[FaultDone]:
        """Do it, unless it was done; fires when it is in force and verified."""
        if order.number not in self._done:
            self._done[order.number] = Once(self._in_turn(order))
        return self._done[order.number].follow()

    def stop(self) -> None:
        """The machine is given back: no lease is due any more."""
        for timers in self._leases.values():
            for timer in timers:
                if timer.active():
                    timer.cancel()
        self._leases.clear()

    async def _in_turn(self, order: FaultOrder) -> FaultDone:
        await self._hand.acquire()
        try:
            match order.what:
                case "kill":
                    done = await self._kill()
                    self._lease("kill", order.lease, self._revive_kept)
                case "revive":
                    done = await self._revive_once(with_disk=order.with_disk)
                case "pause":
                    done = await self._pause()
                    self._lease("pause", order.lease, self._resume)
                case "resume":
                    done = await self._resume()
                case "links":
                    done = await self._links(order.links or Links())
                    self._lease_links(order.later)
                case _:
                    raise Unsupported(f"This volunteer cannot {order.what}; upgrade it.")
        finally:
            self._hand.release()
        return done

    async def _kill(self) -> FaultDone:
        run = self._body.run
        self._by_itself = None
        self._drop_leases("kill")
        self._drop_leases("pause")
        if run is None:
            raise Conflict("The target was never started; there is nothing to kill.")
        await run.kill()
        applied = self._timeline()
        left = run.processes()
        if left:
            raise SandboxFailed(f"Processes live on after the kill: {left[:10]}.")
        return FaultDone(applied, self._timeline(), "the kernel lists no process of it")

    async def _revive_once(self, *, with_disk: bool) -> FaultDone:
        """What the manager has asked for. The lease of the kill may have been over before that; and
        the target may even have ended since.
        """
        if with_disk and self._by_itself is not None:
            done, self._by_itself = self._by_itself, None
            return done
        return await self._revive(with_disk=with_disk)

    async def _revive(self, *, with_disk: bool) -> FaultDone:
        if self._body.runs:
            raise AlreadyRunning("The machine runs; kill it before you revive it.")
        self._by_itself = None
        self._drop_leases("kill")
        note = "disk kept"
        if not with_disk:
            await self._body.enclosure.wipe()
            written = await self._body.enclosure.written()
            if written:
                raise SandboxFailed(f"{written} files are on the disk after it was emptied.")
            note = "no file is on the emptied disk"
        await self._body.begin()
        applied = self._timeline()
        run = self._body.run
        count = len(run.processes()) if run is not None else 0
        if not count and self._body.runs:
            raise SandboxFailed("The target was started, but the kernel lists no process of it.")
        return FaultDone(applied, self._timeline(), f"{note}; {count} processes run")

    async def _revive_kept(self) -> None:
        if not self._body.runs:
            self._by_itself = await self._revive(with_disk=True)

    async def _pause(self) -> FaultDone:
        run = self._body.run
        # A second pause takes the first's place, and so does its lease.
        self._drop_leases("pause")
        if run is None or not self._body.runs:
            raise Conflict("The machine does not run; there is nothing to pause.")
        await run.pause()
        applied = self._timeline()
        if self._body.runs and not run.paused():
            raise SandboxFailed("The kernel says that not every process stands still.")
        return FaultDone(applied, self._timeline(), "the kernel says that all are frozen")

    async def _resume(self) -> FaultDone:
        run = self._body.run
        self._drop_leases("pause")
        if run is not None:
            await run.resume()
        applied = self._timeline()
        if run is not None and run.paused():
            raise SandboxFailed("The kernel says that the processes still stand.")
        return FaultDone(applied, self._timeline(), "the kernel says that none is frozen")

    async def _links(self, links: Links) -> FaultDone:
        self._drop_leases("links")
        guard = await self._body.guard()
        await guard.apply(links)
        applied = self._timeline()
        proofs = await guard.verify(links)
        seen = "; ".join(f"{proof.address} {proof.seen}" for proof in proofs)
        return FaultDone(applied, self._timeline(), seen[:1000])

    # Leases.

    def _lease(
        self, what: str, seconds: float | None, undo: Callable[[], Awaitable[object]]
    ) -> None:
        if seconds is not None:
            lease: list[IDelayedCall] = []
            timer = self._clock.callLater(seconds, lambda: self._undo(what, lease[0], undo))
            lease.append(timer)
            self._leases.setdefault(what, []).append(timer)

    def _lease_links(self, later: tuple[tuple[float, Links], ...]) -> None:
        for seconds, links in later:
            self._lease("links", seconds, functools.partial(self._relink, links))

    async def _relink(self, links: Links) -> None:
        """What is due of the links; the later ones stay due."""
        guard = await self._body.guard()
        await guard.apply(links)

    def _undo(self, what: str, lease: IDelayedCall, undo: Callable[[], Awaitable[object]]) -> None:
        Deferred.fromCoroutine(self._undo_in_turn(what, lease, undo)).addErrback(
            lambda failure: log.failure("the lease of a {what} did not end", failure, what=what)
        )

    async def _undo_in_turn(
        self, what: str, lease: IDelayedCall, undo: Callable[[], Awaitable[object]]
    ) -> None:
        await self._hand.acquire()
        try:
            # What was done while it waited for its turn may have taken its place.
            if lease in self._leases.get(what, ()):
                await undo()
        finally:
            self._hand.release()

    def _drop_leases(self, what: str) -> None:
        for timer in self._leases.pop(what, ()):
            if timer.active():
                timer.cancel()
