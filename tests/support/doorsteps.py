"""A directory as a client's sandbox shows it: a door, and the kit beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import attrs

from syndicate.client.door import Door
from syndicate.client.kit import lay_out
from tests.support.handles import MACHINES, ScriptedHandle
from tests.support.sandboxes import the_reactor

EXAMPLES = Path(__file__).parents[2] / "examples/clients"

#: What the variables of make are on a client of the job behind the handle.
WORDS = (
    f"MASTER={MACHINES['master']}",
    f"SLAVES={MACHINES['slave[0]']},{MACHINES['slave[1]']}",
    "client",
)
#: What each example needs of the machine.
NEEDS = {"python": "make", "shell": "make", "c": "gcc", "go": "go"}

#: A client with Twisted that does as the examples do.
PROGRAM = """
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from syndicate.client.pb import connect


async def main(reactor):
    c = await connect(reactor)
    await c.kill(c.slaves[1])
    with c.timed("revive"):
        await c.revive(c.slaves[1], with_disk=False)
    await c.finish(notes="killed by PB")
    await c.close()


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


@attrs.define(eq=False)
class Doorstep:
    """A door that is open to one user, and what a client is told."""

    directory: Path
    handle: ScriptedHandle
    door: Door

    @classmethod
    async def at(cls, directory: Path, uid: int | None = None) -> Doorstep:
        """Open one; whoever calls this closes it."""
        _furnish(directory)
        handle = ScriptedHandle()
        door = Door(the_reactor(), directory, os.geteuid() if uid is None else uid, handle)
        await door.open()
        return cls(directory, handle, door)

    def environment(self, where: str | None = None) -> dict[str, str]:
        """The environment of ``make client``.

        :param where: the client sees the directory.
        """
        here = where or str(self.directory)
        return {
            "PATH": f"{here}/bin:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{here}/lib",
            "SYNDICATE_SOCKET": f"{here}/http",
            "SYNDICATE_MACHINE": "client[0]",
            "HOME": "/",
            "TMPDIR": "/tmp",
            "LANG": "C.UTF-8",
        }

    def was_hurt(self, notes: str) -> None:
        """The last slave was killed, then revived on an empty disk, and the client finished."""
        assert [(f["kind"], f["machines"]) for f in self.handle.done] == [
            ("kill", ["slave[1]"]),
            ("revive", ["slave[1]"]),
        ]
        assert [c[2] for c in self.handle.calls if c[0] == "fault"][1]["with_disk"] is False
        assert self.handle.result is not None
        assert self.handle.result["passed"] is True
        assert notes in self.handle.result["notes"]


def _furnish(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o711)
    lay_out(directory)


def copy_of(example: str, place: Path) -> Path:
    """An example in a folder where it may build what it likes."""
    shutil.copytree(EXAMPLES / example, place)
    return place


def run(
    words: list[str], cwd: Path, environment: dict[str, str], stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; to be used in a thread."""
    return subprocess.run(
        words,
        cwd=cwd,
        # What marks our processes, for whoever looks for those that were left behind.
        env={**environment, "SYNDICATE_TEST_RUN": os.environ["SYNDICATE_TEST_RUN"]},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
