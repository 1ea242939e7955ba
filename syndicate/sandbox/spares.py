"""Launchers, started ahead of need.

A start of Python costs tens of milliseconds of processor time, and all machines of a job start at
the same moment: so some launchers always wait, and new ones are started a little after that
moment, not in it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGXCPU
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from syndicate.domain.errors import InvalidSource, SandboxFailed, StorageFull, Unavailable
from syndicate.domain.job import Limits
from syndicate.sandbox.cgroups import ControlGroups
from syndicate.sandbox.confine.channel import CHANNEL
from syndicate.sandbox.launching import End, IHostReactor, Launcher
from syndicate.sandbox.orders import Order

_log = Logger()

T = TypeVar("T")

#: ``-S`` and ``-I`` keep out whatever is not the standard library.
_COMMAND = (sys.executable, "-I", "-S", "-X", "utf8", str(Path(__file__).with_name("launcher.py")))
_PIPES: Mapping[int, int | str] = {0: "w", 1: "r", 2: "r", CHANNEL: "r"}
#: Seconds after the last use of a launcher until others are started in its place.
PAUSE = 0.5
#: The same where the next use may be near.
SHORT_PAUSE = 0.05
#: The same for the first of a daemon: many of its own kind may start with it, and registering goes
#: before being quick.
FIRST_PAUSE = 1.0


@attrs.frozen
class Done:
    """What a launcher says of work that it has finished."""

    numbers: tuple[int, ...]
    data: bytes


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

    def warm_later(self) -> None:
        """Start as many as are to wait, once the daemon has had time to get to its work."""
        self._refill_after(FIRST_PAUSE)

    def _refill_after(self, seconds: float) -> None:
        if self._refill and self._refill.active():
            self._refill.reset(seconds)
        else:
            self._refill = self._reactor.callLater(seconds, self._fill)

    def _fill(self) -> None:
        try:
            while len(self._waiting) < self._keep and not self._closed:
                self._waiting.append(self._spawn())
        except SandboxFailed as error:
            _log.warn("no launcher is waiting: {error}", error=error)

    def take(self) -> Launcher:
        """Get a launcher, to be given an order at once.

        :raises SandboxFailed: when no process can be started.
        """
        if self._closed:
            raise Unavailable("The sandbox is being closed; nothing can be started in it.")
        launcher = self._waiting.pop(0) if self._waiting else self._spawn()
        self._refill_after(PAUSE)
        return launcher

    def hasten(self) -> None:
        """Start others in the place of those used sooner than usual."""
        if self._refill and self._refill.active():
            self._refill.reset(SHORT_PAUSE)

    def perform(
        self, order: Order, seconds: float = 600.0, limits: Limits | None = None
    ) -> Deferred[Done]:
        """Send a launcher on an errand that ends with a result.

        :param seconds: how long it may take.
        :param limits: of what it may use, where a job could make it use much.
        :raises InvalidSource: what it had to read breaks the rules.
        :raises StorageFull: there was no room for what it had to write.
        :raises SandboxFailed: it could not do it.
        """
        errand = _Result(seconds)
        launcher = self.take()
        if limits is not None:
            launcher.group.set(limits)
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
        try:
            group = self._groups.make()
            launcher = Launcher(self._reactor, group)
            argv = [*_COMMAND, str(os.getpid()), *group.paths]
            # Without a path Twisted need not fork the daemon itself to start another program.
            self._reactor.spawnProcess(launcher, argv[0], argv, env={}, childFDs=_PIPES)
        except OSError as error:
            raise SandboxFailed(f"No process can be started for the sandbox: {error}.") from error
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
        elif kind == "done" and end.code == 0 and all(word.isdigit() for word in words):
            self.result.callback(Done(tuple(map(int, words)), end.data))
        elif kind == "refused":
            self.result.errback(InvalidSource(" ".join(words)))
        elif end.signal == SIGXCPU:
            self.result.errback(InvalidSource("It takes too long to unpack: pack less."))
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
