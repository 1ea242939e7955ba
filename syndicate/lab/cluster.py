"""A whole cluster on one machine: every host a network namespace that runs a real daemon.

Everything is synchronous and needs root. One process at a time works on a lab, by a lock in its
directory; whoever dies in the midst of it leaves a lab that the next `Lab.up` or `Lab.down`
takes for what it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.errors import Conflict, Corrupt, Invalid, NotFound, Timeout, Unavailable
from syndicate.lab import ground, leftovers, neighbours, network, processes, state
from syndicate.lab.crew import Crew, identity_of, runs
from syndicate.lab.daemons import IDaemons, RealDaemons
from syndicate.lab.layout import MOST_VOLUNTEERS, lay_out
from syndicate.lab.lock import exclusive, whole_machine
from syndicate.lab.rebooting import reboot
from syndicate.lab.state import Description, Host


@attrs.frozen
class HostStatus:
    """How a host is now."""

    host: Host
    runs: bool
    #: Whether the manager has it; of the manager itself, whether it answers.
    ready: bool


def _silent(text: str) -> None:
    pass


class Lab:
    """One lab, there or not yet.

    :param name: under which its user knows it.
    :param directory: where it keeps its files, instead of the user's directory of labs.
    :param say: is told, in a sentence, of what takes time or is surprising.
    :param daemons: what is to run on the hosts.
    """

    def __init__(
        self,
        name: str = state.DEFAULT_NAME,
        directory: Path | None = None,
        *,
        say: Callable[[str], None] = _silent,
        daemons: IDaemons | None = None,
    ) -> None:
        default = state.lab_directory(name)  # checks the name
        self.name = name
        self.directory = Path(os.path.realpath(directory or default))
        self._say = say
        self._daemons = daemons or RealDaemons()
        self._crew = Crew(self.directory, self._daemons)

    # -- what there is

    @property
    def found(self) -> Description | None:
        """What the lab has written down; None when there is none."""
        return state.read(self.directory)

    @property
    def description(self) -> Description:
        """What the lab has written down.

        :raises NotFound: there is no such lab, or it is not up.
        """
        found = self.found
        if found is None:
            raise NotFound(f"There is no lab {self.name!r}. Bring it up: {self._command('up')}")
        if found.stage != "up" or found.boot != state.this_boot():
            raise NotFound(
                f"The lab {self.name!r} is not up, only its files are there."
                f" Bring it up again: {self._command('up')}"
            )
        return found

    @property
    def url(self) -> str:
        """Where the manager answers."""
        return self.description.url

    @property
    def token(self) -> str:
        """The secret of a member of staff."""
        return Path(self.description.token_file).read_text("ascii").strip()

    @property
    def authority(self) -> Path:
        """The certificate that the manager's is signed with."""
        return Path(self.description.authority)

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts by name."""
        return self.description.hosts

    def host(self, name: str) -> Host:
        """A host by name or address.

        :raises NotFound: there is none such.
        """
        hosts = self.hosts
        for host in hosts.values():
            if name in (host.name, host.address):
                return host
        raise NotFound(f"The lab {self.name!r} has no host {name!r}; it has: {', '.join(hosts)}.")

    def log(self, name: str) -> Path:
        """Where a host's daemon logs."""
        return self.directory / self.host(name).name / "log"

    def status(self) -> list[HostStatus]:
        """How each host is now."""
        description = self.description
        ready = self._daemons.ready(description)
        return [
            HostStatus(host, runs(host), host.name in ready and runs(host))
            for host in description.hosts.values()
        ]

    # -- up and down

    def up(
        self,
        volunteers: int = 5,
        net: str | None = None,
        wait: float = 60.0,
        manager_on: str | None = None,
    ) -> None:
        """Bring the lab up and wait until all volunteers have registered.

        A lab that is up already is left as it is if it is the one asked for; what one that ended
        badly has left is repaired.

        :param net: its network; None for the first that is free.
        :param wait: seconds.
        :param manager_on: the volunteer whose host the manager shares, as on a site that has no
            machine to spare for it; None for a host of its own.
        :raises Conflict: a lab of that name is up with other hosts, or the network is in use.
        :raises Timeout: the volunteers did not register in time; the lab was taken down.
        """
        if not 1 <= volunteers <= MOST_VOLUNTEERS:
            raise Invalid(f"A lab has 1 to {MOST_VOLUNTEERS} volunteers, not {volunteers}.")
        _need_commands()
        ground.make(self.directory)
        with self._lock():
            if self._is_up_already(volunteers, net, manager_on):
                return
            ground.clear_away(self.directory, keep=True)
            self._build(volunteers, net, wait, manager_on)

    def _is_up_already(self, volunteers: int, net: str | None, manager_on: str | None) -> bool:
        with contextlib.suppress(NotFound, Corrupt):
            description = self.description
            lame = [host.name for host in description.hosts.values() if not runs(host)]
            if lame:
                self._say(f"Of the lab {self.name!r} ended: {', '.join(lame)}; it starts anew.")
                return False
            same = len(description.volunteers) == volunteers and net in (None, description.net)
            if not same or description.manager_on != manager_on:
                where = f", its manager on {found}" if (found := description.manager_on) else ""
                raise Conflict(
                    f"The lab {self.name!r} is up with {len(description.volunteers)} volunteers"
                    f" in {description.net}{where}. End it first: {self._command('down')}"
                )
            self._say(f"The lab {self.name!r} is up already.")
            return True
        return False

    def _build(self, volunteers: int, net: str | None, wait: float, manager_on: str | None) -> None:
        try:
            description = self._claim(volunteers, net, manager_on)
            hosts = list(description.hosts.values())
            self._crew.start(hosts)
            state.write(self.directory, description)
            self._crew.await_ready(description, hosts, wait)
            description.stage = "up"
            state.write(self.directory, description)
        except BaseException:
            # Whatever it was, Ctrl-C too: nothing half-built is left.
            ground.clear_away(self.directory, keep=False)
            ground.remove(self.directory)
            raise

    def _claim(self, volunteers: int, net: str | None, manager_on: str | None) -> Description:
        """Take number and network, and write down whose they are before anything else is made."""
        with whole_machine():
            leftovers.sweep_orphans(self._say)
            claim, subnet = network.claim(self.directory, net)
            description = lay_out(
                self.name, self.directory, claim.index, subnet, volunteers, manager_on
            )
            state.write(self.directory, description)
            found = description.hosts.values()
            hosts = list(dict.fromkeys((host.namespace, host.address) for host in found))
            neighbours.make_room(leftovers.count_namespaces() + len(hosts))
        # Both take as long, and wait for other programs or for the disk half of it.
        with ThreadPoolExecutor(1) as aside:
            building = aside.submit(network.build, claim, subnet, hosts)
            self._daemons.furnish(self.directory, description)
            building.result()
        return description

    def down(self, *, keep_state: bool = False) -> bool:
        """End everything of the lab, whatever state it is in, and wait until it is gone.

        :param keep_state: keep the files, so that the next `up` finds the jobs of this time.
        :returns: whether there was anything.
        """
        if not self.directory.exists() and not leftovers.claims_of(self.directory):
            return False
        ground.make(self.directory)
        with self._lock():
            ground.clear_away(self.directory, keep=keep_state)
            if not keep_state:
                ground.remove(self.directory)
        return True

    # -- single hosts

    def exec(self, name: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command on a host.

        :param options: those of `subprocess.Popen`.
        """
        return subprocess.Popen(self.exec_command(name, argv), **options)

    def exec_command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The words that run a command on a host."""
        if not argv:
            raise Invalid("Say what is to be run there.")
        return processes.in_namespace(self.host(name).namespace, argv)

    def kill(self, name: str, number: int = signal.SIGKILL, wait: float = 10.0) -> None:
        """Send a signal to a host's daemon, and wait for its end if it is a deadly one.

        :raises Conflict: it does not run.
        :raises Timeout: it has not ended in so many seconds.
        """
        host = self.host(name)
        identity = identity_of(host)
        if identity is None or not processes.send(identity, number):
            raise Conflict(f"The daemon of {host.name} does not run.")
        deadly = number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
        if deadly and not processes.await_end(identity, wait):
            raise Timeout(f"The daemon of {host.name} has not ended after {wait:g} s.")

    def start(self, name: str, wait: float = 30.0) -> None:
        """Start a host's daemon that has ended, and wait until it is ready.

        :raises Conflict: it runs.
        """
        with self._lock():
            description, host = self._begin(name)
            self._crew.await_ready(description, [host], wait)

    def launch(self, name: str) -> None:
        """Start a host's daemon that has ended, and wait for nothing: a supervisor's part.

        :raises Conflict: it runs.
        """
        with self._lock():
            self._begin(name)

    def _begin(self, name: str) -> tuple[Description, Host]:
        description = self.description
        host = description.hosts[self.host(name).name]
        if runs(host):
            raise Conflict(f"The daemon of {host.name} runs already.")
        self._crew.start([host])
        state.write(self.directory, description)
        return description, host

    def reboot(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Kill all that runs on a host and make it anew, as it is after a restart of a machine:
        no process, mount, loop device or control group is there any more, the network is another
        one with the same address, and the files are as they were. Its daemon is not started.

        :param meanwhile: called when nothing runs there.
        """
        with self._lock():
            reboot(self.directory, self.description, self.host(name))
            meanwhile()

    def restart(self, name: str, wait: float = 30.0) -> None:
        """End a host's daemon in order, if it runs, and start it again."""
        if runs(self.host(name)):
            self.kill(name, signal.SIGTERM)
        self.start(name, wait)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with exclusive(self.directory, f"the lab {self.name!r}", self._say):
            yield

    def _command(self, verb: str) -> str:
        name = "" if self.name == state.DEFAULT_NAME else f" --name {self.name}"
        return f"syndicate lab {verb}{name}"


def missing_commands() -> list[str]:
    """Commands that a lab needs and that are not on the path."""
    return [word for word in ("ip", "nsenter") if shutil.which(word) is None]


def _need_commands() -> None:
    missing = missing_commands()
    if missing:
        raise Unavailable(
            f"A lab needs the commands {' and '.join(missing)}, which are not on the path."
            " On Debian they are in the packages iproute2 and util-linux."
        )
