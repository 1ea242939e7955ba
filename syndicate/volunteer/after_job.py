"""Runs the operator's command after each job, or the one that reboots the host."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from syndicate.domain.errors import NotClean
from syndicate.wire.interface import Holding

log = Logger()

#: Of util-linux, which every Debian has.
SETSID = "/usr/bin/setsid"
#: Seconds that a command which has ended is listened to while something holds its output.
LAST_WORDS = 0.5
#: Bytes of a command's last words that are told.
_WORDS = 500


@attrs.frozen
class Command:
    """A command that makes the host fit for the next job.

    :param argv: the command; it runs as the daemon's user, in ``/``, with nothing on its input.
    :param deadline: seconds after which it is killed, and counts as failed.
    :param reboots: whether its success is that the host goes down, and this daemon with it: one
        that still runs at the deadline has failed.
    """

    _reactor: Any
    _argv: tuple[str, ...]
    _deadline: float
    _reboots: bool = False

    async def __call__(self, last: Holding | None) -> None:
        """Run it.

        :raises NotClean: it failed, or took too long.
        """
        began = self._reactor.seconds()
        log.info("After the job: {command}", command=" ".join(self._argv))
        child = _Child(self._reactor)
        try:
            # A session of its own, so that what it starts can be killed with it.
            words = ("setsid", "--", *self._argv)
            transport = self._reactor.spawnProcess(
                child, SETSID, words, env=_environment(last), path="/"
            )
        except OSError as error:
            raise NotClean(f"after_job: {self._argv[0]} cannot be run: {error}.") from error
        try:
            await child.ended.addTimeout(self._deadline, self._reactor)
        except TimeoutError:
            _kill(transport.pid)
            await child.over
            raise NotClean(
                f"after_job: {self._argv[0]} did not end within {self._deadline:g} s, and was "
                f"killed.{child.words}"
            ) from None
        except CancelledError:
            _kill(transport.pid)
            await child.over
            raise
        if child.problem:
            raise NotClean(f"after_job: {self._argv[0]} {child.problem}.{child.words}")
        if self._reboots:
            left = self._deadline - (self._reactor.seconds() - began)
            await deferLater(self._reactor, max(left, 0.0))
            raise NotClean(
                f"after_job: {self._argv[0]} ended well, but this host runs on after "
                f"{self._deadline:g} s."
            )


class _Child(ProcessProtocol):
    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._late: IDelayedCall | None = None
        self.ended: Deferred[None] = Deferred()
        #: Fires too when `ended` was given up.
        self.over: Deferred[None] = Deferred()
        self.problem = ""
        self._said = b""

    @property
    def words(self) -> str:
        """The last that it said."""
        text = self._said.decode("utf-8", "replace").strip()
        return f" It said: {text}" if text else ""

    def connectionMade(self) -> None:
        """Its input is at its end."""
        transport: Any = self.transport
        transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the last of it."""
        self._said = (self._said + data)[-_WORDS:]

    def processExited(self, reason: Failure) -> None:
        """How it ended; what it has started may still hold its output."""
        error: Any = reason.value
        if not isinstance(error, ProcessDone):
            by = f"signal {error.signal}" if error.signal else f"exit code {error.exitCode}"
            self.problem = f"ended with {by}"
        transport: Any = self.transport
        self._late = self._clock.callLater(LAST_WORDS, transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        """All of it has gone."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        self.over.callback(None)
        if not self.ended.called:
            self.ended.callback(None)


def _kill(pid: int | None) -> None:
    if pid is not None:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)


def _environment(last: Holding | None) -> dict[str, str]:
    told = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if last is not None:
        told |= {
            "SYNDICATE_JOB": str(last.job),
            "SYNDICATE_ATTEMPT": str(last.attempt),
            "SYNDICATE_MACHINE": last.machine,
        }
    return told
