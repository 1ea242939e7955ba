"""One launcher process, as the daemon sees it."""

from __future__ import annotations

import marshal
from typing import Any, Protocol, cast

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
from twisted.python.failure import Failure

from syndicate.sandbox.cgroups import Group
from syndicate.sandbox.confine.channel import CHANNEL
from syndicate.sandbox.orders import Order
from syndicate.sandbox.uids import alive, descendants_of

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
    #: Whether it could not make one as the cap on their number was hit.
    out_of_processes: bool = False


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
        if self.group.frozen:
            self.group.kill()
        self._signal("TERM")
        self._escalation = self._reactor.callLater(PATIENCE, self._force)

    def processes(self) -> frozenset[int]:
        """The processes that it runs and that live, by their numbers on the host; neither itself
        nor the first one of their namespace.
        """
        own = {self._process.pid, self._init}
        if self.group.places:
            return self.group.processes() - own
        return frozenset(descendants_of(self._init) if self._init and not self._gone else ())

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
            if words[0] == "init" and words[-1].isdigit():
                self._init = int(words[1])
            elif self._errand:
                self._errand.reported(words)

    def processEnded(self, reason: Failure) -> None:
        self._ended = True
        if self._escalation and self._escalation.active():
            self._escalation.cancel()
        status = cast(ProcessTerminated, reason.value)
        data = bytes(self._heard)
        end = End(
            status.exitCode,
            status.signal,
            data,
            self.group.out_of_memory(),
            self.group.short_of_processes(),
        )
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
