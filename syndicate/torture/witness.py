"""The program of a torture's jobs: it says who it is, that it lives, and lines known beforehand.

It runs in the sandbox with the standard library alone, and is read by the model, which knows what
it must have said: each line holds its number and a proof that can be made from the number, so
that neither a lost line nor a changed one goes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time

#: Seconds between two lines that say that it lives.
BEAT = 0.2
#: Lines of the file that is kept.
KEPT = 200
#: The file that is kept.
KEPT_NAME = "kept.txt"
#: How the program of a job that fails ends.
FAILED = 3
#: How it ends when the machine's own disk does not take its file.
NO_DISK = 75


def proof(task: int, machine: str, number: int) -> str:
    """What line ``number`` of a machine of a task must hold."""
    return hashlib.sha256(f"{task}/{machine}/{number}".encode()).hexdigest()[:24]


def kept(task: int, machine: str) -> str:
    """What a machine's file holds."""
    return "".join(f"{n} {proof(task, machine, n)}\n" for n in range(KEPT))


def main() -> int:
    """Run one machine; its task is told by the environment."""
    told = os.environ
    task, machine = int(told["TASK"]), told["SYNDICATE_MACHINE"]
    number = 0

    def say(what: str, more: str = "") -> None:
        nonlocal number
        mine = proof(task, machine, number)
        sys.stdout.write(f"W {number} {mine} {time.time():.6f} {what} {more}\n")
        number += 1

    facts = {
        "job": int(told["SYNDICATE_JOB"]),
        "attempt": int(told["SYNDICATE_ATTEMPT"]),
        "machine": machine,
        "address": told["SYNDICATE_ADDRESS"],
        "uid": os.getuid(),
    }
    say("start", json.dumps(facts))
    sys.stdout.flush()
    for _ in range(int(told["LINES"])):
        say("line", "x" * 60)
    sys.stdout.flush()
    code = FAILED if told["MANNER"] == "fails" and machine == "master" else 0
    if told["MANNER"] == "keeps":
        try:
            with open(KEPT_NAME, "w") as file:
                file.write(kept(task, machine))
        except OSError as error:
            say("disk", str(error))
            code = NO_DISK
    until = time.monotonic() + (1e9 if told["MANNER"] == "endless" else float(told["LASTS"]))
    while time.monotonic() < until:
        time.sleep(BEAT)
        say("beat")
        sys.stdout.flush()
    say("end", str(code))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
