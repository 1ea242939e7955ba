"""A lab of real daemons for the system tests, used through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from syndicate.cli.connection import Connection
from syndicate.lab import Lab
from tests.support.traces import keeping, kernel_things

JOBS = Path(__file__).parent.parent / "system" / "jobs"
COMMAND = Path(sys.executable).parent / "syndicate"


@attrs.frozen
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, which must be JSON."""
        return json.loads(self.out)


@attrs.define(eq=False)
class Running:
    """A lab that is up, and how its users reach it."""

    lab: Lab
    directory: Path
    _jobs: int = 0

    def environment(self, **changes: str) -> dict[str, str]:
        """For commands that are to find this lab."""
        description = self.lab.description
        return {
            **os.environ,
            "SYNDICATE_URL": description.url,
            "SYNDICATE_TOKEN_FILE": description.token_file,
            "SYNDICATE_AUTHORITY": description.authority,
            **changes,
        }

    def run(self, *words: str, timeout: float = 60.0, **changes: str) -> Ran:
        """Run ``syndicate`` with these words."""
        done = subprocess.run(
            [COMMAND, *words],
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def get(self, path: str) -> Any:
        """What the manager's API answers: for what is asked again and again, since a command
        takes half a second to begin.
        """
        description = self.lab.description

        def token() -> str:
            return Path(description.token_file).read_text().strip()

        with closing(Connection(description.url, token, description.authority)) as connection:
            return connection.get(path)

    def submit(self, source: Path, machines: int, *words: str) -> int:
        """Submit a source; gives the job's number."""
        done = self.run("submit", str(source), "-n", str(machines), "-o", "id", *words)
        assert done.code == 0, done
        return int(done.out)

    def source(self, makefile: str, **files: str) -> Path:
        """A directory with a Makefile and other files."""
        self._jobs += 1
        directory = self.directory / f"source-{self._jobs}"
        directory.mkdir()
        (directory / "Makefile").write_text(makefile)
        for name, text in files.items():
            (directory / name).write_text(text)
        return directory

    def job(self, number: int) -> dict[str, Any]:
        """The job as the manager tells it."""
        return dict(self.get(f"/v1/jobs/{number}")["job"])

    def wait(self, number: int, until: str = "finished", timeout: float = 60.0) -> dict[str, Any]:
        """Wait for a job; gives it as it is then."""
        self.run("wait", str(number), "--until", until, "--timeout", f"{timeout:g}s")
        return self.job(number)

    def volunteers(self) -> dict[str, dict[str, Any]]:
        """The volunteers by name."""
        found = self.get("/v1/volunteers")["volunteers"]
        return {volunteer["volunteer"]: volunteer for volunteer in found}

    def all_free(self) -> bool:
        """Whether every volunteer is free."""
        return all(v["state"] == "free" for v in self.volunteers().values())


def keeping_daemons(lab: Lab) -> AbstractContextManager[None]:
    """Let a lab's daemons stay until the block is left."""
    return keeping(lambda: [host.pid for host in lab.hosts.values() if host.pid])


@contextmanager
def up(
    directory: Path, volunteers: int, manager_on: str | None = None, **options: Any
) -> Iterator[Running]:
    """A lab that is up within; what its daemons run is nobody's leftovers meanwhile.

    :param options: those of `Lab`.
    """
    directory.chmod(0o755)  # volunteers' users are to find their way in
    lab = Lab(f"test{directory.name[-1]}", directory / "state", **options)
    lab.up(volunteers, manager_on=manager_on)

    try:
        with keeping_daemons(lab):
            _settle()
            yield Running(lab, directory)
    finally:
        lab.down()


def _settle() -> None:
    """Wait until the volunteers have made what they keep ready, which is no test's leftover."""
    before, deadline = None, time.monotonic() + 10
    while (now := kernel_things()) != before and time.monotonic() < deadline:
        before = now
        time.sleep(0.5)


def eventually(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What ``true`` gives once it gives something true; fails when it never does."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return found


def processes_of(uids: range) -> list[str]:
    """The processes that run as one of these users, as ``pid name``."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            lines = (entry / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        told = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if int(told["Uid"].split()[0]) in uids and not told["State"].startswith("Z"):
            found.append(f"{entry.name} {told['Name']}")
    return found
