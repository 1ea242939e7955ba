"""Processes that do not die, as those that wait for a disk for ever, make a volunteer unclean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from syndicate.domain.errors import NotClean
from syndicate.domain.job import Limits
from syndicate.sandbox.enclosure import DYING, Enclosure
from syndicate.sandbox.host import Host
from syndicate.sandbox.interface import Plot


class Undying:
    """A run that the kernel does not end; only what a destruction asks of it is here."""

    def kill(self) -> Deferred[None]:
        return Deferred()


def test_what_does_not_die_is_told_as_not_clean(tmp_path: Path) -> None:
    clock: Any = Clock()
    host = Host.at(clock, tmp_path, "v1", (20000, 20015), None, tuple)
    host.mode = "user"
    plot = Plot("1.1.master", "master", (), tmp_path / "source", "", Limits())
    run: Any = Undying()
    enclosure = Enclosure(plot, host, 20000, lambda gone: None)
    enclosure._run = run
    (tmp_path / "jobs/1.1.master").mkdir(parents=True)
    problems: list[Any] = []
    enclosure.destroy().addErrback(problems.append)
    clock.advance(DYING - 1)
    assert not problems
    clock.advance(1)
    (problem,) = problems
    with pytest.raises(NotClean, match=r"did not end within 20 s .* the directory .*1.1.master"):
        problem.raiseException()
