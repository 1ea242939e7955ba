"""The hand that hurts a lab, and the supervisor that starts again what has ended."""

from __future__ import annotations

import heapq
import itertools
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs

from syndicate.domain.errors import Conflict, SyndicateError, Timeout
from syndicate.lab import processes
from syndicate.lab.cluster import Lab
from syndicate.lab.crew import identity_of, runs
from syndicate.lab.disks import Disks
from syndicate.lab.processes import Identity
from syndicate.torture.facts import Rule, Span, Violation
from syndicate.torture.schedule import MANAGER, Act, Deed

#: Seconds after which a daemon that has ended is started again, as systemd's RestartSec does.
RESTART = 0.5
#: Seconds after a disk was full in which a daemon may still end of it.
AFTERMATH = 5.0
#: Seconds between two looks at the daemons.
LOOK = 0.05

#: Priority of our rules: before all of the daemons' own.
_CUT = """\
table ip torture {{
  chain in {{ type filter hook input priority -400; ip saddr {0} counter drop; }}
  chain out {{ type filter hook output priority -400; ip daddr {0} counter drop; }}
}}
"""


@attrs.define
class Supervisor:
    """Keeps the daemons of a lab running, and does to them what a schedule says.

    :param clock: seconds since the torture began.
    :param say: is told what is done.
    """

    _lab: Lab
    _disks: Disks
    _clock: Callable[[], float]
    _say: Callable[[str], None]
    #: Whether daemons were made to end by themselves.
    _mortal: bool = False
    violations: list[Violation] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    #: When disks were full.
    full: list[Span] = attrs.field(factory=list)
    #: How many daemons each host has had, and when the present one was started (monotonic).
    lives: dict[str, int] = attrs.field(factory=dict)
    born: dict[str, float] = attrs.field(factory=dict)
    #: When a daemon that is not there is to be started, by our clock.
    _due: dict[str, float] = attrs.field(factory=dict)
    #: The daemons that we have ended ourselves.
    _killed: set[Identity] = attrs.field(factory=set)
    #: What is to be undone: when, a number that tells equals apart, what.
    _undoings: list[tuple[float, int, Callable[[], None]]] = attrs.field(factory=list)
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)

    def begin(self) -> None:
        """Take over the daemons of a lab that has just come up."""
        for host in self._lab.hosts:
            self.lives[host] = 1
            self.born[host] = time.monotonic()

    def tend(self) -> None:
        """Undo what is due, and start what has ended."""
        now = self._clock()
        while self._undoings and self._undoings[0][0] <= now:
            heapq.heappop(self._undoings)[2]()
        for name, host in self._lab.hosts.items():
            if runs(host):
                continue
            if name not in self._due:
                self._note_end(name, identity_of(host))
                self._due[name] = now + RESTART
            elif self._due[name] <= now:
                del self._due[name]
                self._lab.launch(name)
                self.lives[name] += 1
                self.born[name] = time.monotonic()
                self.counts["daemons started again"] += 1

    def undo_all(self) -> None:
        """Undo everything at once."""
        while self._undoings:
            heapq.heappop(self._undoings)[2]()

    def _note_end(self, name: str, identity: Identity | None) -> None:
        if identity in self._killed:
            return
        self.counts["daemons that ended by themselves"] += 1
        if self._mortal:
            return
        now = time.time()
        if any(span.host == name and span.meets(now - AFTERMATH, now) for span in self.full):
            return
        self.violations.append(
            Violation(
                Rule.ALIVE,
                f"the daemon of {name} ended by itself in its life {self.lives[name]}",
                self._last_words(name),
            )
        )

    def _last_words(self, name: str) -> str:
        words = []
        for file in ("output", "log"):
            path: Path = self._lab.directory / name / file
            if path.exists():
                words += path.read_text(errors="replace").splitlines()[-12:]
        return "\n".join(words)

    # Deeds.

    def do(self, act: Act) -> None:
        """Let a blow fall."""
        lasts = f" for {act.lasts:.1f} s" if act.lasts else ""
        self._say(f"{act.deed.value} {act.host}{lasts}")
        self.counts[f"{act.deed.value} {'manager' if act.host == MANAGER else 'volunteer'}"] += 1
        match act.deed:
            case Deed.KILL:
                self._kill(act.host)
            case Deed.STOP:
                self._stop(act)
            case Deed.CUT:
                self._cut(act)
            case Deed.UNPLUG:
                self._unplug(act)
            case Deed.FILL:
                self._fill(act)
            case Deed.REBOOT:
                self._reboot(act.host)

    def _later(self, act: Act, undo: Callable[[], None]) -> None:
        at = self._clock() + act.lasts
        heapq.heappush(self._undoings, (at, next(self._numbers), undo))

    def _mark_killed(self, name: str) -> None:
        identity = identity_of(self._lab.host(name))
        if identity is not None:
            self._killed.add(identity)

    def _kill(self, name: str) -> None:
        self._mark_killed(name)
        try:
            self._lab.kill(name, signal.SIGKILL)
        except Conflict:
            return  # it has ended before
        except Timeout as error:
            self.violations.append(Violation(Rule.ALIVE, f"{name} cannot be killed", str(error)))

    def _stop(self, act: Act) -> None:
        identity = identity_of(self._lab.host(act.host))
        if identity is not None and processes.send(identity, signal.SIGSTOP):
            self._later(act, lambda: _go_on(identity))

    def _inside(self, name: str, *words: str, text: str | None = None) -> None:
        command = processes.in_namespace(self._lab.host(name).namespace, words)
        run = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if run.returncode:
            # Not a defect of what is tortured: the torture itself has failed.
            raise RuntimeError(f"`{' '.join(words)}` on {name} failed: {run.stderr.strip()}")

    def _cut(self, act: Act) -> None:
        manager = self._lab.host(MANAGER).address
        self._inside(act.host, "nft", "-f", "-", text=_CUT.format(manager))
        self._later(act, lambda: self._inside(act.host, "nft", "delete", "table", "ip", "torture"))

    def _unplug(self, act: Act) -> None:
        self._inside(act.host, "ip", "link", "set", "eth0", "down")
        self._later(act, lambda: self._inside(act.host, "ip", "link", "set", "eth0", "up"))

    def _fill(self, act: Act) -> None:
        self._disks.fill(act.host)
        span = Span(act.host, "full", time.time(), time.time() + act.lasts + AFTERMATH)
        self.full.append(span)
        self._later(act, lambda: self._disks.empty(act.host))

    def _reboot(self, name: str) -> None:
        self._mark_killed(name)
        wipe = name != MANAGER
        try:
            self._lab.reboot(name, (lambda: self._disks.wipe(name)) if wipe else lambda: None)
        except SyndicateError as error:
            what = f"{name} cannot be rebooted: something of it does not go"
            self.violations.append(Violation(Rule.NOTHING_LEFT, what, str(error)))


def _go_on(identity: Identity) -> None:
    processes.send(identity, signal.SIGCONT)
