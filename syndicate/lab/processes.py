"""The processes of a lab: started in a namespace, known for certain, ended for certain."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

NAMESPACES = Path("/run/netns")

#: The children of this process that are ours to reap; those of `Lab.exec` are their caller's.
_started: set[int] = set()


@attrs.frozen
class Identity:
    """A process, never mistaken for a later one with the same number."""

    pid: int
    #: When it began, in clock ticks since boot.
    began: int


def identify(pid: int) -> Identity | None:
    """Who that number belongs to now; None when nobody, or only a zombie, has it."""
    state, identity = _look(pid)
    return None if state in "ZX" else identity


def _look(pid: int) -> tuple[str, Identity | None]:
    """The state of a process, ``X`` if there is none, and who it is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "X", None
    # The name stands in brackets and may hold any character; the fields begin after it.
    fields = stat[stat.rindex(")") + 2 :].split()
    return fields[0], Identity(pid, int(fields[19]))


def is_alive(identity: Identity) -> bool:
    """Whether it still runs."""
    return identify(identity.pid) == identity


def start(
    namespace: str,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    output: Path,
) -> Identity:
    """Start a daemon in a network namespace, in a session of its own.

    It is entered by nsenter, which does nothing else; ``ip netns exec`` would mount another
    ``/sys``, in which cgroup paths are not what they are outside.
    """
    with output.open("ab") as file:
        process = subprocess.Popen(
            in_namespace(namespace, argv),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    # It is reaped by number, in `reap`; Popen would complain that it is never asked again.
    process.returncode = 0
    _started.add(process.pid)
    identity = identify(process.pid)
    return identity or Identity(process.pid, 0)


def in_namespace(namespace: str, argv: Sequence[str]) -> list[str]:
    """The command that runs another one in a network namespace."""
    return ["nsenter", f"--net={NAMESPACES / namespace}", "--", *argv]


def reap() -> None:
    """Take note of the ends of processes that were started here; without waiting for any."""
    for pid in tuple(_started):
        ended = pid
        with contextlib.suppress(ChildProcessError):
            ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended:
            _started.discard(pid)


@attrs.frozen
class Spaces:
    """Some network namespaces, known by name and by what the kernel knows them by; the latter
    still tells who is inside when the names are gone.
    """

    _names: frozenset[str]
    _inodes: frozenset[int]

    @classmethod
    def named(cls, names: Iterable[str]) -> Spaces:
        """Those of these names."""
        names = frozenset(names)
        paths = [NAMESPACES / name for name in names]
        return cls(names, frozenset(path.stat().st_ino for path in paths if path.exists()))

    def processes(self) -> list[Identity]:
        """All that are inside, the daemons' and their jobs', and those about to enter."""
        found = []
        for pid in all_pids():
            with contextlib.suppress(OSError):
                inside = os.stat(f"/proc/{pid}/ns/net").st_ino in self._inodes
                if (inside or self._enters(pid)) and (identity := identify(pid)):
                    found.append(identity)
        return found

    def _enters(self, pid: int) -> bool:
        """Whether it is the nsenter of `in_namespace` that has not done its work yet."""
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 2)
        if len(words) < 3 or words[0] != b"nsenter":
            return False
        return os.fsdecode(words[1]).removeprefix(f"--net={NAMESPACES}/") in self._names


def all_pids() -> Iterator[int]:
    """The numbers of all processes there are now."""
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def end(identities: Iterable[Identity], grace: float) -> None:
    """Ask processes to end, and kill those that still live when their grace is over.

    :param grace: seconds; 0 kills at once.
    """
    first = signal.SIGTERM if grace else signal.SIGKILL
    handles = [(identity, handle) for identity in identities if (handle := _open(identity))]
    try:
        for _, handle in handles:
            _signal(handle, first)
        left = _wait([handle for _, handle in handles], grace)
        for handle in left:
            _signal(handle, signal.SIGKILL)
        # A killed process may take a while to give back its memory, but not for ever.
        _wait(left, 10.0)
    finally:
        for _, handle in handles:
            os.close(handle)
        reap()


def send(identity: Identity, number: int) -> bool:
    """Send a signal to a process; False when it is gone."""
    handle = _open(identity)
    if handle is None:
        return False
    try:
        return _signal(handle, number)
    finally:
        os.close(handle)


def await_end(identity: Identity, seconds: float) -> bool:
    """Wait for a process to end; False when it has not in that time."""
    handle = _open(identity)
    if handle is None:
        reap()
        return True
    try:
        return not _wait([handle], seconds)
    finally:
        os.close(handle)
        reap()


def _open(identity: Identity) -> int | None:
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Only now the number is pinned, so only now it can be compared. It may look like a zombie
    # already while threads of it go on ending: they too are waited for.
    if _look(identity.pid)[1] != identity:
        os.close(handle)
        return None
    return handle


def _signal(handle: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True


def _wait(handles: Sequence[int], seconds: float) -> list[int]:
    """Those of the processes that have not ended after so many seconds."""
    waiting = set(handles)
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + seconds
    while waiting:
        left = deadline - time.monotonic()
        for handle, _ in poll.poll(max(0, round(left * 1000))):
            poll.unregister(handle)
            waiting.discard(handle)
        if left <= 0:
            break
    return list(waiting)
