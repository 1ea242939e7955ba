"""What faults cost without Syndicate: ``python -m bench.by_hand nft|kill|start RUNS [SOURCE]``.

In a process of its own, which has the lost children of those it kills, and for ``nft`` a network of
its own. Prints milliseconds as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

import psutil

from syndicate.network.libnftables import Nftables

PR_SET_CHILD_SUBREAPER = 36
#: make, the slave, and the processes that it starts.
TREE = 7

TABLE = """table inet floor {
 set peers4 { type ipv4_addr; flags interval; }
 chain out { type filter hook output priority -310; ip daddr @peers4 drop; }
}"""


def nft(runs: int) -> list[float]:
    """Adding one element to a set that rules look at."""
    filters = Nftables()
    filters.run(TABLE)
    times = []
    for run in range(runs):
        began = time.perf_counter()
        filters.run(f"add element inet floor peers4 {{ 10.9.{run // 250}.{run % 250} }}")
        times.append((time.perf_counter() - began) * 1000)
    filters.close()
    return times


def _start(source: str) -> tuple[subprocess.Popen[bytes], float]:
    """The slave of the benchmark; gives the time until its first output, too."""
    began = time.perf_counter()
    process = subprocess.Popen(
        ["make", "--silent", "--directory", source, "MASTER=127.0.0.1", "slave"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process, (time.perf_counter() - began) * 1000


def _end(process: subprocess.Popen[bytes]) -> float:
    """Kill it and all that it has started, and reap them; gives the time that it takes."""
    ours = psutil.Process()
    while len(ours.children(recursive=True)) < TREE:
        time.sleep(0.002)
    tree = [each.pid for each in ours.children(recursive=True)]
    began = time.perf_counter()
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    took = (time.perf_counter() - began) * 1000
    process.returncode = -signal.SIGKILL
    if process.stdout is not None:
        process.stdout.close()
    return took


def main() -> None:
    """Measure one of them."""
    what, runs = sys.argv[1], int(sys.argv[2])
    if what == "nft":
        print(json.dumps(nft(runs)))
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started, killed = [], []
    for _ in range(runs):
        process, took = _start(sys.argv[3])
        started.append(took)
        killed.append(_end(process))
    print(json.dumps(started if what == "start" else killed))


if __name__ == "__main__":
    main()
