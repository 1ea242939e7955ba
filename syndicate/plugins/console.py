"""Makes the consoles of both daemons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import Logger

from syndicate.audit.interface import IAudit
from syndicate.config.console import ConsoleConfig

if TYPE_CHECKING:
    from syndicate.console.server import Console, MakeWords

log = Logger()


class ConsoleService(StreamServerEndpointService):
    """Listens; when it stops, those inside are sent away.

    :param audit: closed with it.
    """

    def __init__(
        self, reactor: Any, config: ConsoleConfig, console: Console, audit: IAudit
    ) -> None:
        endpoint = TCP4ServerEndpoint(reactor, config.port, interface=config.address)
        super().__init__(endpoint, console)
        self._raiseSynchronously = True
        self._console, self._audit = console, audit

    def stopService(self) -> Any:
        """Stop listening, and end all connections."""
        self._console.end()
        self._audit.close()
        return super().stopService()


def make_console(
    reactor: Any,
    daemon: str,
    config: ConsoleConfig,
    state: Path,
    audit: IAudit,
    make_words: Callable[[Callable[[], Console]], MakeWords],
) -> tuple[Console, IService] | None:
    """A daemon's console and what listens for it; None where nobody may log in.

    :raises Invalid: its host key cannot be used.
    """
    if not config.port or not (config.operators or config.viewers):
        return None
    # What it stands on takes a while to be imported, and most daemons have none.
    from syndicate.console.server import Console, Settings

    keys = config.keys or state / "console" / "keys"
    if config.keys is None:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = Settings(config.operators, config.viewers, keys, state / "console" / "host_key")
    made: list[Console] = []
    made.append(Console(reactor, daemon, settings, make_words(lambda: made[0]), audit))
    console = made[0]
    log.info(
        "The console listens at {address}:{port}; host key {key}; keys of people in {keys}.",
        address=config.address,
        port=config.port,
        key=console.host_key[1],
        keys=keys,
    )
    return console, ConsoleService(reactor, config, console, audit)
