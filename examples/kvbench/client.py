"""A benchmark client of the key-value store: is what it has acknowledged ever lost?

All clients write and read; client[0] hurts the store's machines besides. What they check is said
in `book`, what is done to the machines in `hurt`.

Exit status: 0 when the result was handed in, be it good or bad.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from typing import Any

from book import Book
from hurt import NotMended, Surgeon
from meeting import MeetingBroken, Peer, come, gather, last_words, tell_floors
from store import Store
from work import Load

import syndicate.client as sc

#: Seconds that the store has to answer the last reads.
LAST_READS = 10.0


class Benchmark:
    """One client's part of the benchmark.

    :param door: the connection to Syndicate.
    """

    def __init__(self, door: Any, given: argparse.Namespace) -> None:
        self._door, self._given = door, given
        self._book = Book(door.me, door.seed)
        self._leads = door.me == door.clients[0]
        self._load = Load(door, self._book, given.master, given.port)
        self._peers: list[Peer] = []

    def run(self) -> dict[str, Any]:
        """Work until the end; the result, as Finish takes it.

        :raises MeetingBroken: another client has gone.
        :raises SyndicateError: a fault could not be done.
        """
        self._meet()
        telling, stop = self._tell()
        trouble = ""
        self._load.start()
        try:
            self._lead() if self._leads else self._follow()
        except NotMended as error:
            trouble = str(error)
        finally:
            self._load.stop()
            stop.set()
            telling.join()
        if self._leads:
            for peer in self._peers:
                peer.say(stop=True)
        tallies = last_words(self._peers, self._book, self._leads)
        keys = [key for tally in tallies for key in tally["issued"]]
        missing = self._load.read_all(keys, LAST_READS)
        for tally in tallies:
            self._book.audit(tally)
        if missing:
            trouble = trouble or f"{len(missing)} keys could not be read at the end"
        return self._result(trouble)

    def _meet(self) -> None:
        given, clients = self._given, self._door.clients
        if self._leads:
            self._peers = gather(len(clients) - 1, given.listen, given.meeting, self._book)
            for peer in self._peers:
                peer.say(go=True)
        else:
            self._peers = [come(clients[0].ip, given.meeting, self._book)]
            self._peers[0].wait_for("go", 60.0)

    def _tell(self) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        arguments = (self._peers, self._book, stop)
        thread = threading.Thread(target=tell_floors, args=arguments, daemon=True)
        thread.start()
        return thread, stop

    def _lead(self) -> None:
        store = Store(self._given.master, self._given.port)
        Surgeon(self._door, store, self._book, self._pause, self._door.slaves).run()
        store.close()

    def _pause(self, phases: float) -> None:
        """Wait for so many phases, while all clients are there."""
        for peer in self._peers:
            peer.said("stop")
        time.sleep(phases * self._given.phase)

    def _follow(self) -> None:
        while not self._peers[0].said("stop"):
            time.sleep(0.02)

    def _result(self, trouble: str) -> dict[str, Any]:
        book, load = self._book, self._load
        passed = not trouble and not book.mistakes
        notes = (
            f"{book.acknowledged} writes acknowledged, {book.reads} reads checked,"
            f" {load.served} of {load.asked} requests served"
        )
        notes = "; ".join(part for part in (book.verdict(), trouble, notes) if part)
        score = round(100 * load.served / load.asked, 2) if passed and load.asked else 0.0
        return {"passed": passed, "score": score, "notes": notes}


def main() -> int:
    """Run one client; returns its exit status."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--meeting", type=int, required=True)
    options.add_argument("--listen", default="")
    options.add_argument("--phase", type=float, required=True)
    options.add_argument("master", help="the master's address")
    options.add_argument("slaves", nargs="?", default="", help="the slaves', with commas between")
    given = options.parse_args()
    door = sc.connect()
    if not given.slaves:
        result = {"passed": False, "notes": "this benchmark is for a store with backups"}
    else:
        try:
            result = Benchmark(door, given).run()
        except (MeetingBroken, sc.SyndicateError) as error:
            result = {"passed": False, "notes": f"the benchmark itself was broken: {error}"}
    print(f"{'passed' if result['passed'] else 'FAILED'}: {result['notes']}", flush=True)
    door.finish(**result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
