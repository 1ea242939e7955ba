"""Hosts to try the network on: namespaces on a bridge that is in a namespace of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.fault import Links
from syndicate.lab.network import batch
from tests.support.whose import HOSTS

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parents[1]
#: Who the programs of jobs run as.
JOB = 20_777


class Failed(Exception):
    """What a guard answered with instead of a result; the code of the error comes first."""


@attrs.define(eq=False)
class Told:
    """A process that is told things by lines of JSON, and answers each."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, namespace: str, *argv: str, through: Sequence[str] = ()) -> Told:
        """Run a Python program in a network namespace, by way of a command that executes it."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", *through, sys.executable, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_REPOSITORY,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its number: nsenter replaces itself with the program."""
        return self.process.pid

    def send(self, verb: str, **words: Any) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, words]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the process ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, verb: str, **words: Any) -> Any:
        """Tell it something, and wait for the answer."""
        self.send(verb, **words)
        return self.answer()

    def kill(self) -> None:
        """End it as nothing else could be."""
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@attrs.define(eq=False)
class Guard(Told):
    """A daemon with a guard."""

    group: str = ""
    facts: dict[str, Any] = attrs.field(factory=dict)

    def do(self, verb: str, **words: Any) -> Any:
        """Have it do something; gives the result.

        :raises Failed: it answered with an error.
        """
        answer = self.ask(verb, **words)
        if "error" in answer:
            raise Failed(f"{answer['error']}: {answer['why']}")
        return answer["result"]

    def apply(self, links: Links, *, verify: bool = True) -> Any:
        """Put links in force, and have that proven."""
        self.do("apply", **attrs.asdict(links))
        return self.do("verify", **attrs.asdict(links)) if verify else None


@attrs.frozen
class Host:
    """One of them."""

    namespace: str
    address: str
    address6: str

    def talker(self, group: str = "-", uid: int = JOB) -> Told:
        """A program on it, of a job if a group is given."""
        return Told.start(self.namespace, "-I", "-S", str(_HERE / "talker.py"), group, str(uid))

    def daemon(self, state: Path, name: str, *through: str, match: str = "auto") -> Guard:
        """A daemon on it that has probed."""
        argv = ("-m", "tests.support.guard_daemon", str(state), name, match)
        guard = Guard(Told.start(self.namespace, *argv, through=through).process)
        guard.facts = guard.do("probe")
        guard.group = guard.facts["group"]
        return guard


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts, each with one address of each version, that reach each other."""
    prefix = HOSTS
    hub = f"{prefix}-hub"
    found = [
        Host(f"{prefix}-{number}", f"10.66.0.{number}", f"fd66::{number}")
        for number in range(1, count + 1)
    ]
    with ExitStack() as stack:
        for namespace in [hub, *(host.namespace for host in found)]:
            batch([f"netns add {namespace}"])
            stack.callback(batch, [f"netns del {namespace}"])
        batch(["link add br0 type bridge mcast_snooping 0", "link set br0 up"], hub)
        for number, host in enumerate(found, 1):
            batch(
                [
                    f"link add p{number} type veth peer name eth0 netns {host.namespace}",
                    f"link set p{number} master br0 up",
                ],
                hub,
            )
            batch(
                [
                    "link set lo up",
                    f"addr add {host.address}/24 brd + dev eth0",
                    f"addr add {host.address6}/64 dev eth0 nodad",
                    "link set eth0 up",
                ],
                host.namespace,
            )
            allow = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"
            subprocess.run(
                ["nsenter", f"--net=/run/netns/{host.namespace}", "sh", "-c", allow], check=True
            )
        yield found
