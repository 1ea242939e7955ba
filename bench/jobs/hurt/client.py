"""Measures fault calls as a client sees them: by its own clock, from inside its sandbox."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import syndicate.client as sc

PORT = 4460
#: Calls in flight at once.
CROWD = 50
#: Samples a second, for so many seconds.
RATE, SPAN = 20_000, 5.0
#: Seconds that a datagram under way has to arrive.
SETTLE = 0.03


class Watch:
    """Asks the master when it last heard the slave that is hurt."""

    def __init__(self, address: str) -> None:
        deadline = time.monotonic() + 10
        while True:  # a master that was just revived takes a moment until it listens
            try:
                self._link = socket.create_connection((address, PORT), 10)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._lines = self._link.makefile("rb")

    def last(self) -> float:
        """The time, by the clock that all machines of a lab share."""
        self._link.sendall(b"\n")
        return float(self._lines.readline())

    def flows(self) -> None:
        """Wait until it is heard."""
        began, deadline = time.monotonic(), time.monotonic() + 10
        while self.last() < began:
            if time.monotonic() > deadline:
                raise RuntimeError("the slave is not heard")
            time.sleep(0.002)


class Bench:
    """The measurements, one after another."""

    def __init__(self, address: str, calls: int, cycles: int) -> None:
        self.door, self.other = sc.connect(), sc.Client()
        self.watch = Watch(address)
        self.calls, self.cycles = calls, cycles
        self.victim = self.door.slaves[0]
        self.found: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """All of them."""
        self.watch.flows()
        self.disconnects("disconnect", self.calls)
        self.kills()
        self.crowds()
        self.with_samples()
        return self.found

    def add(self, name: str, began: float, ended: float) -> None:
        """Keep a time, in milliseconds."""
        self.found.setdefault(name, []).append((ended - began) * 1000)

    def disconnects(self, name: str, times: int) -> None:
        """Cut and connect again, and see when the last packet came through."""
        for _ in range(times):
            began = time.monotonic()
            self.door.disconnect(self.victim)
            answered = time.monotonic()
            time.sleep(SETTLE)
            self.add(f"{name} answer", began, answered)
            self.add(f"{name} last packet", began, self.watch.last())
            began = time.monotonic()
            self.door.reconnect(self.victim)
            self.add(f"{name} reconnect", began, time.monotonic())
            self.watch.flows()

    def kills(self) -> None:
        """Kill and revive; when the target has said its first word, its log tells."""
        for _ in range(self.cycles):
            began = time.monotonic()
            self.door.kill(self.victim)
            self.add("kill answer", began, time.monotonic())
            time.sleep(SETTLE)
            self.add("kill last packet", began, self.watch.last())
            self.found.setdefault("revive began", []).append(time.time())
            began = time.monotonic()
            self.door.revive(self.victim)
            self.add("revive answer", began, time.monotonic())
            self.watch.flows()

    def crowds(self) -> None:
        """Many calls at once, over all machines; tells how each was answered."""
        machines = [self.door.master, *self.door.slaves]
        for kind in ("disconnect", "reconnect", "kill", "revive"):
            began = time.monotonic()
            with ThreadPoolExecutor(CROWD) as pool:
                answers = list(pool.map(self._answer(kind, machines), range(CROWD)))
            self.add(f"crowd {kind}", began, time.monotonic())
            self.found[f"crowd {kind} answers"] = Counter(answers)
        self.watch = Watch(str(self.door.master.ip))
        self.watch.flows()

    def _answer(self, kind: str, machines: list[sc.Machine]) -> Callable[[int], str]:
        def ask(number: int) -> str:
            # One connection to the door keeps fewer requests under way than this takes.
            door = (self.door, self.other)[number % 2]
            try:
                return str(getattr(door, kind)(machines[number % len(machines)]).state)
            except sc.SyndicateError as error:
                return str(error.code)

        return ask

    def with_samples(self) -> None:
        """The same cuts while samples are sent."""
        stop = threading.Event()
        sender = threading.Thread(target=self._sample, args=(stop,))
        began = time.monotonic()
        sender.start()
        while time.monotonic() < began + SPAN:
            self.disconnects("sampled", 1)
        stop.set()
        sender.join()
        ended = time.monotonic()
        self.other.close()
        self.found["samples rate"] = [self.found["samples"] / (ended - began)]

    def _sample(self, stop: threading.Event) -> None:
        began, sent = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - began) * RATE)
            for _ in range(due - sent):
                self.other.sample("put", 1.5)
            sent = due
            time.sleep(0.005)
        self.found["samples"] = sent


def main() -> None:
    """Measure, print, finish."""
    bench = Bench(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    passed = False
    try:
        print(json.dumps(bench.run()), flush=True)
        passed = True
    finally:
        bench.door.finish(passed=passed)


if __name__ == "__main__":
    main()
