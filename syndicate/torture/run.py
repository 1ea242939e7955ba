"""A torture from its beginning to its end."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs

from syndicate.lab.cluster import Lab
from syndicate.lab.disks import Disks
from syndicate.lab.traces import find_traces
from syndicate.torture.door import Away, Door, Refused
from syndicate.torture.facts import Rule, Violation
from syndicate.torture.model import Model
from syndicate.torture.observer import Observer
from syndicate.torture.schedule import Schedule
from syndicate.torture.submitter import Submitter
from syndicate.torture.supervisor import LOOK, Supervisor
from syndicate.torture.watcher import Watcher

#: Seconds without anything new after which what has not ended is taken to hang. Longer than all
#: of the daemons' own deadlines but that for fetching a source.
STANDSTILL = 150.0
#: Seconds that the daemons get to tidy up after the last job.
TIDY = 30.0
#: Seconds that the lab gets to come up.
UP = 120.0


@attrs.frozen
class Result:
    """What came of a torture."""

    schedule: Schedule
    #: Seconds that all of it took.
    took: float
    counts: dict[str, int]
    violations: tuple[Violation, ...]


def check_database(state: Path) -> str:
    """What SQLite says of the manager's database, which may be in use: ``ok``, or what is wrong."""
    with contextlib.closing(sqlite3.connect(f"file:{state}/state.db?mode=ro", uri=True)) as opened:
        return "; ".join(row[0] for row in opened.execute("pragma integrity_check"))


@attrs.define
class Torture:
    """One torture of a lab that it brings up and takes down.

    :param lab: not up yet, its daemons on small disks.
    :param say: is told what happens, a line each.
    :param mortal: whether its daemons were made to end by themselves, which is no violation then.
    :param enough: ends the blows before their time.
    """

    _lab: Lab
    _disks: Disks
    _schedule: Schedule
    _say: Callable[[str], None]
    standstill: float = STANDSTILL
    tidy: float = TIDY
    mortal: bool = False
    enough: Callable[[], bool] = lambda: False
    _lock: threading.Lock = attrs.field(factory=threading.Lock)
    _crashes: list[str] = attrs.field(factory=list)
    _began: float = 0.0

    def run(self) -> Result:
        """Bring the lab up, hurt it, let it come to rest, judge it, take it down."""
        began = time.monotonic()
        self._lab.up(len(self._schedule.volunteers), wait=UP)
        description = self._lab.description
        model = Model({task.name: task for task in self._schedule.tasks})
        counts: Counter[str] = Counter()
        try:
            counts += self._hurt(model)
        finally:
            self._lab.down()
        traces = find_traces(self._lab.directory, description)
        model.report(
            Violation(Rule.NOTHING_LEFT, f"after the lab was taken down there is {trace}")
            for trace in traces
        )
        model.judge()
        if self._crashes:
            raise RuntimeError("The torture itself failed:\n" + "\n".join(self._crashes))
        counts += model.counts
        took = time.monotonic() - began
        return Result(self._schedule, took, dict(counts), tuple(model.violations))

    def _clock(self) -> float:
        return time.monotonic() - self._began

    def _hurt(self, model: Model) -> Counter[str]:
        """The blows, and the time after them."""
        description, token = self._lab.description, self._lab.token
        supervisor = Supervisor(self._lab, self._disks, self._clock, self._tell, mortal=self.mortal)
        model.full = supervisor.full
        ending, over = threading.Event(), threading.Event()
        submitter = Submitter(Door(description, token), model, self._lock, self._clock, ending)
        dice = random.Random(f"{self._schedule.seed}/watcher")
        watcher = Watcher(self._lab, Door(description, token), model, self._lock, dice)
        observer = Observer(self._lab, model, self._lock, supervisor)
        self._began = time.monotonic()
        supervisor.begin()
        asking = self._thread("submitter", lambda: submitter.run(self._schedule))
        watching = self._thread("watcher", lambda: watcher.run(ending))
        observing = self._thread("observer", lambda: observer.run(over))
        try:
            self._deal_out(supervisor)
            self._tell("no more blows; waiting for all to end")
            ending.set()
            supervisor.undo_all()
            for thread in (asking, watching):
                self._wait_for(thread, supervisor)
            self._wait_for(self._thread("end", lambda: self._conclude(watcher)), supervisor)
        finally:
            ending.set()
            over.set()
            observing.join()
        model.report(supervisor.violations)
        model.counts["jobs begun"] = submitter.begun
        model.counts["jobs left out for want of time"] = submitter.left_out
        return supervisor.counts

    def _deal_out(self, supervisor: Supervisor) -> None:
        acts = list(self._schedule.acts)
        over = self._schedule.seconds
        while self._clock() < over and not self._crashes and not self.enough():
            while acts and acts[0].at <= self._clock():
                supervisor.do(acts.pop(0))
            supervisor.tend()
            time.sleep(LOOK)

    def _conclude(self, watcher: Watcher) -> None:
        try:
            self._look_at_all(watcher)
        finally:
            watcher.close()

    def _look_at_all(self, watcher: Watcher) -> None:
        watcher.settle(self.standstill)
        self._tell("all is at rest; looking at every job once more")
        try:
            watcher.take_stock()
        except (Away, Refused) as error:
            what = "the manager does not answer in the end"
            watcher.report(Violation(Rule.ANSWERS, what, str(error)))
        found = check_database(self._lab.directory / "manager/state")
        if found != "ok":
            watcher.report(Violation(Rule.DATABASE_WHOLE, "it is not", found))
        self._tell("looking for what is left")
        watcher.look_for_leftovers(self.tidy)
        self._tell("taking the lab down")

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  (a thread's edge: told when all is over)
                self._crashes.append(f"{name}: {error!r}\n{traceback.format_exc()}")

        thread = threading.Thread(target=guarded, name=f"torture-{name}", daemon=True)
        thread.start()
        return thread

    def _wait_for(self, thread: threading.Thread, supervisor: Supervisor) -> None:
        while thread.is_alive() and not self._crashes:
            supervisor.tend()
            time.sleep(LOOK)

    def _tell(self, text: str) -> None:
        self._say(f"{self._clock():7.1f}  {text}")
