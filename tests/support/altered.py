"""Real daemons from which a safeguard was taken, or that kill themselves at a chosen step.

``python -m tests.support.altered WORD[,WORD…] twistd's words`` alters the classes that the words
say, and runs twistd as it is run everywhere. What a safeguard is good for is shown by what the
torture finds without it; what a crash at a step does is shown by crashing there.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from syndicate.lab.daemons import IDaemons
from syndicate.lab.state import Description, Host

#: Seconds that an allocation waits to be stored where it never is: orders that go out before it is
#: are carried out meanwhile.
LATE = 3.0


@attrs.define
class Altered:
    """Daemons of a lab, those of some hosts altered."""

    daemons: IDaemons
    #: By ``manager`` or ``volunteer``.
    words: dict[str, str]

    def furnish(self, directory: Path, description: Description) -> None:
        """See `IDaemons.furnish`."""
        self.daemons.furnish(directory, description)

    def command(self, directory: Path, host: Host) -> list[str]:
        """See `IDaemons.command`."""
        python, _, *rest = self.daemons.command(directory, host)
        word = self.words.get("manager" if host.name == "manager" else "volunteer")
        if word is None:
            return self.daemons.command(directory, host)
        return [python, "-m", "tests.support.altered", word, *rest]

    def ready(self, description: Description) -> list[str]:
        """See `IDaemons.ready`."""
        return list(self.daemons.ready(description))


# Safeguards that are taken away.


def send_orders_unwritten() -> None:
    """Orders go out before the allocation that they come from is stored."""
    from syndicate.domain.job import JobState
    from syndicate.manager.conductor import Conductor

    def happen(self: Any, number: int, event: Any) -> Deferred[None]:
        before = self._book.jobs[number].state
        job, orders, written = self._book.happen(number, event)
        if job.state is JobState.QUEUED and before is not JobState.QUEUED:
            self._queued_again()
        if orders:
            self._send_all(job, orders)
        ended: Deferred[None] = written.addCallback(lambda _: None)
        return ended

    Conductor.happen = happen  # type: ignore[method-assign]


def sweep_nothing() -> None:
    """A volunteer that starts leaves what the one before it has left."""
    from syndicate.network.nft import NftFaults
    from syndicate.sandbox.chroot import ChrootSandbox

    for kind in (NftFaults, ChrootSandbox):
        kind.sweep = lambda self: succeed(0)  # type: ignore[method-assign]


# Crashes.


@attrs.define
class Deaths:
    """How many deaths are still to be died: as many as a file has bytes, since the dead forget."""

    file: Path

    @property
    def left(self) -> int:
        """So many."""
        return self.file.stat().st_size

    def die(self) -> None:
        """Die, if any death is left, as if struck from outside."""
        if self.left > 0:
            os.truncate(self.file, self.left - 1)
            os.kill(os.getpid(), signal.SIGKILL)


def kinds_in(batch: Any) -> set[str]:
    """The kinds of events and records in a batch."""
    from syndicate.store.interface import Append

    return {
        operation.value["kind"] if isinstance(operation, Append) else f"record {operation.kind}"
        for operation in batch.operations
    }


def crash_before_commit(deaths: Deaths, chance: float = 0.1) -> None:
    """A batch was given to the store, which has not written it."""
    from syndicate.store.sqlite import SqliteStore

    commit = SqliteStore.commit

    def dying(self: Any, batch: Any, term: int) -> Deferred[int]:
        if random.random() < chance:
            deaths.die()
        return commit(self, batch, term)

    SqliteStore.commit = dying  # type: ignore[method-assign]


def crash_after_commit(deaths: Deaths, kind: str, chance: float = 0.4) -> None:
    """A batch with something of that kind is stored, and nobody was told."""
    from syndicate.store.sqlite import SqliteStore

    commit = SqliteStore.commit

    def dying(self: Any, batch: Any, term: int) -> Deferred[int]:
        def stored(position: int) -> int:
            if kind in kinds_in(batch) and random.random() < chance:
                deaths.die()
            return position

        return commit(self, batch, term).addCallback(stored)

    SqliteStore.commit = dying  # type: ignore[method-assign]


def crash_before_late_allocation(deaths: Deaths) -> None:
    """An allocation waits to be stored, and never is."""
    from syndicate.store.sqlite import SqliteStore

    commit = SqliteStore.commit

    def late(self: Any, batch: Any, term: int) -> Deferred[int]:
        if "reserved" not in kinds_in(batch) or deaths.left == 0:
            return commit(self, batch, term)
        pause: Deferred[None] = deferLater(self._reactor, LATE)
        pause.addCallback(lambda _: deaths.die())
        return pause.addCallback(lambda _: commit(self, batch, term))

    SqliteStore.commit = late  # type: ignore[method-assign]


def crash_in_commit(deaths: Deaths, chance: float = 0.15) -> None:
    """At any moment of what SQLite does for a transaction."""
    from syndicate.store.tables import Tables

    write = Tables.write

    def dying(self: Any, batches: Any) -> Any:
        if random.random() < chance:
            threading.Timer(random.uniform(0.0, 0.004), deaths.die).start()
        return write(self, batches)

    Tables.write = dying  # type: ignore[method-assign]


def crash_in_upload(deaths: Deaths) -> None:
    """Half of a blob is there."""
    from syndicate.blobs.writer import FileBlobWriter

    write = FileBlobWriter.write

    def dying(self: Any, data: Any) -> None:
        if self._durable and random.random() < 0.5:
            write(self, data[: len(data) // 2])
            deaths.die()
            data = data[len(data) // 2 :]
        write(self, data)

    FileBlobWriter.write = dying  # type: ignore[method-assign]


def crash_at_start(deaths: Deaths) -> None:
    """Every second life ends while it starts, at one of three steps; the others while they work,
    so that there is something to be started with.
    """
    if deaths.left % 2 == 0:
        crash_before_commit(deaths)
        return
    from syndicate.store.sqlite import SqliteLeadership, SqliteStore

    steps: list[tuple[type[Any], str]] = [
        (SqliteStore, "load"),
        (SqliteLeadership, "campaign"),
        (SqliteStore, "commit"),
    ]
    kind, name = steps[deaths.left // 2 % len(steps)]
    inner: Callable[..., Deferred[Any]] = getattr(kind, name)

    def dying(self: Any, *words: Any) -> Deferred[Any]:
        def done(result: Any) -> Any:
            deaths.die()
            return result

        return inner(self, *words).addCallback(done)

    setattr(kind, name, dying)


#: The steps of the kill matrix, by the name that `alter` knows.
STEPS: dict[str, Callable[[Deaths], None]] = {
    "before-commit": crash_before_commit,
    "in-commit": crash_in_commit,
    "submission-stored": lambda deaths: crash_after_commit(deaths, "submitted"),
    "allocation-stored": lambda deaths: crash_after_commit(deaths, "reserved"),
    "report-stored": lambda deaths: crash_after_commit(deaths, "machine-exited"),
    "half-a-blob": crash_in_upload,
    "at-start": crash_at_start,
}

#: Another step in each life.
BY_TURNS = "by-turns"
_EACH = tuple(STEPS.values())
STEPS[BY_TURNS] = lambda deaths: _EACH[deaths.left % len(_EACH)](deaths)

#: A step that takes its time: not for the kill matrix, but to show what a safeguard is good for.
LATE_ALLOCATION = "late-allocation"
STEPS_AND_LATE = {**STEPS, LATE_ALLOCATION: crash_before_late_allocation}

SAFEGUARDS: dict[str, Callable[[], None]] = {
    "unwritten-orders": send_orders_unwritten,
    "no-sweep": sweep_nothing,
}


def alter(words: str) -> None:
    """Alter what the words say: a safeguard, or ``STEP=FILE`` with the file of `Deaths`."""
    for word in words.split(","):
        step, given, file = word.partition("=")
        if given:
            STEPS_AND_LATE[step](Deaths(Path(file)))
        else:
            SAFEGUARDS[step]()


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    alter(sys.argv.pop(1))
    sys.argv[0] = "twistd"
    run()
