"""What both daemons' makers share: options, and opening once the reactor runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from syndicate.domain.errors import SyndicateError

log = Logger()

Config = TypeVar("Config")

#: When Python looks for cycles that nobody holds, as `gc.set_threshold` takes it. By its own rule
#: of 700 new objects it looks some hundred times a second while many jobs run, and at imports, and
#: finds next to nothing. Not much higher: requests that are over are such cycles and hold what they
#: brought; at 20,000 a manager that took a gigabyte of logs grew by 28 MB, at 2,000 by 2.
COLLECT = (2_000, 10, 10)


class ConfigOptions(usage.Options):
    """``--config FILE``."""

    optParameters = [["config", "c", None, "The TOML file to be told by; see etc/."]]  # noqa: RUF012

    def postOptions(self) -> None:
        """A daemon without its file would serve defaults that nobody asked for."""
        if self["config"] is None:
            raise usage.UsageError("Say which configuration to use: --config FILE.")


def make(
    options: Any,
    read: Callable[[Path], Config],
    build: Callable[[Any, Config], IService],
) -> IService:
    """The service that a configuration wants; what is wrong with that, or with what has to be
    there before, ends the start with a message and not with a traceback.
    """
    from twisted.internet import reactor

    try:
        return build(reactor, read(Path(options["config"])))
    except SyndicateError as error:
        raise SystemExit(str(error)) from None


class Opens(Protocol):
    """A service with parts that are opened before it starts."""

    def open(self) -> Awaitable[None]:
        """Open them."""

    def startService(self) -> None:
        """See `IService`."""

    def stopService(self) -> Deferred[None]:
        """See `IService`."""


class Daemon(Service):
    """Opens a service once the reactor runs, then starts it, and the services that need it open.

    A failure to open ends the process with exit code 1, said on standard error.

    :param inner: the service with ``open``.
    :param prepare: called before it is opened.
    :param serve: called once it is open; what must not be reachable before, such as listening.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        inner: Opens,
        serve: Callable[[], Awaitable[None]],
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._reactor, self._name, self._inner, self._serve = reactor, name, inner, serve
        self._prepare = prepare
        self._opening: Deferred[None] | None = None
        self._after: list[IService] = []

    def startService(self) -> None:
        """Begin to open."""
        super().startService()
        self._opening = Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        try:
            if self._prepare is not None:
                await self._prepare()
            await self._inner.open()
            self._inner.startService()
            await self._serve()
        except (SyndicateError, OSError) as error:
            log.critical("{name} cannot start: {why}", name=self._name, why=str(error))
            self._give_up(str(error))
        except CannotListenError as error:
            where = f"{error.interface}:{error.port}"
            why = (
                f"It cannot listen on {where}: {error.socketError.strerror}. "
                "Stop what listens there, or configure another port or address."
            )
            log.critical("{name} cannot start: {why}", name=self._name, why=why)
            self._give_up(why)
        except Exception as error:  # noqa: BLE001  (the edge of the daemon: logged whole)
            log.failure("{name} cannot start", name=self._name)
            self._give_up(repr(error))

    def _give_up(self, why: str) -> None:
        # The log may be a file that nobody is looking at yet.
        sys.stderr.write(f"{self._name} cannot start: {why}\n")
        self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self._reactor.callWhenRunning(self._reactor.stop)

    def before_close(self, service: IService) -> None:
        """Stop this service too, before the inner one."""
        service.startService()
        self._after.append(service)

    def stopService(self) -> Deferred[None]:
        """Close what was opened, the last first."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        while self._after:
            await _maybe(self._after.pop().stopService())
        await _maybe(self._inner.stopService())


async def _maybe(stopping: Deferred[Any] | None) -> None:
    if stopping is not None:
        await stopping
