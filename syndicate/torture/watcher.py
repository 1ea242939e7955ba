"""The one who asks: has the manager show its jobs again and again, and tells the model."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import attrs

from syndicate.lab.cluster import Lab
from syndicate.torture import sightings
from syndicate.torture.door import Away, Door, Refused
from syndicate.torture.facts import Ending, Rule, Violation
from syndicate.torture.model import Model

#: Seconds between two listings of the latest jobs, and two of all.
LIST, LIST_ALL = 1.0, 12.0
#: Most jobs of a listing of the latest ones.
LATEST = 60


@attrs.define
class Watcher:
    """Watches a lab.

    :param dice: chooses what is looked at again.
    """

    _lab: Lab
    _door: Door
    _model: Model
    _lock: threading.Lock
    _dice: random.Random
    #: Finished jobs whose history is to be fetched.
    _wanted: dict[int, Mapping[str, Any]] = attrs.field(factory=dict)
    _due: dict[str, float] = attrs.field(factory=dict)

    def run(self, over: threading.Event) -> None:
        """Watch until it is over."""
        while not over.is_set():
            try:
                if self._is_due("list", LIST):
                    self._list(whole=self._is_due("all", LIST_ALL))
                    self._read_something()
                    self._look_back()
                    self._fetch(1)
            except (Away, Refused):
                pass  # it is told in the end whether it answers at last
            over.wait(0.05)
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._door.close()

    def _is_due(self, what: str, period: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + period
        return True

    def _list(self, *, whole: bool) -> list[dict[str, Any]]:
        limit = 10_000 if whole else LATEST
        with self._lock:
            # What is acknowledged while the answer is on its way need not be in it.
            wanted = self._model.known() if whole else None
        jobs: list[dict[str, Any]] = self._door.get(f"/v1/jobs?all=1&limit={limit}")["jobs"]
        with self._lock:
            self._model.listed(jobs, wanted)
            for job in jobs:
                if job["state"] == "finished" and job["job"] not in self._model.judged:
                    self._wanted[job["job"]] = job
        return jobs

    def _fetch(self, most: int) -> None:
        """Take in the histories of jobs that have finished."""
        for number in list(self._wanted)[:most]:
            ending = self._history(self._wanted[number])
            if len(ending.events) < ending.job["events"]:
                # A manager whose disk is full shows what it has not been able to store yet.
                self._wanted[number] = self._wanted.pop(number)
                continue
            with self._lock:
                self._model.ended(ending)
            del self._wanted[number]

    def _history(self, job: Mapping[str, Any]) -> Ending:
        number = job["job"]
        events = self._door.events(number)
        faults = self._door.get(f"/v1/jobs/{number}/faults")["faults"]
        listed = self._door.get(f"/v1/jobs/{number}/files")["files"]
        paths = [file["path"] for file in listed if not file["path"].endswith(".err")]
        files = {path: self._door.file(number, path) for path in paths}
        return Ending(job, tuple(events), tuple(faults), files)

    def _read_something(self) -> None:
        """Read what a job that has not ended has printed so far."""
        with self._lock:
            open_jobs = [
                number
                for number in self._model.acknowledged.values()
                if number not in self._model.finished
            ]
        if not open_jobs:
            return
        number = self._dice.choice(open_jobs)
        for file in self._door.get(f"/v1/jobs/{number}/files")["files"]:
            if file["path"].endswith(".out"):
                data = self._door.file(number, file["path"])
                with self._lock:
                    self._model.file_seen(number, file["path"], data)

    def _look_back(self) -> None:
        """Look at the history of a finished job once more."""
        with self._lock:
            known = [n for n in sorted(self._model.judged) if n in self._model.finished]
            job = self._model.finished[self._dice.choice(known)] if known else None
        if job is not None:
            ending = self._history(job)
            with self._lock:
                self._model.ended(ending)

    # In the end.

    def settle(self, seconds: float) -> None:
        """Wait until every acknowledged job has ended and every volunteer is free.

        :param seconds: without anything new after which it is given up.
        """
        deadline, before = time.monotonic() + seconds, ""
        while True:
            try:
                jobs = self._list(whole=True)
                volunteers = self._door.get("/v1/volunteers")["volunteers"]
                waiting = [f"job {j['job']} {j['state']}" for j in jobs if j["state"] != "finished"]
                waiting += [
                    f"{v['volunteer']} {v['state']} {v['reason']}"
                    for v in volunteers
                    if v["state"] != "free"
                ]
                now = f"{[j['events'] for j in jobs]} {waiting}"
                if not waiting:
                    return
            except (Away, Refused) as error:
                waiting = [str(error)]
                now = before
            if now != before:
                before, deadline = now, time.monotonic() + seconds
            if time.monotonic() > deadline:
                what = f"nothing has changed for {seconds:g} s, and not all has ended"
                self.report(Violation(Rule.ANSWERS, what, "\n".join(waiting)))
                return
            time.sleep(0.5)

    def take_stock(self) -> None:
        """Look at every history there is, for the last time."""
        jobs = self._list(whole=True)
        for job in jobs:
            if job["state"] == "finished":
                ending = self._history(job)
                with self._lock:
                    self._model.ended(ending)

    def look_for_leftovers(self, seconds: float) -> None:
        """Look at the volunteers, which have nothing to do, for what jobs have left."""
        deadline = time.monotonic() + seconds
        hosts = [host for host in self._lab.hosts.values() if host.uids]
        while left := {
            host.name: found
            for host in hosts
            if (found := sightings.leftovers(self._lab.directory, host))
        }:
            if time.monotonic() > deadline:
                for name, found in left.items():
                    what = f"{name} is free, and has of former jobs: {len(found)} things"
                    self.report(Violation(Rule.NOTHING_LEFT, what, "\n".join(found)))
                return
            time.sleep(0.3)

    def report(self, violation: Violation) -> None:
        """Tell the model of something that must not be."""
        with self._lock:
            self._model.report([violation])
