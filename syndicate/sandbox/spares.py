"""Launcher processes, started ahead of need.

A start of Python costs tens of milliseconds of processor time, and all machines of a job start at
the same moment: so some launchers always wait, and new ones are started a little after that
moment, not in it.
"""

from __future__ import annotations

import errno
import marshal
import os
import sys
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import (
    IDelayedCall,
    IProcessTransport,
    IReactorFDSet,
    IReactorProcess,
    IReactorThreads,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from syndicate.domain.errors import InvalidSource, SandboxFailed, StorageFull, Unavailable
from syndicate.sandbox.cgroups import ControlGroups, Group
from syndicate.sandbox.confine.channel import CHANNEL
from syndicate.sandbox.orders import Order
from syndicate.sandbox.uids import alive

_log = Logger()

T = TypeVar("T")

_PROGRAM = str(Path(__file__).with_name("launcher.py"))
#: Seconds after the last use of a launcher until others are started in its place.
PAUSE = 0.5
#: Seconds that a launcher has to obey SIGTERM before it gets SIGKILL.
PATIENCE = 2.0
#: Seconds between looks at what should be about to vanish, and how many of them are made.
_LOOK = 0.005
_LOOKS = 1000
#: Bytes of reports from one launcher; it may have been near hostile data.
_LONGEST_REPORT = 4 << 20


class IHostReactor(IReactorProcess, IReactorTime, IReactorThreads, IReactorFDSet):
    """What this room needs of a reactor."""


class Errand(Protocol):
    """Who wants to hear of a launcher's progress."""

    def reported(self, words: list[str]) -> None:
        """A report came in; see `syndicate.sandbox.confine.channel`."""

    def printed(self, stream: int, data: bytes) -> None:
        """The program wrote to its standard output (1) or standard error (2)."""

    def ended(self, end: End) -> None:
        """The launcher and all that it started are gone, and everything it said was delivered."""


@attrs.frozen
class End:
    """How a launcher ended."""

    code: int | None
    signal: int | None
    #: What came behind the report ``done``.
    data: bytes
    #: Whether the kernel killed something as the memory cap was hit.
    out_of_memory: bool


@attrs.frozen
class Done:
    """What a launcher says of work that it has finished."""

    numbers: tuple[int, ...]
    data: bytes


class Launcher(ProcessProtocol):
    """One launcher process: it waits, gets one order, and ends.

    :param group: the control groups it joins; it removes them at its end.
    """

    def __init__(self, reactor: IHostReactor, group: Group) -> None:
        self._reactor = reactor
        self.group = group
        self._errand: Errand | None = None
        self._heard = bytearray()
        self._all_reports = False
        self._escalation: IDelayedCall | None = None
        self._watchers: list[Deferred[None]] = []
        self._init: int | None = None
        self._ended = False
        self._gone = False

    @property
    def _process(self) -> IProcessTransport:
        assert self.transport is not None
        return self.transport

    def give(self, order: Order, errand: Errand) -> None:
        """Send it on its only errand."""
        self._errand = errand
        self._process.writeToChild(0, marshal.dumps(cast(Any, order)))
        self._process.closeChildFD(0)

    def terminate(self) -> None:
        """Have it end, and what it runs with it. Harmless at any time."""
        if self._ended or self._escalation:
            return
        self._signal("TERM")
        self._escalation = self._reactor.callLater(PATIENCE, self._force)

    def mute(self) -> None:
        """Hear nothing more of what the program prints."""
        for stream in (1, 2):
            self._process.closeChildFD(stream)

    def gone(self) -> Deferred[None]:
        """Fires once the process and all it has started have ended."""
        watcher: Deferred[None] = Deferred()
        if self._gone:
            watcher.callback(None)
        else:
            self._watchers.append(watcher)
        return watcher

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != CHANNEL:
            if self._errand:
                self._errand.printed(childFD, data)
            return
        self._heard += data
        if len(self._heard) > _LONGEST_REPORT:
            self._force()
        while not self._all_reports and b"\n" in self._heard:
            line, _, rest = self._heard.partition(b"\n")
            self._heard = bytearray(rest)
            words = line.decode("utf-8", "replace").split(" ")
            self._all_reports = words[0] == "done"
            if words[0] == "init":
                self._init = int(words[1])
            elif self._errand:
                self._errand.reported(words)

    def processEnded(self, reason: Failure) -> None:
        self._ended = True
        if self._escalation and self._escalation.active():
            self._escalation.cancel()
        status = cast(ProcessTerminated, reason.value)
        data = bytes(self._heard)
        end = End(status.exitCode, status.signal, data, self.group.out_of_memory())
        self._settle(end, _LOOKS)

    def _settle(self, end: End, looks: int) -> None:
        """Wait until the kernel is done with what it was told to end.

        Where the launcher itself was killed, that is the processes; the groups can be busy for
        some milliseconds in any case. If it takes too long, `IEnclosure.destroy` will find it.
        """
        dying = self._init is not None and alive(self._init)
        if looks and (dying or self.group.remove()):
            self._reactor.callLater(_LOOK, self._settle, end, looks - 1)
            return
        self._gone = True
        if self._errand:
            self._errand.ended(end)
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.callback(None)

    def _force(self) -> None:
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        try:
            self._process.signalProcess(name)
        except ProcessExitedAlready:
            return


class Launchers:
    """The launchers of one daemon.

    :param groups: makes the control groups of each.
    :param keep: how many wait for an order.
    """

    def __init__(self, reactor: IHostReactor, groups: ControlGroups, keep: int = 2) -> None:
        self._reactor = reactor
        self._groups = groups
        self._keep = keep
        self._waiting: list[Launcher] = []
        self._all: set[Launcher] = set()
        self._refill: IDelayedCall | None = None
        self._closed = False

    def warm(self) -> None:
        """Start as many as are to wait."""
        while len(self._waiting) < self._keep and not self._closed:
            self._waiting.append(self._spawn())

    def take(self) -> Launcher:
        """Get a launcher, to be given an order at once."""
        if self._closed:
            raise Unavailable("The sandbox is being closed; nothing can be started in it.")
        launcher = self._waiting.pop(0) if self._waiting else self._spawn()
        if self._refill and self._refill.active():
            self._refill.reset(PAUSE)
        else:
            self._refill = self._reactor.callLater(PAUSE, self.warm)
        return launcher

    def perform(self, order: Order, seconds: float = 600.0) -> Deferred[Done]:
        """Send a launcher on an errand that ends with a result.

        :param seconds: how long it may take.
        :raises InvalidSource: what it had to read breaks the rules.
        :raises StorageFull: there was no room for what it had to write.
        :raises SandboxFailed: it could not do it.
        """
        errand = _Result(seconds)
        launcher = self.take()
        launcher.give(order, errand)
        deadline = self._reactor.callLater(seconds, self._give_up, launcher, errand)

        def in_time(result: T) -> T:
            if deadline.active():
                deadline.cancel()
            return result

        return errand.result.addBoth(in_time)

    def _give_up(self, launcher: Launcher, errand: _Result) -> None:
        errand.late = True
        launcher.terminate()

    @property
    def groups(self) -> set[Path]:
        """The control groups of those there are."""
        return {path for launcher in self._all for path in launcher.group.places}

    async def close(self) -> None:
        """End all of them; what they run is killed."""
        self._closed = True
        if self._refill and self._refill.active():
            self._refill.cancel()
        everyone = list(self._all)
        for launcher in everyone:
            launcher.terminate()
        for launcher in everyone:
            await launcher.gone()

    def _spawn(self) -> Launcher:
        group = self._groups.make()
        launcher = Launcher(self._reactor, group)
        flags = ["-I", "-S", "-X", "utf8"]
        argv = [sys.executable, *flags, _PROGRAM, str(os.getpid()), *group.paths]
        pipes: dict[int, int | str] = {0: "w", 1: "r", 2: "r", CHANNEL: "r"}
        self._reactor.spawnProcess(launcher, sys.executable, argv, env={}, path="/", childFDs=pipes)
        self._all.add(launcher)
        launcher.gone().addCallback(lambda _: self._forget(launcher))
        return launcher

    def _forget(self, launcher: Launcher) -> None:
        self._all.discard(launcher)
        if launcher in self._waiting:
            self._waiting.remove(launcher)
            if not self._closed:
                _log.warn("a waiting launcher has ended, which it should not")


class _Result:
    """An errand whose end is a result."""

    def __init__(self, seconds: float) -> None:
        self.result: Deferred[Done] = Deferred()
        self.late = False
        self._seconds = seconds
        self._words: list[str] = []
        self._said = b""

    def reported(self, words: list[str]) -> None:
        self._words = words

    def printed(self, stream: int, data: bytes) -> None:
        self._said = (self._said + data)[-2000:]

    def ended(self, end: End) -> None:
        kind, *words = self._words or [""]
        if self.late:
            message = f"The sandbox's launcher had not done its work after {self._seconds:g} s."
            self.result.errback(SandboxFailed(message))
        elif kind == "done" and end.code == 0:
            self.result.callback(Done(tuple(map(int, words)), end.data))
        elif kind == "refused":
            self.result.errback(InvalidSource(" ".join(words)))
        else:
            self.result.errback(failure_of(self._words, end, self._said))


def failure_of(words: list[str], end: End, said: bytes = b"") -> SandboxFailed | StorageFull:
    """The error that a launcher's last report and its end amount to."""
    if words[:1] == ["failed"]:
        text = " ".join(words[2:])
        if int(words[1]) in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(f"There is no room left on the volunteer's disk: {text}.")
        return SandboxFailed(f"The sandbox could not be made: {text}.")
    how = f"by signal {end.signal}" if end.signal else f"with code {end.code}"
    text = said.decode("utf-8", "replace").strip()
    return SandboxFailed(f"The sandbox's launcher ended {how} before its work was done. {text}")
