"""What a daemon under fuzzing logs, and what it holds."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import psutil

from syndicate.torture.usage import DESCRIPTORS, MEMORY, MEMORY_PER_MINUTE

#: Seconds for connections that were broken off to be given up; looks, five a second, at which no
#: more of them were, after which none will be.
SETTLING = 60.0
CALM = 15

#: What no line of a log may have.
BAD = re.compile(r"Traceback|Unhandled|#critical|incident|exception", re.IGNORECASE)


@attrs.frozen
class Usage:
    """What a daemon holds."""

    at: float
    memory: int
    descriptors: int

    def __str__(self) -> str:
        return f"{self.memory / (1 << 20):.1f} MiB, {self.descriptors} descriptors"


@attrs.define(eq=False)
class Watch:
    """One daemon.

    :param pid: of its process now.
    :param log: its log, which is read from its beginning.
    :param apart: where files are that it keeps open for what it was given, such as jobs' logs.
    """

    name: str
    pid: Callable[[], int]
    log: Path
    apart: Path
    usage: list[Usage] = attrs.field(factory=list)
    #: Bytes of the log that were looked at.
    _read: int = 0

    def said(self) -> Iterator[str]:
        """What it has logged since the last time that it should not have."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            said = file.read()
            self._read = file.tell()
        text = said.decode("utf-8", "replace")
        if found := BAD.search(text):
            at = found.start()
            yield f"{self.name} logged: {text[max(at - 1000, 0) : at + 3000]}"

    def measure(self) -> Usage:
        """What it holds, once that has settled, or has had its time to."""
        end, calm = time.monotonic() + SETTLING, 0
        before = self._descriptors()
        while calm < CALM and time.monotonic() < end:
            time.sleep(0.2)
            now = self._descriptors()
            calm, before = calm + 1 if now >= before else 0, now
        memory = psutil.Process(self.pid()).memory_info().rss
        self.usage.append(Usage(time.monotonic(), memory, self._descriptors()))
        return self.usage[-1]

    def _descriptors(self) -> int:
        count = 0
        for path in Path(f"/proc/{self.pid()}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += not os.readlink(path).startswith(str(self.apart))
        return count

    def flat(self) -> Iterator[str]:
        """What it holds more of than it did."""
        first, last = self.usage[0], self.usage[-1]
        minutes = (last.at - first.at) / 60
        if last.memory - first.memory > MEMORY + MEMORY_PER_MINUTE * minutes:
            yield f"{self.name} has grown within {minutes:.1f} minutes: {first}; then {last}"
        if last.descriptors - first.descriptors > DESCRIPTORS:
            yield f"{self.name} has more descriptors: {first}; then {last}"

    def told(self) -> str:
        """Its figures."""
        return (
            f"{self.name} had {self.usage[0]}, once warm, and has {self.usage[-1]}; "
            f"it logged {self.log.stat().st_size >> 10} KiB"
        )
