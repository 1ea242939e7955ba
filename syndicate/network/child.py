"""A small process of ours that answers requests, a line each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from syndicate.domain.errors import SandboxFailed

_log = Logger()

#: ``-S`` and ``-I`` keep out whatever is not the standard library.
_COMMAND = (sys.executable, "-I", "-S", "-X", "utf8")
#: Seconds for an answer, beyond what the request itself may take.
_PATIENCE = 10.0
#: Seconds for it to end by itself.
_FAREWELL = 2.0


class IChildReactor(IReactorProcess, IReactorTime):
    """What this room needs of a reactor."""


class Child:
    """The process, started ahead of need, and again should it have ended.

    :param script: one of this room's that need nothing but the standard library; it is given the
        number of our process and then ``words``.
    """

    def __init__(self, reactor: IChildReactor, script: str, *words: str) -> None:
        self._reactor = reactor
        self._script = script
        self._words = words
        self._turn = DeferredLock()
        self._process: _Process | None = None

    @property
    def runs(self) -> bool:
        """Whether it is there."""
        return self._process is not None and not self._process.over

    def warm(self) -> None:
        """Have it run.

        :raises SandboxFailed: no process can be started.
        """
        if self.runs:
            return
        self._process = _Process(self._script)
        path = str(Path(__file__).with_name(self._script))
        argv = [*_COMMAND, path, str(os.getpid()), *self._words]
        try:
            # Without a path Twisted need not fork the daemon itself to start another program.
            self._reactor.spawnProcess(
                self._process, argv[0], argv, env={}, childFDs={0: "w", 1: "r", 2: "r"}
            )
        except OSError as error:
            self._process = None
            raise SandboxFailed(f"{self._script} cannot be started: {error}.") from error

    async def converse(self, request: str, wait: float = 0.0) -> list[str]:
        """Ask, when nobody else does any more; gives the words of the answer.

        :param wait: seconds that the request may take.
        :raises SandboxFailed: it does not answer.
        """
        await self._turn.acquire()
        try:
            self.warm()
            assert self._process is not None
            timer = self._reactor.callLater(wait + _PATIENCE, self._process.kill)
            try:
                return await self._process.ask(request)
            finally:
                if timer.active():
                    timer.cancel()
        finally:
            self._turn.release()

    async def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None or process.over:
            return
        timer = self._reactor.callLater(_FAREWELL, process.kill)
        await process.dismiss()
        if timer.active():
            timer.cancel()


class _Process(ProcessProtocol):
    def __init__(self, script: str) -> None:
        self.over = False
        self._script = script
        self._heard = b""
        self._said = b""
        self._answer: Deferred[list[str]] | None = None
        self._farewell: Deferred[None] | None = None

    def ask(self, request: str) -> Deferred[list[str]]:
        answer = self._answer = Deferred[list[str]]()
        assert self.transport is not None
        self.transport.writeToChild(0, request.encode() + b"\n")
        return answer

    def dismiss(self) -> Deferred[None]:
        """Have it end; fires when it has."""
        farewell = self._farewell = Deferred[None]()
        assert self.transport is not None
        self.transport.closeChildFD(0)
        return farewell

    def kill(self) -> None:
        assert self.transport is not None
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == 2:
            self._said = (self._said + data)[-2000:]
            return
        self._heard += data
        if self._heard.endswith(b"\n") and self._answer is not None:
            answer, self._answer = self._answer, None
            words, self._heard = self._heard.decode().split(), b""
            answer.callback(words)

    def processEnded(self, reason: Failure) -> None:
        self.over = True
        said = self._said.decode("utf-8", "replace").strip().splitlines()[-1:]
        why = said[0] if said else reason.getErrorMessage()
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer.errback(SandboxFailed(f"{self._script} has ended: {why}"))
        elif self._farewell is None:
            _log.warn("{script} has ended: {why}", script=self._script, why=why)
        if self._farewell is not None:
            self._farewell.callback(None)
