"""The words of a volunteer's console: what it holds, its sandbox, its links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from syndicate.console.process import Process
from syndicate.console.server import Console
from syndicate.console.tables import Facts, Table, Text
from syndicate.console.words import Visitor, Word
from syndicate.volunteer.service import Volunteer

LOOKING = ("holds", "processes", "links", "sandbox", "manager", "facts")


def volunteer_words(
    reactor: Any, volunteer: Volunteer, console: Callable[[], Console]
) -> Callable[[Visitor, Callable[[str], None]], list[Word]]:
    """Makes the words for each visitor."""
    process = Process(reactor, console, reactor.seconds())

    def make(visitor: Visitor, say: Callable[[str], None]) -> list[Word]:
        looking = Looking(volunteer)
        words = [Word(name, getattr(looking, name)) for name in LOOKING]
        words += process.words(visitor, say, lambda: words)
        return words

    return make


@attrs.frozen
class Looking:
    """What anybody at the console may ask. Steering is the manager's."""

    _volunteer: Volunteer

    def holds(self) -> Any:
        """The machine of a job that it has in hand."""
        inside = self._volunteer.look()
        part = inside.part
        if part is None:
            return Text(inside.unfit or "Nothing.")
        order = part.order
        return Facts(
            part,
            {
                "job": order.part.job,
                "attempt": order.part.attempt,
                "machine": order.part.machine,
                "target": order.target,
                "runs": part.runs,
                "source": order.sha256,
                "client": order.client,
                "machines": ", ".join(f"{name} {address}" for name, address in order.machines),
            },
        )

    def processes(self) -> Table[int]:
        """The processes of the job that live, as the kernel lists them."""
        part = self._volunteer.look().part
        run = None if part is None else part.run
        found = [] if run is None else run.processes()
        return Table(found, lambda pid: {"pid": pid, "command": _command(pid)}, "None.")

    def links(self) -> Any:
        """What its machine's packets meet."""
        part = self._volunteer.look().part
        guard = None if part is None else part.watched
        if guard is None:
            return Text("Nothing is done to its packets.")
        return Facts(guard, attrs.asdict(guard.links))

    def sandbox(self) -> Facts[Any]:
        """How it encloses jobs, and whether it is clean."""
        inside = self._volunteer.look()
        known = inside.facts
        return Facts(
            known,
            {
                "mode": known and known.sandbox,
                "enforced": known and " ".join(known.enforced),
                "clean": "no: " + inside.unfit if inside.unfit else "yes",
            },
        )

    def manager(self) -> Facts[Any]:
        """Its link to the manager."""
        inside = self._volunteer.look()
        link = "up" if inside.linked else "down"
        return Facts(inside, {"link": link, "boot": inside.boot, "term": inside.term})

    def facts(self) -> Facts[Any]:
        """What it says of its host when it registers."""
        known = self._volunteer.look().facts
        return Facts(known, {} if known is None else attrs.asdict(known))


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
