"""What client[0] does to the store's machines, one phase after another.

Each phase begins with the store whole again, so that never more is broken than the store has to
survive: with a majority of the machines it goes on, without it it refuses, and it gives back what
it has acknowledged even when the master's disk is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from book import Book
from store import NotDone, Store, Unsure

#: Seconds that the store has to be whole again after a fault.
MENDING = 15.0


class NotMended(Exception):
    """The store was not whole again in time."""


class Surgeon:
    """Hurts the store's machines, and waits until it has mended itself.

    :param door: the connection to Syndicate.
    :param store: a connection to the store.
    :param pause: waits for so many phases; it raises what ends the run.
    :param slaves: the machines that are backups, of which there is at least one.
    """

    def __init__(
        self,
        door: Any,
        store: Store,
        book: Book,
        pause: Callable[[float], None],
        slaves: Sequence[str],
    ) -> None:
        self._door, self._store, self._book = door, store, book
        self._pause, self._slaves = pause, slaves
        self._began = time.monotonic()

    def run(self) -> None:
        """All phases.

        :raises NotMended: the store did not recover from one.
        """
        first, last, master = self._slaves[0], self._slaves[-1], self._door.master
        self._phase("whole")
        self._mended()
        self._pause(1)
        self._kill("a backup is killed", first, with_disk=True, pause=1)
        self._kill("a backup is killed", last, with_disk=False, pause=1)
        self._cut_a_backup_off(first)
        self._kill("the master is killed", master, with_disk=True, pause=0.25)
        self._cut_the_master_off(master)
        self._pause(0.5)
        self._phase("over")

    def _kill(self, phase: str, machine: str, *, with_disk: bool, pause: float) -> None:
        self._phase(phase)
        self._door.kill(machine)
        self._pause(pause)
        self._phase(f"it is revived {'with' if with_disk else 'without'} its disk")
        self._door.revive(machine, with_disk=with_disk)
        self._mended()
        self._pause(0.5)

    def _cut_a_backup_off(self, backup: str) -> None:
        self._phase("a backup is disconnected")
        self._door.disconnect(backup)
        self._pause(1)
        self._phase("it is reconnected")
        self._door.reconnect(backup)
        self._mended()
        self._pause(0.5)

    def _cut_the_master_off(self, master: str) -> None:
        """What the master says now, no backup hears; then all it has is taken from it. So what it
        has acknowledged by itself is surely lost, and what it has refused surely harmless.
        """
        self._phase("the master is cut from its backups")
        self._door.disconnect(master)
        self._book.set_alone(True)
        self._pause(1)
        self._book.set_alone(False)
        self._phase("the master is killed, and loses its disk")
        self._door.kill(master)
        self._door.revive(master, with_disk=False)
        self._phase("the master is reconnected")
        self._door.reconnect(master)
        self._mended()
        self._pause(0.5)

    def _phase(self, name: str) -> None:
        print(f"{time.monotonic() - self._began:6.2f} s  {name}", flush=True)
        self._door.mark(name)

    def _mended(self) -> None:
        deadline = time.monotonic() + MENDING
        while not self._whole():
            if time.monotonic() > deadline:
                raise NotMended(f"the store was not whole again within {MENDING:g} s")
            self._pause(0)
            time.sleep(0.03)

    def _whole(self) -> bool:
        try:
            return self._store.in_step(len(self._slaves))
        except (NotDone, Unsure):
            return False
