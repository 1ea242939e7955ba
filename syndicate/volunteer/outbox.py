"""What a volunteer has to tell and may not forget: on its disk until a manager has stored it.

Reports of ended targets are sent again and again until they are acknowledged, over any number of
connections, managers, and starts of the daemon. Beside them lie the last part that was given back,
which goes with every hello until the next one comes, and the highest term that was obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from syndicate.domain.errors import Invalid
from syndicate.durable import UNFINISHED, replace_file
from syndicate.plain import from_plain, to_plain
from syndicate.volunteer.invocation import key_of
from syndicate.wire.interface import EndReport, GivenBack

log = Logger()

T = TypeVar("T")

_REPORT = ".report"
_GIVEN = "given-back"
_TERM = "term"

Key = tuple[int, int, str, int]


@attrs.define(eq=False)
class Outbox:
    """Small files below one directory; each is whole or not there.

    :param aside: calls a function that waits for the disk, so that nobody else has to; fires
        when it is done.
    """

    _directory: Path
    _aside: Callable[..., Deferred[Any]]
    #: The highest term that was obeyed.
    term: int = attrs.field(init=False, default=0)
    gave_back: GivenBack | None = attrs.field(init=False, default=None)
    _reports: dict[Key, EndReport] = attrs.field(init=False, factory=dict)
    #: Why what is to be kept is in memory alone; empty while the disk takes it.
    problem: str = attrs.field(init=False, default="")

    def load(self) -> None:
        """Take over what a former run of the daemon has left.

        :raises OSError: the directory cannot be made or read.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for draft in self._directory.glob(f"*{UNFINISHED}"):
            draft.unlink()
        reports = [self._read(path, EndReport) for path in self._directory.glob(f"*{_REPORT}")]
        for report in sorted((r for r in reports if r is not None), key=_key):
            self._reports[_key(report)] = report
        self.gave_back = self._read(self._directory / _GIVEN, GivenBack)
        self.term = self._read(self._directory / _TERM, int) or 0

    @property
    def reports(self) -> tuple[EndReport, ...]:
        """What no manager has acknowledged, the oldest first."""
        return tuple(self._reports.values())

    async def add(self, report: EndReport) -> None:
        """Keep a report; over once it would survive a crash."""
        self._reports[_key(report)] = report
        await self._write(_name(report), report)

    async def acknowledged(self, report: EndReport) -> None:
        """A manager has stored a report: forget it."""
        self._reports.pop(_key(report), None)
        try:
            await self._aside(_remove, self._directory / _name(report))
        except OSError as error:
            # It will be told once more, which does no harm.
            self._complain(error)

    async def give_back(self, given: GivenBack) -> None:
        """Remember what was given back last; over once it would survive a crash."""
        self.gave_back = given
        await self._write(_GIVEN, given)

    def forget_given(self) -> None:
        """A manager has shown that it knows what was given back: it has given the next part."""
        self.gave_back = None
        _remove(self._directory / _GIVEN)

    def obey(self, term: int) -> None:
        """Remember that a term was obeyed; durable at once, as no lower one may be obeyed ever
        after. It happens once for each start of a manager.
        """
        if term > self.term:
            self.term = term
            try:
                replace_file(self._directory / _TERM, json.dumps(term).encode())
            except OSError as error:
                self._complain(error)

    async def _write(self, name: str, value: object) -> None:
        content = json.dumps(to_plain(value)).encode()
        try:
            await self._aside(replace_file, self._directory / name, content)
        except OSError as error:
            self._complain(error)
        else:
            self.problem = ""

    def _complain(self, error: OSError) -> None:
        self.problem = f"{self._directory} takes no reports: {error.strerror}."
        log.error("{why} They are kept in memory until the manager has them.", why=self.problem)

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            return from_plain(json.loads(path.read_text()), kind)
        except FileNotFoundError:
            return None
        except (ValueError, Invalid) as error:
            # Written by another version, or damaged: it says nothing any more.
            log.error("{path} is set aside: {why}", path=str(path), why=str(error))
            path.rename(path.with_suffix(".unreadable"))
            return None


def _key(report: EndReport) -> Key:
    part = report.part
    return part.job, part.attempt, part.machine, report.run


def _name(report: EndReport) -> str:
    return f"{key_of(report.part)}.{report.run}{_REPORT}"


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
