"""The daemons of a lab as a crew: started together, waited for, asked how they are."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from syndicate.domain.errors import Timeout, Unavailable
from syndicate.lab import processes
from syndicate.lab.daemons import IDaemons
from syndicate.lab.processes import Identity
from syndicate.lab.state import Description, Host

#: How much of a daemon's last words is told, in lines.
_LAST_WORDS = 15

#: Seconds from one look at who is ready to the next.
_LOOK = 0.03

#: Of our own variables, the one by which the test suite finds what it has left behind.
_PASSED = frozenset({"SYNDICATE_TEST_RUN"})


@attrs.frozen
class Crew:
    """Runs the daemons of one lab."""

    _directory: Path
    _daemons: IDaemons

    def start(self, hosts: Sequence[Host]) -> None:
        """Start the daemons of these hosts, all at once, and note in the hosts who they are."""
        for host in hosts:
            directory = self._directory / host.name
            directory.mkdir(mode=0o711, exist_ok=True)
            started = processes.start(
                host.namespace,
                self._daemons.command(self._directory, host),
                environment=_environment(),
                directory=directory,
                output=directory / "output",
            )
            host.pid, host.began = started.pid, started.began

    def await_ready(self, description: Description, hosts: Sequence[Host], wait: float) -> None:
        """Wait until these hosts are ready.

        :param wait: seconds.
        :raises Unavailable: a daemon ended.
        :raises Timeout: they are not ready in time.
        """
        deadline = time.monotonic() + wait
        names = {host.name for host in hosts}
        while not (ready := set(self._daemons.ready(description))) >= names:
            if ended := next((host for host in hosts if not runs(host)), None):
                raise Unavailable(
                    f"The daemon of {ended.name} ended instead of starting. It said:\n"
                    f"{self._last_words(ended)}"
                )
            if time.monotonic() > deadline:
                late = next(host for host in hosts if host.name not in ready)
                raise Timeout(
                    f"After {wait:g} s there were {len(ready & names)} of {len(names)} hosts"
                    f" ready. {late.name}, which was not, said:\n{self._last_words(late)}"
                )
            time.sleep(_LOOK)
        # Of one that was killed a thread may have been on its way out when its end was noticed.
        processes.reap()

    def _last_words(self, host: Host) -> str:
        for name in ("output", "log"):
            path = self._directory / host.name / name
            if path.exists() and (text := path.read_text(errors="replace").strip()):
                return "\n".join(f"  {line}" for line in text.splitlines()[-_LAST_WORDS:])
        return "  nothing"


def identity_of(host: Host) -> Identity | None:
    """The process that the host's daemon is, or was; None before the first start."""
    return Identity(host.pid, host.began) if host.pid and host.began is not None else None


def runs(host: Host) -> bool:
    """Whether the host's daemon runs."""
    identity = identity_of(host)
    if identity is None:
        return False
    alive = processes.is_alive(identity)
    if not alive:
        processes.reap()
    return alive


def _environment() -> dict[str, str]:
    """Ours, less what speaks to the command line."""
    return {k: v for k, v in os.environ.items() if not k.startswith("SYNDICATE_") or k in _PASSED}
