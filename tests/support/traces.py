"""What a test can leave behind, and how it is found."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import psutil
from twisted.logger import ILogObserver, LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.whose import Others

#: Everything we start inherits this variable, so that it is known as ours wherever it ends up.
MARK = "SYNDICATE_TEST_RUN"

#: What the sandbox and the lab name the things they make in the kernel.
OURS = "syn"

#: Where this run of the tests has its temporary folders; set when it begins.
place: Path = Path("/nonexistent")

#: Where the kernel shows network namespaces by name.
NETNS = "/run/netns/"

#: What there is of each kind of thing, by name of the kind.
Traces = Mapping[str, frozenset[Any]]


@implementer(ILogObserver)
@attrs.define(eq=False)
class LoggedErrors:
    """The failures that were logged during a test; those it expected must be flushed."""

    failures: list[Failure] = attrs.field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.failures.append(failure)

    def flush(self, *types: type[BaseException]) -> list[BaseException]:
        """Take out the errors of these types, or all: they were meant to be logged."""
        wanted = types or (BaseException,)
        flushed = [failure for failure in self.failures if failure.check(*wanted)]
        self.failures = [failure for failure in self.failures if failure not in flushed]
        return [failure.value for failure in flushed if failure.value is not None]


@attrs.frozen
class Process:
    """A process; the time it began tells it from a later one with the same number."""

    pid: int
    began: float
    words: str = attrs.field(eq=False)

    @classmethod
    def of(cls, process: psutil.Process) -> Process:
        """How it stands now."""
        if process.status() == psutil.STATUS_ZOMBIE:
            words = f"{process.name()} (ended, and nobody waited for it)"
        else:
            words = " ".join(process.cmdline()) or process.name()
        return cls(process.pid, process.create_time(), words)


def _reactor() -> Any:
    # Imported late, since pytest-twisted chooses which one is installed.
    from twisted.internet import reactor

    return reactor


def timers() -> frozenset[Any]:
    """Calls that the reactor has yet to make."""
    return frozenset(_reactor().getDelayedCalls())


def sockets() -> frozenset[Any]:
    """What the reactor listens, reads or writes on, its own wakers apart."""
    reactor = _reactor()
    watched = {*reactor.getReaders(), *reactor.getWriters()}
    return frozenset(watched - reactor._internalReaders)


def children() -> frozenset[Process]:
    """Our child processes."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()  # the common case, and much cheaper than a walk through /proc
    return _described(psutil.Process().children(recursive=True))


def marked_processes() -> frozenset[Process]:
    """Processes anywhere that inherited our mark."""
    mark = f"{MARK}={os.environ[MARK]}".encode()

    def is_ours(process: psutil.Process) -> bool:
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{process.pid}/environ").read_bytes()
            return mark in environ.split(b"\0") and process.pid != os.getpid()
        return False

    return _described(filter(is_ours, psutil.process_iter()))


def _described(processes: Iterable[psutil.Process]) -> frozenset[Process]:
    described = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            described.add(Process.of(process))
    return frozenset(described)


#: What is in the paths of the temporary folders of other runs of the tests, and of benchmarks.
ELSEWHERE = ("/pytest-", "/syndicate-bench-")


def mounts() -> frozenset[str]:
    """Mount points that a test may have made: in its temporary folders, or with our name."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    others = Others(place)
    return frozenset(
        p
        for p in points
        if p.startswith(f"{place}/")
        or (
            f"/{OURS}" in p
            and not any(mark in p for mark in ELSEWHERE)
            and not others.have(p.removeprefix(NETNS))
        )
    )


def kernel_things() -> frozenset[Path]:
    """Network namespaces, network interfaces and cgroups with our name."""
    places = ["/run/netns", "/sys/class/net", "/sys/fs/cgroup", "/sys/fs/cgroup/*"]
    found = (path for place in places for path in Path("/").glob(f"{place[1:]}/{OURS}*"))
    others = Others(place)
    return frozenset(path for path in found if not others.have(path.name) and not _in_use(path))


def _in_use(path: Path) -> bool:
    """Whether a control group holds processes of somebody else."""
    if not (path / "cgroup.procs").exists():
        return False
    mine = {process.pid for process in marked_processes()}
    with contextlib.suppress(OSError):
        for procs in path.rglob("cgroup.procs"):
            if any(int(pid) not in mine for pid in procs.read_text().split()):
                return True
    return False


#: Where to look after every test, and what else a test can reach as root or with real daemons.
EVERYWHERE: Mapping[str, Callable[[], frozenset[Any]]] = {
    "timers": timers,
    "sockets": sockets,
    "processes": children,
}
DEEPER: Mapping[str, Callable[[], frozenset[Any]]] = {
    "processes elsewhere": marked_processes,
    "mounts": mounts,
    "namespaces, interfaces or cgroups": kernel_things,
}


def look(deeper: bool) -> Traces:
    """All there is now."""
    places = {**EVERYWHERE, **DEEPER} if deeper else EVERYWHERE
    return {kind: find() for kind, find in places.items()}


#: Each gives the numbers of processes that a fixture of more than one test keeps running, and
#: ends; they and their descendants are nobody's leftovers meanwhile.
KEEPERS: list[Callable[[], Iterable[int]]] = []


@contextlib.contextmanager
def keeping(pids: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Let processes stay until the block is left; see `KEEPERS`."""
    KEEPERS.append(pids)
    try:
        yield
    finally:
        KEEPERS.remove(pids)


def left_behind(before: Traces) -> Traces:
    """What is there now and was not before; empty when all is clean."""
    places = {**EVERYWHERE, **DEEPER}
    found = {kind: places[kind]() - there for kind, there in before.items()}
    kept = {pid for keeper in KEEPERS for pid in keeper()}
    for kind in ("processes", "processes elsewhere"):
        if found.get(kind) and kept:
            found[kind] = frozenset(p for p in found[kind] if not _is_below(p.pid, kept))
    return {kind: things for kind, things in found.items() if things}


def _is_below(pid: int, kept: set[int]) -> bool:
    with contextlib.suppress(psutil.Error):
        return pid in kept or any(parent.pid in kept for parent in psutil.Process(pid).parents())
    return True  # It has ended meanwhile.


def sweep(left: Traces) -> None:
    """Take away what may disturb the tests that follow."""
    for timer in left.get("timers", ()):
        timer.cancel()
    for socket in left.get("sockets", ()):
        _reactor().removeReader(socket)
        _reactor().removeWriter(socket)
        with contextlib.suppress(Exception):  # whatever it is, it is about to be reported
            socket.connectionLost(Failure(ConnectionError("left behind by a test")))
    for kind in ("processes", "processes elsewhere"):
        for process in left.get(kind, ()):
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(process.pid)
                if found.create_time() == process.began:
                    found.kill()
                    found.wait(timeout=1)
