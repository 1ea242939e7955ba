"""The one thread that touches a SQLite store's database.

Batches that gather while one is being written go out in the next transaction, so that one wait
for the disk serves many of them; and what a round of work has to tell comes back to the reactor
in one piece.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from syndicate.domain.errors import SyndicateError
from syndicate.store.encoding import Encoded
from syndicate.store.tables import Tables

#: Most batches of one transaction; those behind would wait too long for their answers.
ROUND = 1024


@attrs.frozen(eq=False)
class _Request:
    """A batch to write, or something to call with the tables."""

    answer: Deferred[Any]
    work: Encoded | Callable[[Tables], Any]

    @property
    def is_batch(self) -> bool:
        return isinstance(self.work, Encoded)


#: An answer and what it is fired with.
_Outcome = tuple[Deferred[Any], Any]


@attrs.define(eq=False)
class Writer:
    """The thread, from `start` to the end of `stop`."""

    _reactor: IReactorFromThreads
    _open: Callable[[], Tables]
    #: As of the last answer.
    position: int = 0
    #: Why the last write failed; empty if it did not.
    problem: str = ""
    _requests: queue.SimpleQueue[_Request | None] = attrs.field(factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _stopped: list[Deferred[None]] = attrs.field(factory=list)

    def start(self) -> Deferred[None]:
        """Open the tables; on an error the thread has ended already when that is told."""
        opened: Deferred[None] = Deferred()
        # A daemon, so that a process that ends without `stop` is not held up by it.
        self._thread = threading.Thread(target=self._run, args=(opened,), name="store", daemon=True)
        self._thread.start()
        return opened

    def ask(self, work: Encoded | Callable[[Tables], Any]) -> Deferred[Any]:
        """Do something after all that was asked for before."""
        answer: Deferred[Any] = Deferred()
        self._requests.put(_Request(answer, work))
        return answer

    def stop(self) -> Deferred[None]:
        """Do what was asked for, close the tables, end. May be called again before it fires."""
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        if len(self._stopped) == 1:
            self._requests.put(None)
        return stopped

    # On the thread.

    def _run(self, opened: Deferred[None]) -> None:
        try:
            tables = self._open()
        except Exception:  # noqa: BLE001  (the thread's edge: whatever it is, it is told)
            self._reactor.callFromThread(self._ended, [(opened, Failure())])
            return
        self._tell([(opened, None)], tables)
        last = False
        while not last:
            requests, last = self._gather()
            outcomes = [
                outcome
                for batches, group in itertools.groupby(requests, lambda each: each.is_batch)
                for outcome in (_write if batches else _call)(tables, list(group))
            ]
            if outcomes:
                self._tell(outcomes, tables)
        try:
            tables.close()
            outcomes = []
        except Exception:  # noqa: BLE001  (as above)
            outcomes = [(self._stopped.pop(0), Failure())]
        self._reactor.callFromThread(self._ended, outcomes)

    def _gather(self) -> tuple[list[_Request], bool]:
        """Wait for a request; take it and those behind it, and whether it was the last."""
        requests: list[_Request] = []
        request = self._requests.get()
        while request is not None:
            requests.append(request)
            if len(requests) == ROUND:
                return requests, False
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return requests, False
        return requests, True

    def _tell(self, outcomes: list[_Outcome], tables: Tables) -> None:
        self._reactor.callFromThread(self._answer, outcomes, tables.position, tables.problem)

    # On the reactor.

    def _answer(self, outcomes: list[_Outcome], position: int, problem: str) -> None:
        self.position = position
        self.problem = problem
        for answer, result in outcomes:
            answer.callback(result)

    def _ended(self, outcomes: list[_Outcome]) -> None:
        assert self._thread is not None
        # It has nothing left to do but to return.
        self._thread.join()
        for answer, result in outcomes:
            answer.callback(result)
        stopped, self._stopped = self._stopped, []
        for each in stopped:
            each.callback(None)


def _write(tables: Tables, requests: list[_Request]) -> Iterator[_Outcome]:
    answers = [request.answer for request in requests]
    batches = [request.work for request in requests if isinstance(request.work, Encoded)]
    try:
        results = tables.write(batches)
    except Exception:  # noqa: BLE001  (the thread's edge: whatever it is, it is told)
        failed = Failure()
        return ((answer, failed) for answer in answers)
    return (
        (answer, Failure(result) if isinstance(result, SyndicateError) else result)
        for answer, result in zip(answers, results, strict=True)
    )


def _call(tables: Tables, requests: list[_Request]) -> Iterator[_Outcome]:
    for request in requests:
        assert not isinstance(request.work, Encoded)
        try:
            yield request.answer, request.work(tables)
        except Exception:  # noqa: BLE001  (the thread's edge: whatever it is, it is told)
            yield request.answer, Failure()
