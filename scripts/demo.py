"""`make demo`: a cluster on this machine, a real job on it, and nothing left behind.

Brings up a lab of a manager and six volunteers, each a network namespace with the real daemon,
and works on it by the command line: ``examples/mapreduce`` on all six, with its result and how each
machine ended, then ``examples/kvstore`` while ``examples/kvbench`` hurts its machines, with the
report of what was seen. Then it takes the lab down, and looks whether anything is left. What a demo
that was killed has left is taken away by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from syndicate.domain.errors import SyndicateError
from syndicate.lab import Lab
from syndicate.lab.state import Description
from syndicate.lab.traces import find_traces

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".demo"
EXAMPLES = ROOT / "examples"
COMMAND = Path(sys.executable).parent / "syndicate"
VOLUNTEERS = 6

#: Seconds that each phase of the benchmark lasts here; by itself it takes more time for each.
PHASE = 0.3

#: Those that ask a program to stop.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Exit codes beside those of the job, as ``syndicate`` has them.
NOT_ALLOWED, TRY_LATER, INTERRUPTED = 4, 75, 130

console = Console(highlight=False)


def main() -> int:
    """Run the demo; its exit code is that of the job, or 1 if something was left."""
    if os.geteuid() != 0:
        console.print(
            "The demo needs root, for namespaces and chroots: make demo asks sudo for it."
        )
        return NOT_ALLOWED
    for number in STOPS:
        signal.signal(number, _interrupt)
    with _alone() as alone:
        if not alone:
            console.print("Another demo runs in this checkout; wait for its end.")
            return TRY_LATER
        return _demo()


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other demo of this checkout runs; of one that was killed the kernel knows."""
    with open(__file__, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _demo() -> int:
    began = time.monotonic()
    lab = Lab("demo", STATE, say=lambda text: console.print(f"[dim]{text}[/dim]"))
    try:
        if lab.down():
            console.print("A former demo was cut short; what it left was taken away.")
        code = _show(lab)
    except KeyboardInterrupt:
        console.print("\nInterrupted; the lab is taken down.")
        code = INTERRUPTED
    except SyndicateError as error:
        console.print(f"The demo failed: {error}", style="red", markup=False)
        code = 1
    finally:
        # From here on it is cleaned up, however often somebody asks to stop.
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        left = _take_down(lab)
    console.print(f"The demo took {time.monotonic() - began:.1f} s.")
    return code or bool(left)


def _take_down(lab: Lab) -> list[str]:
    """Take the lab down; gives what is left of it."""
    _title("Taking the lab down")
    description: Description | None = None
    try:
        description = lab.found
        lab.down()
        left = find_traces(lab.directory, description)
    except SyndicateError as error:
        left = [str(error)]
    for line in left:
        console.print(f"left behind: {line}", style="red", markup=False)
    if not left:
        console.print("Nothing is left: no process, mount, namespace, interface or file.")
    return left


def _show(lab: Lab) -> int:
    _title(f"A cluster on this machine: one manager, {VOLUNTEERS} volunteers")
    began = time.monotonic()
    lab.up(VOLUNTEERS)
    console.print(f"up in {time.monotonic() - began:.1f} s; every host is a network namespace")
    _run(lab, "volunteers")
    return _show_work(lab) or _show_faults(lab)


def _show_work(lab: Lab) -> int:
    """A job that does something, and where what it found is."""
    _title(f"A job: examples/mapreduce on {VOLUNTEERS} machines")
    code = _run(lab, "submit", str(EXAMPLES / "mapreduce"), "-n", str(VOLUNTEERS), "--follow")
    _title("How each machine ended")
    _run(lab, "status", "latest")
    with _fetched(lab) as folder:
        for path in folder.glob("**/result.json"):
            if path.parent == folder:
                continue  # Syndicate's own, of the whole job
            _title("What the master wrote to result.json, fetched")
            for key, value in json.loads(path.read_text()).items():
                text = json.dumps(value)
                short = text if len(text) < 60 else f"{text[:56]} …"
                console.print(f"  {key:15} {short}", markup=False)
    return code


def _show_faults(lab: Lab) -> int:
    """A benchmark that hurts its job, and the record of it."""
    _title("Faults: examples/kvbench hurts examples/kvstore")
    console.print("Two clients write to a store and read from it, while its machines are killed,")
    console.print("revived with and without their disks, cut from the others, and reconnected.")
    source = str(EXAMPLES / "kvstore")
    code = _run(lab, "submit", source, "--set", f"env.PHASE={PHASE}", "--follow")
    _title("What was done, and what the clients saw of it")
    _run(lab, "report", "latest")
    _title("The record of the job, fetched")
    with _fetched(lab) as folder:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and (size := path.stat().st_size):
                console.print(f"  {path.relative_to(folder)!s:24} {size:8,} bytes")
    return code


@contextmanager
def _fetched(lab: Lab) -> Iterator[Path]:
    """The folder of the latest job, as long as it is looked at."""
    with tempfile.TemporaryDirectory(dir=STATE) as directory:
        _run(lab, "fetch", "latest", "-d", directory)
        yield Path(directory)


def _title(text: str) -> None:
    console.print()
    console.rule(f"[bold]{text}", align="left")


def _run(lab: Lab, *words: str) -> int:
    """Run ``syndicate`` against the lab, as a user would."""
    description = lab.description
    shown = " ".join(word.replace(f"{ROOT}/", "") for word in words)
    console.print(f"[bold green]$[/bold green] syndicate {shown}")
    environment = {
        **os.environ,
        "SYNDICATE_URL": description.url,
        "SYNDICATE_TOKEN_FILE": description.token_file,
        "SYNDICATE_AUTHORITY": description.authority,
    }
    return subprocess.run([COMMAND, *words], env=environment, check=False).returncode


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
