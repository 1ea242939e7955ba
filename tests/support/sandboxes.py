"""Means to use sandboxes shortly."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import deferLater

from syndicate.domain.job import Limits
from syndicate.sandbox import hierarchies
from syndicate.sandbox.interface import Exit, Plot
from syndicate.sandbox.memory import MemoryRun
from tests.support.tarballs import source

#: A number of this test run's own: of seconds to sleep, and to tell its user ids from others'. The
#: daemons that a test starts inherit it.
NAP = os.environ.setdefault("SYNDICATE_TEST_NAP", str(1_000_000 + os.getpid()))
MAKEFILE = "master:\n\techo made\nslave:\n"


def uids(offset: int) -> tuple[int, int]:
    """Ten user ids that no other test, and no other test run on this host, uses."""
    first = 1_000_000 + int(NAP) % 1_000_000 * 100 + offset
    return first, first + 9


def the_reactor() -> Any:
    """The one that pytest-twisted has installed, which is why it is imported late."""
    from twisted.internet import reactor

    return reactor


@attrs.frozen
class Program:
    """A program in a language that both a shell and a function of ours can run."""

    steps: tuple[tuple[str, Any], ...]

    @property
    def script(self) -> str:
        """For the shell."""
        return "\n".join(_in_shell(verb, value) for verb, value in self.steps)

    def act(self, run: MemoryRun) -> None:
        """In memory."""
        for index, (verb, value) in enumerate(self.steps):
            if verb == "print":
                run.print(value.encode())
            elif verb == "complain":
                run.print(value.encode(), 2)
            elif verb == "write":
                run.disk[value] = b"written\n"
            elif verb == "list":
                run.print("".join(f"{path}\n" for path in run.disk if path == value).encode())
            elif verb == "flood":
                run.print(bytes(value))
            elif verb == "exit":
                run.exit(value)
            elif verb == "sleep":
                rest = Program(self.steps[index + 1 :])
                run.later(value, partial(rest.act, run))
                return
        run.exit(0)


def _in_shell(verb: str, value: Any) -> str:
    return {
        "print": f"printf %s {shlex.quote(str(value))}",
        "complain": f"printf %s {shlex.quote(str(value))} >&2",
        "write": f"mkdir -p $(dirname {value}) && echo written > {value}",
        "list": f"test ! -e {value} || echo {value}",
        "flood": f"head -c {value} /dev/zero",
        "exit": f"exit {value}",
        "sleep": f"sleep {value}",
    }[verb]


@attrs.define
class Kit:
    """A sandbox and the means to use it shortly."""

    sandbox: Any
    directory: Path
    programs: dict[str, Program] = attrs.field(factory=dict)
    printed: dict[int, bytes] = attrs.field(factory=lambda: {1: b"", 2: b""})

    def plot(self, key: str = "1.1.master", **values: Any) -> Plot:
        """A plot of the usual source."""
        place = self.directory / "source.tar.gz"
        values.setdefault("sha256", source(place, {"Makefile": MAKEFILE, "kept.txt": "kept\n"}))
        values.setdefault("source", place)
        values.setdefault("limits", Limits(disk=16 << 20))
        return Plot(key, "master", (("master", "10.9.8.7"),), **values)

    async def prepare(self, key: str = "1.1.master", **values: Any) -> Any:
        """An enclosure of the usual source."""
        return await self.sandbox.prepare(self.plot(key, **values))

    async def start(self, enclosure: Any, *steps: tuple[str, Any], **env: str) -> Any:
        """Start a program."""
        program = Program(steps)
        self.programs[program.script] = program
        return await enclosure.start(["sh", "-c", program.script], env, self.take)

    async def run(self, enclosure: Any, *steps: tuple[str, Any]) -> Exit:
        """Run a program to its end."""
        run = await self.start(enclosure, *steps)
        ended: Exit = await run.wait()
        return ended

    def take(self, stream: int, data: bytes) -> None:
        """Keep what is printed."""
        self.printed[stream] += data

    async def shell(self, enclosure: Any, script: str, **env: str) -> str:
        """What a script of real commands prints."""
        self.printed = {1: b"", 2: b""}
        run = await enclosure.start(["sh", "-c", script], env, self.take)
        await run.wait()
        return (self.printed[1] + self.printed[2]).decode()


def sleepers() -> list[str]:
    """The processes of this test run that sleep for `NAP` seconds, wherever they are."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", NAP.encode()]:
                found.append(name)
    return found


def only_first_version(patch: Callable[[str, object], object]) -> None:
    """Hide the control groups of the second version from the sandboxes to come.

    :param patch: sets an attribute of `syndicate.sandbox.hierarchies`.
    """
    first = [mount for mount in hierarchies.mounts() if mount.version == 1]
    patch("mounts", lambda: iter(first))


async def until(what: Callable[[], object]) -> None:
    """Wait for what is about to be."""
    while not what():
        await deferLater(the_reactor(), 0.01)
