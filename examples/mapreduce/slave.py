"""A slave: does the tasks that its master gives it, until it is told to stop.

Exit status: 0 when told to stop, 1 when the master could not be reached, or was lost and did not
come back.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from typing import Any

import counting
import talk

#: Seconds to go on trying: a slave may be started before its master listens.
PATIENCE = 30.0
#: Seconds without a word of the master until it is taken for lost: it has to wait for the others.
SILENCE = 90.0


def connect(address: str, port: int, patience: float) -> socket.socket:
    """Connect to the master, again and again while it does not answer.

    :raises talk.LinkBroken: it did not for ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            link = socket.create_connection((address, port), timeout=2)
        except OSError as error:
            if time.monotonic() > deadline:
                message = f"no master at {address}:{port} for {patience:.0f} s: {error}"
                raise talk.LinkBroken(message) from error
            time.sleep(0.05)
        else:
            link.settimeout(SILENCE)
            return link


def do(task: dict[str, Any]) -> dict[str, Any]:
    """Compute one task's result."""
    if task["do"] == "map":
        parts = counting.map_files(task["files"], task["partitions"])
        return {"parts": parts, "words": sum(counting.totals(part)["words"] for part in parts)}
    return {"index": counting.reduce_parts(task["parts"])}


def serve(link: socket.socket) -> int:
    """Do tasks until the master says stop; returns how many."""
    done = 0
    while True:
        task = talk.receive(link)
        if task["do"] == "stop":
            return done
        talk.send(link, do(task))
        done += 1


def main() -> int:
    """Run the slave; returns its exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("master", help="the master's address")
    given = options.parse_args()
    broken = False
    while True:
        try:
            with connect(given.master, given.port, PATIENCE) as link:
                me = talk.describe_me(link.getsockname()[0])
                talk.say(f"I am {talk.say_who(me)}")
                talk.send(link, me)
                done = serve(link)
        except talk.LinkBroken as error:
            print(f"slave: {error}", file=sys.stderr)
            if broken:
                return 1
            # One more try: a cut link may be whole again.
            broken = True
        else:
            talk.say(f"{done} tasks done")
            return 0


if __name__ == "__main__":
    sys.exit(main())
