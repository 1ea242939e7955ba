"""Tortures with a schedule made for a purpose, and daemons that were altered for it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from syndicate.lab import Lab
from syndicate.lab.disks import Disks
from syndicate.torture import telling
from syndicate.torture.daemons import OnSmallDisks
from syndicate.torture.run import Result, Torture
from syndicate.torture.schedule import Act, Asking, Manner, Schedule, Task
from tests.support.altered import BY_TURNS, STEPS, Altered, Deaths

#: The most seconds that the deaths of a kill matrix may take, for each of them.
FOR_EACH = 30.0


def schedule(
    seconds: float,
    volunteers: int,
    acts: Sequence[Act] = (),
    *,
    pace: float = 0.5,
    lasts: float = 1.0,
    manners: Sequence[Manner] = (Manner.QUIET,),
) -> Schedule:
    """Small jobs in a row, of one machine and of two by turns."""
    names = tuple(f"v{n + 1}" for n in range(volunteers))
    tasks = tuple(
        Task(
            n + 1,
            round(n * pace, 3),
            manners[n % len(manners)],
            machines=1 + n % min(2, volunteers),
            clients=0,
            lasts=lasts,
            lines=20,
            asking=list(Asking)[n % len(Asking)],
        )
        for n in range(int(seconds / pace))
    )
    return Schedule("made for a purpose", seconds, names, tuple(acts), tasks)


def torture(
    directory: Path,
    plan: Schedule,
    words: dict[str, str],
    enough: Callable[[], bool] = lambda: False,
) -> Result:
    """Run one.

    :param directory: for the lab.
    :param words: see `Altered`.
    :param enough: asked again and again once the lab is up; ends the blows before their time.
    """
    disks = Disks(directory)
    daemons = Altered(OnSmallDisks(disks), words)
    lab = Lab(f"t{abs(hash(directory)) % 10**8}", directory, daemons=daemons)
    found = Torture(lab, disks, plan, lambda text: print(text, flush=True), mortal=True, tidy=10.0)
    found.enough = enough
    try:
        return found.run()
    finally:
        lab.down()


def die(directory: Path, step: str, times: int, *without: str) -> Result:
    """Let the manager die so many times at a step, under load.

    :param without: safeguards that are taken from it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    deaths = Deaths(directory / f"deaths-{step}")
    deaths.file.write_bytes(b"")
    armed: list[bool] = []

    def enough() -> bool:
        if not armed:  # the lab is up
            deaths.file.write_bytes(bytes(times))
            armed.append(True)
        return deaths.left == 0

    manners = (Manner.QUIET, Manner.KEEPS)
    plan = schedule(times * FOR_EACH, 3, pace=0.7, lasts=0.3, manners=manners)
    words = {"manager": ",".join((f"{step}={deaths.file}", *without))}
    result = torture(directory / f"lab-{step}", plan, words, enough)
    assert deaths.left == 0, f"not all deaths at {step!r} were died"
    return result


def main(arguments: Sequence[str]) -> int:
    """``python -m tests.support.tortures [--times N] DIRECTORY [STEP…]``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("directory", type=Path)
    parser.add_argument("steps", nargs="*", default=[each for each in STEPS if each != BY_TURNS])
    words = parser.parse_args(arguments)
    failed = False
    for step in words.steps:
        result = die(words.directory.resolve(), step, words.times)
        print(f"== {words.times} deaths at the step {step}")
        for line in telling.lines(result):
            print(line, flush=True)
        failed = failed or bool(result.violations)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
