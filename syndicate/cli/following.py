"""Watching a job until its end: its output on standard output, what happens on standard error."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import click

from syndicate.cli import streams
from syndicate.cli.connection import PATIENCE, Connection
from syndicate.cli.listings import lasted
from syndicate.cli.logprinter import LogPrinter, write_out
from syndicate.cli.output import STYLES, visible
from syndicate.cli.session import Session
from syndicate.domain.errors import SyndicateError

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

Record = dict[str, Any]

#: What of a job's life is told as plain lines; the rest is seen in `syndicate status`.
TOLD = frozenset(
    {
        "reserved",
        "running",
        "machine-exited",
        "machine-killed",
        "machine-lost",
        "attempt-lost",
        "client-finished",
    }
)

#: The states of a fault that are told: that it was asked for says nothing yet.
TOLD_OF_FAULTS = frozenset({"verified", "failed", "unknown", "healed"})

#: Seconds from one painting on a terminal to the next.
PAINT = 0.05


def line_of(event: Record) -> str:
    """What is told of an event; empty for those that are not."""
    if event["kind"] != "fault":
        return str(event["text"]) if event["kind"] in TOLD else ""
    fault = event["fault"]
    if fault["state"] not in TOLD_OF_FAULTS:
        return ""
    what, _, said = str(event["text"]).partition(f": {fault['state']}")
    # How it was verified is in the record, and long.
    return f"{what} {fault['state']}{'' if fault['state'] == 'verified' else said}"


class IProgress(Protocol):
    """Where what happens to a job is shown."""

    def show(self, event: Record) -> None:
        """Something happened."""

    def write(self, text: str) -> None:
        """Print output of the job, line end included."""


class PlainProgress:
    """A line for each thing that matters."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def show(self, event: Record) -> None:
        """Say it."""
        if line := line_of(event):
            self._session.say(visible(line))

    def write(self, text: str) -> None:
        """Print it."""
        write_out(text)
        # Whoever reads at the other end of a pipe wants it now.
        sys.stdout.flush()


class LiveProgress:
    """A table of the machines that is drawn anew as they change, below the job's output."""

    def __init__(self, session: Session, connection: Connection, job: Record, live: Live) -> None:
        self._session, self._connection, self._job, self._live = session, connection, job, live
        self._lock = threading.Lock()
        self._pending = ""
        # Its put may interrupt itself, as the handler of a signal does.
        self._notes: queue.SimpleQueue[Text] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._painter = threading.Thread(target=self._paint_on, daemon=True)
        self._painter.start()

    def show(self, event: Record) -> None:
        """Ask how the job stands now, and draw it; what the table does not show is a line."""
        from rich.text import Text

        if event["kind"] in _LIVE_LINES and (line := line_of(event)):
            self._notes.put(Text(visible(line), style="dim"))
        with contextlib.suppress(SyndicateError):  # the next event will tell
            self._job = self._connection.get(f"/v1/jobs/{self._job['job']}")["job"]
            self._live.update(self.picture())

    def say(self, text: str) -> None:
        """Say something above the table, where it stays."""
        from rich.text import Text

        self._notes.put(Text.from_ansi(text.lstrip("\n")))

    def picture(self) -> Any:
        """What is drawn."""
        from rich.console import Group
        from rich.text import Text

        from syndicate.cli.listings import MACHINES
        from syndicate.cli.output import make_table

        job = self._job
        state = job["outcome"] or job["state"]
        head = Text.assemble(
            f"job {job['job']} ", (state, STYLES.get(state, "")), f"  {visible(job['reason'])}"
        )
        if not job["machines"]:
            return head
        columns = [column for column in MACHINES.columns if column.title in _LIVE_COLUMNS]
        return Group(head, make_table(columns, job["machines"], fitted=True))

    def write(self, text: str) -> None:
        """Print it above the table, a little later: with many lines at once, since each printing
        draws the table anew.
        """
        if not sys.stdout.isatty():
            write_out(text)
            return
        with self._lock:
            self._pending += text

    def close(self) -> None:
        """Print what is left."""
        self._ended.set()
        self._painter.join()

    def _paint_on(self) -> None:
        while not self._ended.wait(PAINT):
            self._paint()
        self._paint()

    def _paint(self) -> None:
        from rich.text import Text

        with self._lock:
            lines, end, self._pending = self._pending.rpartition("\n")
        if end:
            self._live.console.print(Text.from_ansi(lines), soft_wrap=True)
        with contextlib.suppress(queue.Empty):
            while True:
                self._live.console.print(self._notes.get_nowait(), soft_wrap=True)


_LIVE_LINES = frozenset({"fault", "client-finished"})
_LIVE_COLUMNS = frozenset({"MACHINE", "VOLUNTEER", "ADDRESS", "STATE", "EXIT", "LOG"})


def follow(session: Session, job: Record, *, output: bool) -> Record:
    """Watch a job until it is finished.

    :param output: whether to print what its machines print.
    :returns: how it ended, as the API tells it.
    """
    connection = session.connection
    connection.patience = PATIENCE
    other = connection.another()
    with _progress(session, other, job) as progress:
        if output:
            _print_output(session, connection, other, job, progress)
        else:
            for event in streams.events(connection, job["job"], job["events"]):
                progress.show(event)
    other.close()
    return session.job(str(job["job"]))


@contextlib.contextmanager
def _progress(session: Session, connection: Connection, job: Record) -> Iterator[IProgress]:
    if not (sys.stderr.isatty() and session.colored(sys.stderr)):
        yield PlainProgress(session)
        return
    from rich.live import Live

    from syndicate.cli.output import session_console

    console = session_console(session, stderr=True)
    with Live(console=console, transient=True, redirect_stdout=False) as live:
        progress = LiveProgress(session, connection, job, live)
        live.update(progress.picture())
        session.speaker = progress.say
        try:
            yield progress
        finally:
            session.speaker = None
            progress.close()


def _print_output(
    session: Session, connection: Connection, other: Connection, job: Record, progress: IProgress
) -> None:
    """Print the job's output here, while another thread shows what happens."""
    stopping = threading.Event()

    def watch() -> None:
        with contextlib.suppress(SyndicateError):  # the one who prints the output meets it too
            for event in streams.events(other, job["job"], job["events"]):
                if stopping.is_set():
                    return
                progress.show(event)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    terminal = sys.stdout.isatty()
    clients = job["clients"]
    slaves = job["machines_wanted"] - 1
    names = ["master", *(f"slave[{n}]" for n in range(slaves))]
    names += [f"client[{n}]" for n in range(clients)]
    printer = LogPrinter(
        progress.write, names=names, colored=session.colored(sys.stdout), raw=not terminal
    )
    try:
        for record in streams.log_lines(connection, job["job"], {"follow": 1}):
            printer.print(record)
        watcher.join(5.0)
    finally:
        stopping.set()
        printer.close()


def tell_end(session: Session, job: Record) -> None:
    """Say how a job ended."""
    outcome = job["outcome"]
    after = f" after {lasted(job)}" if job["started_at"] else ""
    words = click.style(outcome, fg=STYLES.get(outcome), bold=True)
    session.say(f"Job {job['job']} {words}{after}: {visible(job['reason'])}")
