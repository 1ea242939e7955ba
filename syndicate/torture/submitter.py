"""The user of a torture: submits the jobs of a schedule, again and again until each is answered."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import attrs

from syndicate.torture.door import Away, Door, Refused
from syndicate.torture.facts import Rule, Violation
from syndicate.torture.model import Model
from syndicate.torture.schedule import Asking, Manner, Schedule, Task
from syndicate.torture.sources import source_of, spec_of

#: Seconds between two tries.
PAUSE = 0.3
#: Most jobs that wait or run at once; the next one is submitted when there are fewer.
MOST_OPEN = 20
#: Seconds after which a job is cancelled that is to be.
CANCEL_AFTER = 1.0
#: Seconds that one submission is tried for once no more blows fall.
PATIENCE = 120.0


@attrs.define
class Submitter:
    """Submits.

    :param clock: seconds since the torture began.
    :param ending: set when no further job is to be submitted.
    """

    _door: Door
    _model: Model
    _lock: threading.Lock
    _clock: Callable[[], float]
    _ending: threading.Event
    #: Tasks that were begun, and those that were left out as the time was over.
    begun: int = 0
    left_out: int = 0
    #: Jobs to be cancelled: when, and which.
    _cancellations: list[tuple[float, int]] = attrs.field(factory=list)

    def run(self, schedule: Schedule) -> None:
        """Submit all jobs in their order, each when its time has come."""
        for number, task in enumerate(schedule.tasks):
            while self._clock() < task.at or self._too_many():
                if self._ending.wait(0.05):
                    self.left_out = len(schedule.tasks) - number
                    break
                self._cancel_due()
            if self._ending.is_set():
                break
            self.begun += 1
            self._submit(task)
        while self._cancellations:
            self._cancel_due()
            time.sleep(0.05)
        self._door.close()

    def _too_many(self) -> bool:
        with self._lock:
            return len(self._model.acknowledged) - len(self._model.finished) >= MOST_OPEN

    def _submit(self, task: Task) -> None:
        source = source_of(task)
        body = {"submission": str(uuid.uuid4()), "spec": spec_of(task, source)}
        if task.asking is Asking.CUT_OFF:
            try:
                self._door.upload(source.data, source.sha256)
                self._door.send_and_go("/v1/jobs", body)
            except (Away, Refused):
                self._count("submissions that could not be sent at first")
            self._count("submissions cut off before the answer")
        job = self._insist(task, source.data, source.sha256, body)
        if job is not None and task.asking is Asking.TWICE:
            self._count("submissions sent twice")
            self._insist(task, source.data, source.sha256, body)
        if job is not None and task.manner is Manner.CANCELLED:
            self._cancellations.append((self._clock() + CANCEL_AFTER, job))

    def _insist(self, task: Task, data: bytes, sha256: str, body: dict[str, Any]) -> int | None:
        until = None
        while True:
            try:
                self._door.upload(data, sha256)
                answer = self._door.post("/v1/jobs", body)
            except (Away, Refused) as error:
                if isinstance(error, Refused) and not _passes(error):
                    what = f"{task.name} was refused: {error.code} {error.message}"
                    self._report(Violation(Rule.ANSWERS, what, str(error)))
                    return None
                self._count("submissions sent again")
                if self._ending.is_set():
                    until = until or time.monotonic() + PATIENCE
                    if time.monotonic() > until:
                        what = f"{task.name} was never answered"
                        self._report(Violation(Rule.ANSWERS, what, str(error)))
                        return None
                time.sleep(PAUSE)
            else:
                job: int = answer["job"]["job"]
                with self._lock:
                    self._model.submitted(task, job)
                    self._model.counts["submissions acknowledged"] += 1
                return job

    def _cancel_due(self) -> None:
        for due in [each for each in self._cancellations if each[0] <= self._clock()]:
            self._cancellations.remove(due)
            try:
                self._door.post(f"/v1/jobs/{due[1]}/cancel", {})
            except (Away, Refused):
                continue  # it is not known whether it is cancelled, or it is finished
            with self._lock:
                self._model.cancelled.add(due[1])
                self._model.counts["cancellations acknowledged"] += 1

    def _count(self, what: str) -> None:
        with self._lock:
            self._model.counts[what] += 1

    def _report(self, violation: Violation) -> None:
        with self._lock:
            self._model.report([violation])


def _passes(error: Refused) -> bool:
    """Whether the same may be taken later. A blob may still be in another one's hand: that of
    the request that was cut off.
    """
    return error.for_now or (error.code == "conflict" and "being written" in error.message)
