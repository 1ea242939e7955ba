"""What a volunteer has to tell lies on its disk until a manager has stored it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock

from syndicate.domain.errors import SyndicateError, VolunteerLost
from syndicate.volunteer.outbox import Outbox
from syndicate.volunteer.post import RETRY, Post
from syndicate.wire.interface import EndReport, GivenBack, IManager, Part, Released
from tests.support.tiny_disk import Ext4, fill, tiny_disk


def report(job: int = 1, machine: str = "slave[0]", run: int = 1, **values: Any) -> EndReport:
    return EndReport(Part(job, 1, machine, 1), run, exit_code=0, **values)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def opened(directory: Path, aside: Any = maybeDeferred) -> Outbox:
    outbox = Outbox(directory, aside)
    outbox.load()
    return outbox


def now(doing: Any) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(doing).addBoth(found.append)
    assert found, "it waits"
    return found[0]


class Taker:
    """A manager that takes reports, or does not."""

    def __init__(self) -> None:
        self.told: list[EndReport] = []
        self.error: SyndicateError | None = None

    def ended(self, report: EndReport) -> Deferred[None]:
        self.told.append(report)
        return succeed(None) if self.error is None else fail(self.error)


def as_manager(taker: Taker) -> IManager:
    manager: Any = taker
    return manager  # type: ignore[no-any-return]


def test_everything_is_there_again_after_a_crash(directory: Path) -> None:
    outbox = opened(directory)
    for each in (report(2), report(1, "master"), report(1, run=2), report(1)):
        now(outbox.add(each))
    now(outbox.give_back(GivenBack(Part(1, 1, "slave[0]", 3), Released(7, "a" * 64), "a mount")))
    outbox.obey(5)
    outbox.obey(4)
    again = opened(directory)
    assert again.reports == (report(1, "master"), report(1), report(1, run=2), report(2))
    assert again.gave_back == outbox.gave_back
    assert again.term == 5
    now(again.acknowledged(report(1)))
    again.forget_given()
    third = opened(directory)
    assert report(1) not in third.reports
    assert third.gave_back is None


def test_what_a_crash_left_half_written_is_nothing(directory: Path) -> None:
    outbox = opened(directory)
    now(outbox.add(report()))
    (directory / "9.1.master.1.report.new").write_text('{"part": ')
    (directory / "8.1.master.1.report").write_text('{"part": ')
    assert opened(directory).reports == (report(),)
    assert [path.name for path in directory.glob("8.*")] == ["8.1.master.1.unreadable"]
    assert not list(directory.glob("*.new"))


def test_a_full_disk_does_not_keep_a_report_from_being_told(directory: Path) -> None:
    def full(function: Any, *arguments: Any) -> Deferred[Any]:
        return fail(OSError(28, "No space left on device"))

    outbox = opened(directory, full)
    post, taker = Post(Clock(), outbox), Taker()
    post.connected(as_manager(taker))
    Deferred.fromCoroutine(post.report(report())).addErrback(lambda _: None)
    assert taker.told == [report()]
    assert "No space left" in outbox.problem


def test_a_report_is_told_until_it_is_taken_over_any_number_of_managers(directory: Path) -> None:
    clock = Clock()
    outbox = opened(directory)
    post, first, second = Post(clock, outbox), Taker(), Taker()
    over: list[Any] = []
    Deferred.fromCoroutine(post.report(report())).addBoth(over.append)
    assert outbox.reports == (report(),)
    first.error = VolunteerLost("The link broke.")
    post.connected(as_manager(first))
    post.parted()
    clock.advance(RETRY)
    assert first.told == [report()]
    assert not over
    post.connected(as_manager(second))
    assert second.told == [report()]
    assert over == [None]
    assert opened(directory).reports == ()


def test_reports_of_a_former_run_are_told_when_there_is_a_manager(directory: Path) -> None:
    now(opened(directory).add(report(3)))
    outbox = opened(directory)
    post, taker = Post(Clock(), outbox), Taker()
    assert outbox.reports == (report(3),)
    post.connected(as_manager(taker))
    assert taker.told == [report(3)]
    assert opened(directory).reports == ()


def test_nobody_has_to_wait_for_a_report_to_be_told(directory: Path) -> None:
    outbox = opened(directory)
    post, taker = Post(Clock(), outbox), Taker()
    waiting = Deferred.fromCoroutine(post.report(report()))
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    post.connected(as_manager(taker))
    assert taker.told == [report()]
    assert outbox.reports == ()


@pytest.mark.needs_root
def test_a_disk_that_was_full_keeps_nothing_of_a_report_that_was_told(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        outbox = opened(disk / "outbox")
        fill(disk)
        now(outbox.add(report()))
        assert outbox.reports == (report(),)
        now(outbox.acknowledged(report()))
        assert [path.name for path in (disk / "outbox").iterdir()] == []


@pytest.mark.needs_root
def test_what_is_kept_survives_a_power_cut(tmp_path: Path) -> None:
    given = GivenBack(Part(1, 1, "slave[0]", 1), Released())
    with Ext4(tmp_path / "disk", 32 << 20) as disk:
        outbox = opened(disk.place / "outbox")
        now(outbox.add(report(7)))
        now(outbox.give_back(given))
        outbox.obey(9)
        with disk.after_a_power_cut() as after:
            found = opened(after / "outbox")
    assert (found.reports, found.gave_back, found.term) == ((report(7),), given, 9)
