"""`make demo`: a cluster on this machine, a real job on it, and nothing left behind.

Brings up a lab of a manager and six volunteers, each a network namespace with the real daemon,
runs ``examples/mapreduce`` on all six by the command line, shows the result and how each machine
ended, takes the lab down, and looks whether anything is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from syndicate.domain.errors import SyndicateError
from syndicate.lab import Lab

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".demo"
COMMAND = Path(sys.executable).parent / "syndicate"
VOLUNTEERS = 6

#: What the names of the lab's namespaces and interfaces begin with.
NAMES: list[str] = []

console = Console(highlight=False)


def main() -> int:
    """Run the demo; its exit code is that of the job, or 1 if something was left."""
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    lab = Lab("demo", STATE, say=lambda text: console.print(f"[dim]{text}[/dim]"))
    try:
        code = _show(lab)
    except KeyboardInterrupt:
        console.print("\nInterrupted; the lab is taken down.")
        code = 130
    except SyndicateError as error:
        console.print(f"[red]The demo failed:[/red] {error}")
        code = 1
    finally:
        _title("Taking the lab down")
        lab.down()
    left = _leftovers(lab)
    for line in left:
        console.print(f"[red]left behind:[/red] {line}")
    if not left:
        console.print("Nothing is left: no process, mount, namespace, interface or file.")
    console.print(f"The demo took {time.monotonic() - began:.1f} s.")
    return code or bool(left)


def _show(lab: Lab) -> int:
    _title(f"A cluster on this machine: one manager, {VOLUNTEERS} volunteers")
    began = time.monotonic()
    lab.up(VOLUNTEERS)
    NAMES.append(f"syn-{lab.description.index}")
    console.print(f"up in {time.monotonic() - began:.1f} s; every host is a network namespace")
    _run(lab, "volunteers")
    _title(f"examples/mapreduce on {VOLUNTEERS} machines")
    source = str(ROOT / "examples" / "mapreduce")
    code = _run(lab, "submit", source, "-n", str(VOLUNTEERS), "--follow")
    _title("How each machine ended")
    _run(lab, "status", "latest")
    with tempfile.TemporaryDirectory(dir=STATE) as directory:
        _run(lab, "fetch", "latest", "-d", directory)
        results = sorted(Path(directory).glob("**/result.json"))
        if results:
            _title("What the master wrote to result.json, fetched")
            for key, value in json.loads(results[0].read_text()).items():
                text = json.dumps(value)
                short = text if len(text) < 60 else f"{text[:56]} …"
                console.print(f"  {key:15} {short}", markup=False)
    return code


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


def _leftovers(lab: Lab) -> list[str]:
    """What of the lab can still be seen on this machine."""
    state = str(lab.directory)
    left = [f"the directory {state}"] if lab.directory.exists() else []
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"the mount {line.split()[4]}" for line in mounts if state in line]
    for place in ("/run/netns", "/sys/class/net"):
        there = Path(place)
        names = [path.name for path in there.iterdir()] if there.exists() else []
        left += [
            f"{place}/{name}"
            for name in names
            for mine in NAMES
            if f"{name}-".startswith(f"{mine}-")
        ]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state in words and process.name != str(os.getpid()):
            left.append(f"process {process.name}: {words}")
    return left


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
