"""Processes that the benchmark starts, each ended by its own handle."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

#: Before the words of a command: the kernel ends it should we be killed.
WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")

#: Seconds that a process gets to end by itself.
GRACE = 5.0


@contextlib.contextmanager
def child(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that runs as long as the context at most, in a session of its own, so that
    Ctrl-C is ours to deal with.

    :param options: those of `subprocess.Popen`.
    """
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield process
    finally:
        end(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, kill it when it does not, and reap it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
