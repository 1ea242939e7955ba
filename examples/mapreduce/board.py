"""The master's board of tasks, shared by the threads that serve the slaves."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

#: A task that breaks this many slaves is at fault itself.
MOST_TRIES = 4

Task = dict[str, Any]


class Hopeless(Exception):
    """The work cannot be finished; says why."""


class Board:
    """Hands out tasks, takes them back from slaves that are lost, and collects results."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: deque[Task] = deque()
        self._left = 0
        self._tries: dict[str, int] = {}
        self._slaves = 0
        self._closed = False
        self._results: dict[str, dict[str, Any]] = {}

    def slave_came(self) -> int:
        """Note one more slave; tells how many there are."""
        with self._changed:
            self._slaves += 1
            self._changed.notify_all()
            return self._slaves

    def slave_left(self) -> None:
        """Note one slave less."""
        with self._changed:
            self._slaves -= 1
            self._changed.notify_all()

    def wait_for_slaves(self, count: int, patience: float) -> int:
        """Wait until that many slaves are here, or for ``patience`` seconds.

        :raises Hopeless: there is none at all.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slaves >= count, patience)
            if not self._slaves:
                raise Hopeless(f"no slave has come within {patience:.0f} s")
            return self._slaves

    def take(self) -> Task | None:
        """The next task; waits while all are in other hands. None when there is no more work."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._closed)
            return self._open.popleft() if self._open else None

    def give_back(self, task: Task) -> None:
        """Let another slave have it."""
        with self._changed:
            self._tries[task["id"]] = self._tries.get(task["id"], 0) + 1
            self._open.appendleft(task)
            self._changed.notify_all()

    def done(self, task: Task, result: dict[str, Any]) -> None:
        """Note a result."""
        with self._changed:
            self._results[task["id"]] = result
            self._left -= 1
            self._changed.notify_all()

    def run(self, what: str, tasks: list[Task], patience: float) -> list[dict[str, Any]]:
        """Have all tasks done, and print how far it is; the results in the tasks' order.

        :param patience: seconds to go on without any slave.
        :raises Hopeless: when it cannot be done.
        """
        with self._changed:
            self._open.extend(tasks)
            self._left = len(tasks)
            self._changed.notify_all()
            told, lonely_since = 0, None
            while self._left:
                self._changed.wait(0.5)
                quarter = 4 * (len(tasks) - self._left) // len(tasks)
                if quarter > told:
                    told = quarter
                    print(f"{what}: {len(tasks) - self._left} of {len(tasks)} done", flush=True)
                if max(self._tries.values(), default=0) >= MOST_TRIES:
                    raise Hopeless(f"one {what} task was lost with {MOST_TRIES} slaves")
                lonely_since = None if self._slaves else lonely_since or time.monotonic()
                if lonely_since and time.monotonic() - lonely_since > patience:
                    raise Hopeless(f"no slave is left, and none came for {patience:.0f} s")
            return [self._results.pop(task["id"]) for task in tasks]

    def close(self) -> None:
        """No more work will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
