"""The sandbox without processes: for tests, and for benchmarks of everything else.

What a program does is a function of ours. Limits on time and output hold, a disk is a dictionary,
and the sequence of calls is checked as strictly as by the real one.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from syndicate.domain.errors import Conflict, SyndicateError, Unavailable
from syndicate.sandbox.interface import (
    Collected,
    Exit,
    IEnclosure,
    IRun,
    ISandbox,
    Output,
    Plot,
    SandboxFacts,
)
from syndicate.sandbox.patterns import expression_of

#: Decides what a run prints and how it ends; called once, just after its start.
Behaviour = Callable[["MemoryRun"], None]


def succeed_at_once(run: MemoryRun) -> None:
    """The behaviour of a program that has nothing to do."""
    run.exit(0)


@implementer(IRun)
@attrs.define(eq=False)
class MemoryRun:
    """A program that only seems to run.

    Its behaviour may use what is public here, at once or later by ``clock``.
    """

    clock: IReactorTime
    plot: Plot
    argv: Sequence[str]
    env: Mapping[str, str]
    #: The machine's files by path.
    disk: dict[str, bytes]
    _output: Output
    _when_over: Callable[[], None]
    _room: int = 0
    _exit: Exit | None = None
    _paused: bool = False
    _timers: list[IDelayedCall] = attrs.field(factory=list)
    _waiters: list[Deferred[Exit]] = attrs.field(factory=list)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._exit is None

    def print(self, data: bytes, stream: int = 1) -> None:
        """Print something; over the limit it ends."""
        fits = data[: self._room] if self.running else b""
        self._room -= len(fits)
        if fits:
            self._output(stream, fits)
        if self.running and len(fits) < len(data):
            self.end(Exit(signal=9, limit="output"))

    def exit(self, code: int) -> None:
        """End by itself; nothing happens if it has ended already."""
        self.end(Exit(code=code))

    def end(self, how: Exit) -> None:
        """End in any way."""
        if self.running:
            self._exit = how
            self._cancel_timers()
            self._when_over()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(how)

    def kill(self) -> Deferred[Exit]:
        self.end(Exit(signal=9, killed=True))
        return self.wait()

    def processes(self) -> list[int]:
        return [id(self)] if self.running else []

    def pause(self) -> Deferred[None]:
        self._paused = self.running
        return succeed(None)

    def resume(self) -> Deferred[None]:
        self._paused = False
        return succeed(None)

    def paused(self) -> bool:
        return self._paused and self.running

    def wait(self) -> Deferred[Exit]:
        if self._exit is not None:
            return succeed(self._exit)
        waiter: Deferred[Exit] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something after a while, if it still runs then."""
        if self.running:
            self._timers = [timer for timer in self._timers if timer.active()]
            self._timers.append(self.clock.callLater(seconds, act))

    def begin(self, behaviour: Behaviour) -> None:
        """Let it start to act."""
        limits = self.plot.limits
        self._room = limits.output
        self.later(limits.wall, lambda: self.end(Exit(signal=9, limit="wall")))
        self.later(0, lambda: behaviour(self))

    def vanish(self) -> None:
        """Be gone without a word, as when the daemon crashes."""
        self._cancel_timers()
        self._exit = Exit(signal=9, killed=True)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()


@implementer(IEnclosure)
@attrs.define(eq=False)
class MemoryEnclosure:
    """A place for runs that only seem to run."""

    plot: Plot
    _clock: IReactorTime
    _behaviour: Behaviour
    _when_gone: Callable[[MemoryEnclosure], None]
    #: The machine's files by path.
    disk: dict[str, bytes] = attrs.field(factory=dict)
    #: What runs in it now.
    run: MemoryRun | None = None
    uid: int = 20000
    _destroyed: bool = False

    def start(self, argv: Sequence[str], env: Mapping[str, str], output: Output) -> Deferred[IRun]:
        if problem := self._problem():
            return fail(problem)
        self.run = run = MemoryRun(
            self._clock, self.plot, tuple(argv), dict(env), self.disk, output, self._over
        )
        run.begin(self._behaviour)
        return succeed(run)

    def collect(self, patterns: Sequence[str], destination: Path) -> Deferred[Collected]:
        if problem := self._problem():
            return fail(problem)
        if destination.exists():
            return fail(Conflict(f"The outputs cannot be written to {destination}: it is there."))
        chosen: set[str] = set()
        left_out = []
        for pattern in patterns:
            found = set(filter(re.compile(expression_of(pattern)).fullmatch, self.disk))
            chosen |= found
            if not found:
                left_out.append(f"no file matches {pattern}")
        if not chosen:
            return succeed(Collected(0, tuple(left_out)))
        with tarfile.open(destination, "x") as archive:
            for path in sorted(chosen):
                member = tarfile.TarInfo(path)
                member.size = len(self.disk[path])
                archive.addfile(member, io.BytesIO(self.disk[path]))
        return succeed(Collected(destination.stat().st_size, tuple(left_out)))

    def wipe(self) -> Deferred[None]:
        if problem := self._problem():
            return fail(problem)
        self.disk.clear()
        return succeed(None)

    def written(self) -> Deferred[int]:
        if problem := self._problem():
            return fail(problem)
        return succeed(len(self.disk))

    def destroy(self) -> Deferred[None]:
        if not self._destroyed:
            self._destroyed = True
            if self.run is not None:
                self.run.end(Exit(signal=9, killed=True))
            self._when_gone(self)
        return succeed(None)

    def _problem(self) -> SyndicateError | None:
        if self._destroyed:
            return Conflict(f"The place of {self.plot.key} is gone.")
        if self.run is not None:
            return Conflict(f"A program still runs in the place of {self.plot.key}; kill it first.")
        return None

    def _over(self) -> None:
        self.run = None


@implementer(ISandbox)
class MemorySandbox:
    """A sandbox of which nothing can be seen outside the process.

    :param behaviour: what the programs do; by default they end at once, with code 0.
    """

    def __init__(self, clock: IReactorTime, behaviour: Behaviour = succeed_at_once) -> None:
        self._clock = clock
        self._behaviour = behaviour
        #: What is prepared now, by the keys of the plots.
        self.enclosures: dict[str, MemoryEnclosure] = {}
        self._closed = False

    def probe(self) -> Deferred[SandboxFacts]:
        return succeed(SandboxFacts("memory", ("output", "wall"), freezer=True))

    def sweep(self) -> Deferred[int]:
        return succeed(0)

    def prepare(self, plot: Plot) -> Deferred[IEnclosure]:
        if self._closed:
            return fail(Unavailable("The sandbox is closed."))
        if plot.key in self.enclosures:
            return fail(Conflict(f"There is a place for {plot.key} already."))
        enclosure = MemoryEnclosure(plot, self._clock, self._behaviour, self._forget)
        self.enclosures[plot.key] = enclosure
        return succeed(enclosure)

    def close(self) -> Deferred[None]:
        self._closed = True
        for enclosure in list(self.enclosures.values()):
            enclosure.destroy()
        return succeed(None)

    def crash(self) -> None:
        """Lose everything at once and tell nobody, as when the daemon is killed."""
        for enclosure in self.enclosures.values():
            if enclosure.run is not None:
                enclosure.run.vanish()
        self.enclosures.clear()

    def _forget(self, enclosure: MemoryEnclosure) -> None:
        self.enclosures.pop(enclosure.plot.key, None)
