"""The load: threads that write keys of their own, and read those of all clients."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from book import Book
from store import NotDone, Store, Unsure

#: Threads of each client that write, and that read.
WRITERS, READERS = 2, 1
#: Versions that a key gets before its writer goes on to the next key.
VERSIONS = 4
#: Seconds from one request of a thread to its next.
PACE = 0.02


class Load:
    """The threads of one client.

    :param door: the connection to Syndicate, which takes samples.
    """

    def __init__(self, door: Any, book: Book, address: str, port: int) -> None:
        self._door, self._book, self._place = door, book, (address, port)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        #: Requests made, and those that were answered as they should.
        self.asked = self.served = 0

    def start(self) -> None:
        """Begin."""
        threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]
        threads += [threading.Thread(target=self._read) for _ in range(READERS)]
        for thread in threads:
            thread.daemon = True
            thread.start()
        self._threads = threads

    def stop(self) -> None:
        """End; returns when nothing is in flight any more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def read_all(self, keys: Iterable[str], patience: float) -> list[str]:
        """Read keys once more, at the end, and return those that could not be read.

        :param patience: seconds to go on trying, for all keys together.
        """
        deadline = time.monotonic() + patience
        missing = []
        with contextlib.closing(Store(*self._place)) as store:
            for key in keys:
                while not self._read_one(store, key, last=True):
                    if time.monotonic() > deadline:
                        missing.append(key)
                        break
                    time.sleep(PACE)
        return missing

    def _write(self, number: int) -> None:
        with contextlib.closing(Store(*self._place)) as store:
            for nth in itertools.count():
                for _ in range(VERSIONS):
                    if self._stop.wait(PACE):
                        return
                    self._write_one(store, f"{self._book.me}/{number}.{nth}")

    def _write_one(self, store: Store, key: str) -> None:
        book, alone = self._book, self._book.alone
        version, value = book.issue(key)
        try:
            with self._sample("put"):
                store.put(key, version, value)
        except NotDone:
            book.refuse(key, version)
        except Unsure:
            pass  # its version is never used again, so it may come whenever it likes
        else:
            book.acknowledge(key, version, alone)

    def _read(self) -> None:
        with contextlib.closing(Store(*self._place)) as store:
            while not self._stop.wait(PACE):
                if keys := self._book.keys():
                    self._read_one(store, random.choice(keys))

    def _read_one(self, store: Store, key: str, *, last: bool = False) -> bool:
        floor = self._book.floor(key)
        try:
            with self._sample("get"):
                version, value = store.get(key)
        except (NotDone, Unsure):
            return False
        self._book.check(key, floor, version, value, last=last)
        return True

    @contextlib.contextmanager
    def _sample(self, op: str) -> Iterator[None]:
        """Measure one request, good or bad; an exception is a bad one, and goes on."""
        with self._lock:
            self.asked += 1
        with self._door.timed(op):
            yield
        with self._lock:
            self.served += 1
