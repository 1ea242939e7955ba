"""Hearing at once that the memory of a control group of version 1 is used up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorFDSet


class OomWatch(FileDescriptor):
    """A reader of the event that a version-1 group fires when its memory is used up."""

    def __init__(self, group: Path, when_out: Callable[[], None], reactor: IReactorFDSet) -> None:
        super().__init__(reactor)
        self._when_out = when_out
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(group / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            (group / "cgroup.event_control").write_text(f"{self._event} {control}")
        except OSError:
            os.close(self._event)
            raise
        finally:
            os.close(control)
        self.startReading()

    def fileno(self) -> int:
        return self._event

    def doRead(self) -> None:
        os.eventfd_read(self._event)
        # It also fires when the group is removed; by then nobody listens any more.
        self._when_out()

    def close(self) -> None:
        """Listen no more."""
        if self._event >= 0:
            self.stopReading()
            os.close(self._event)
            self._event = -1
