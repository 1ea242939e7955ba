"""One program running in an enclosure: its output, its limits, and its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from zope.interface import implementer

from syndicate.domain.errors import SandboxFailed
from syndicate.domain.job import Limits
from syndicate.sandbox.cgroups import Group
from syndicate.sandbox.interface import Exit, IRun, Output
from syndicate.sandbox.launching import End, IHostReactor, Launcher
from syndicate.sandbox.meter import Meter
from syndicate.sandbox.oom import OomWatch
from syndicate.sandbox.orders import RunOrder
from syndicate.sandbox.spares import Launchers, failure_of

#: Seconds that freezing may take, and between two looks whether it is done.
_FREEZING = 5.0
_LOOK = 0.002


@implementer(IRun)
class Run:
    """A run is an errand of a launcher.

    :param when_over: called at the end, before anybody who waits.
    """

    def __init__(
        self,
        reactor: IHostReactor,
        limits: Limits,
        output: Output,
        when_over: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._output = output
        self._when_over = when_over
        self._launcher: Launcher | None = None
        self._room = limits.output
        self._limit: str | None = None
        self._kill_wanted = False
        self._wall: IDelayedCall | None = None
        self._memory: OomWatch | None = None
        self._meter: Meter | None = None
        self._short: list[str] = []
        self._problem: list[str] = []
        self._said: Exit | None = None
        self._exit: Exit | None = None
        self._waiters: list[Deferred[Exit]] = []
        #: Fires with this run once its program has been executed.
        self.executed: Deferred[IRun] = Deferred()

    def begin(self, launchers: Launchers, order: RunOrder) -> None:
        """Have a launcher start it."""
        launcher = launchers.take()
        try:
            launcher.group.set(self._limits)
            self._memory = launcher.group.watch(lambda: self.overstep("memory"), self._reactor)
        except OSError as error:
            launcher.terminate()
            raise SandboxFailed(f"The job's limits cannot be set: {error}.") from error
        self._launcher = launcher
        self._meter = Meter(
            self._reactor,
            launcher.group.processor_time,
            self._limits.cpu,
            lambda: self.overstep("cpu"),
        )
        launcher.give(order, self)

    @property
    def groups(self) -> list[Path]:
        """The control groups it is in."""
        return list(self._launcher.group.places) if self._launcher else []

    def kill(self) -> Deferred[Exit]:
        if self._exit is None and not self._kill_wanted:
            self._kill_wanted = True
            self._end()
        return self.wait()

    def processes(self) -> list[int]:
        return sorted(self._launcher.processes()) if self._launcher else []

    def pause(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._pause())

    async def _pause(self) -> None:
        group = self._group
        if group is None or self._kill_wanted or self._limit:
            return  # what is frozen while it is being killed might not die
        if not group.can_freeze:
            raise SandboxFailed(
                "Programs cannot be paused on this host: there is no freezer among its control "
                "groups that the volunteer may use."
            )
        group.freeze()
        # Whoever kills or resumes it meanwhile has thawed it.
        await self._look_until(lambda: group.stands_still() or not group.frozen, group.freeze)
        if group.frozen and not group.stands_still() and self._exit is None:
            group.thaw()
            raise SandboxFailed(f"The program did not stand still within {_FREEZING:g} s.")

    def resume(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._resume())

    async def _resume(self) -> None:
        group = self._group
        if group is not None:
            group.thaw()
            await self._look_until(lambda: group.frozen or not group.stands_still())

    async def _look_until(
        self, settled: Callable[[], bool], again: Callable[[], None] | None = None
    ) -> None:
        """Wait until it is so, the run has ended, or it takes too long.

        :param again: what to do before every further look.
        """
        end = self._reactor.seconds() + _FREEZING
        while self._exit is None and not settled() and self._reactor.seconds() < end:
            await deferLater(self._reactor, _LOOK)
            if again and not settled():
                again()

    def paused(self) -> bool:
        group = self._group
        return group is not None and group.stands_still()

    @property
    def _group(self) -> Group | None:
        """The control groups that it lives in, while it does."""
        return self._launcher.group if self._launcher and self._exit is None else None

    def wait(self) -> Deferred[Exit]:
        waiter: Deferred[Exit] = Deferred(self._waiters.remove)
        if self._exit is not None:
            waiter.callback(self._exit)
        else:
            self._waiters.append(waiter)
        return waiter

    def overstep(self, limit: str) -> None:
        """End it, as it went over that limit."""
        if self._exit is None and self._limit is None:
            self._limit = limit
            self._end()

    def reported(self, words: list[str]) -> None:
        if words[0] == "executed":
            self._has_begun()
        elif words[0] == "short":
            self._short += words[1:]
        elif words[0] == "ended":
            number = int(words[2])
            self._said = Exit(code=number) if words[1] == "code" else Exit(signal=number)
        else:
            self._problem = words

    def _has_begun(self) -> None:
        if not self.executed.called:
            self._wall = self._reactor.callLater(self._limits.wall, self.overstep, "wall")
            self.executed.callback(self)

    def printed(self, stream: int, data: bytes) -> None:
        fits = data[: self._room]
        self._room -= len(fits)
        if fits:
            self._output(stream, fits)
        if len(fits) < len(data):
            self._has_begun()  # it can print faster than its start is reported
            self.overstep("output")
            if self._launcher:
                self._launcher.mute()

    def ended(self, end: End) -> None:
        if self._wall and self._wall.active():
            self._wall.cancel()
        if self._memory:
            self._memory.close()
        if self._meter:
            self._meter.close()
        if end.out_of_memory and self._limit is None:
            self._limit = "memory"
        self._exit = self._how(end)
        self._when_over()
        if not self.executed.called:
            self.executed.errback(self._not_executed(end))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(self._exit)

    def _end(self) -> None:
        if self._launcher:
            self._launcher.terminate()

    def _how(self, end: End) -> Exit:
        killed = self._kill_wanted and self._said is None
        if self._said:
            how = self._said
        elif end.signal is not None:
            how = Exit(signal=end.signal)
        else:
            how = Exit(problem=str(failure_of(self._problem, end)))
        if killed or self._limit or how.problem or how.code == 0:
            return Exit(how.code, how.signal, how.problem, self._limit, killed)
        short = [*self._short, *(["pids"] if end.out_of_processes else [])]
        return Exit(how.code, how.signal, short=tuple(short))

    def _not_executed(self, end: End) -> SandboxFailed:
        if self._kill_wanted:
            return SandboxFailed("The program was killed before it had been started.")
        return SandboxFailed(str(failure_of(self._problem, end)))
