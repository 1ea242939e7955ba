"""The one who looks from outside: at the processes of the hosts, and at what the daemons use."""

from __future__ import annotations

import threading
import time

import attrs

from syndicate.lab.cluster import Lab
from syndicate.torture import sightings
from syndicate.torture.facts import Sample
from syndicate.torture.model import Model
from syndicate.torture.supervisor import Supervisor

#: Seconds between two looks at processes, and two samples of what the daemons use.
LOOK, SAMPLE = 0.3, 1.0


@attrs.define
class Observer:
    """Looks at a lab, and tells the model."""

    _lab: Lab
    _model: Model
    _lock: threading.Lock
    _supervisor: Supervisor

    def run(self, over: threading.Event) -> None:
        """Look until it is over."""
        hosts = self._lab.hosts
        sampled = 0.0
        while not over.wait(LOOK):
            found = sightings.look(hosts)
            with self._lock:
                self._model.looked(found)
            if time.monotonic() >= sampled + SAMPLE:
                sampled = time.monotonic()
                self._sample()

    def _sample(self) -> None:
        for host in self._lab.hosts.values():
            used = sightings.usage(host.pid) if host.pid else None
            born = self._supervisor.born.get(host.name)
            if used is not None and born is not None:
                life = self._supervisor.lives[host.name]
                age = time.monotonic() - born
                sample = Sample(host.name, life, age, *used)
                with self._lock:
                    self._model.samples.append(sample)
