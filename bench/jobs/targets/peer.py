"""One machine: the first slave sends to the master all the time, which tells when it heard it last.

All machines of a lab have the same monotonic clock, since they are one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

PORT = 4460
#: Seconds from one datagram to the next: as exact as the last one through can be known.
PACE = 0.001
#: Processes of the tree that is killed, each in a session of its own.
OTHERS = 5


def hear(state: dict[str, float]) -> None:
    """Note when a datagram came last."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inward:
        inward.bind(("", PORT))
        while True:
            inward.recv(100)
            state["last"] = time.monotonic()


def master() -> None:
    """Answer each line with the time of the last datagram."""
    state = {"last": 0.0}
    threading.Thread(target=hear, args=(state,), daemon=True).start()
    with socket.create_server(("", PORT)) as listener:
        while True:
            link, _ = listener.accept()
            with link, link.makefile("rb") as lines:
                for _ in lines:
                    link.sendall(b"%.6f\n" % state["last"])


def slave(address: str) -> None:
    """Have a tree of processes, and send for ever if this is the slave that is watched."""
    for _ in range(OTHERS):
        subprocess.Popen(["sleep", "100000"], start_new_session=True)
    if os.environ.get("SYNDICATE_MACHINE") != "slave[0]":
        time.sleep(100000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        while True:
            with contextlib.suppress(OSError):
                out.sendto(b"here", (address, PORT))
            time.sleep(PACE)


if __name__ == "__main__":
    master() if sys.argv[1] == "master" else slave(sys.argv[2])
