"""Output on its way to the manager."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from syndicate.domain.errors import Conflict, Forbidden, VolunteerLost
from syndicate.domain.log import Decoder
from syndicate.volunteer.spool import GATHER, PORTION, RETRY, Spool
from tests.support.tiny_disk import fill, tiny_disk


@attrs.define
class Receiver:
    """The manager's log, and what it answers."""

    held: bytearray = attrs.field(factory=bytearray)
    error: Exception | None = None
    calls: int = 0

    def append_log(
        self, job: int, attempt: int, machine: str, offset: int, data: bytes
    ) -> Deferred[int]:
        self.calls += 1
        if self.error is not None:
            return fail(self.error)
        if offset > len(self.held):
            return fail(Conflict("Beyond the end.", length=len(self.held)))
        self.held[offset:] = data
        return succeed(len(self.held))

    @property
    def printed(self) -> bytes:
        return b"".join(frame.data for frame in Decoder().feed(bytes(self.held)))


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path, clock: Clock, receiver: Receiver) -> Iterator[Spool]:
    made = Spool(clock, receiver, tmp_path / "log", 1, 1, "master")  # type: ignore[arg-type]
    yield made
    made.close()
    assert not clock.getDelayedCalls()
    assert not (tmp_path / "log").exists()


def fired(deferred: Deferred[Any]) -> bool:
    return bool(deferred.called)


def test_output_gathers_and_goes_together(spool: Spool, clock: Clock, receiver: Receiver) -> None:
    spool.write(1, b"one ")
    spool.write(2, b"two")
    assert receiver.calls == 0
    clock.advance(GATHER)
    assert receiver.printed == b"one two"
    assert receiver.calls == 1


def test_a_flush_does_not_wait_and_fires_when_all_is_there(
    spool: Spool, receiver: Receiver
) -> None:
    assert fired(spool.flush())
    data = b"x" * (3 * PORTION)
    spool.write(1, data)
    assert fired(spool.flush())
    assert receiver.printed == data


def test_a_manager_that_is_away_gets_everything_when_it_is_back(
    spool: Spool, clock: Clock, receiver: Receiver
) -> None:
    receiver.error = VolunteerLost("No manager.")
    spool.write(1, b"kept")
    flushed = spool.flush()
    clock.advance(RETRY)
    clock.advance(RETRY)
    assert not fired(flushed)
    receiver.error = None
    clock.advance(RETRY)
    assert fired(flushed)
    assert receiver.printed == b"kept"


def test_a_manager_that_has_lost_the_end_is_sent_it_again(
    spool: Spool, clock: Clock, receiver: Receiver
) -> None:
    spool.write(1, b"first")
    spool.flush()
    del receiver.held[-3:]
    spool.write(1, b"second")
    spool.flush()
    assert receiver.printed == b"firstsecond"


def test_a_log_that_nobody_wants_is_let_go(spool: Spool, receiver: Receiver) -> None:
    receiver.error = Forbidden("The attempt is over.")
    spool.write(1, b"late")
    assert fired(spool.flush())
    assert receiver.held == b""


def test_a_full_disk_keeps_what_came_before_and_says_so(
    spool: Spool, receiver: Receiver, tmp_path: Path
) -> None:
    spool.write(1, b"before")
    spool._file.close()
    spool._file = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115
    spool.write(1, b"after")
    assert "could not keep the output: No space left" in spool.problem
    spool._file.close()
    spool._file = (tmp_path / "log").open("r+b", buffering=0)
    assert fired(spool.flush())
    assert receiver.printed == b"before"


@pytest.mark.needs_root
def test_what_a_disk_took_the_half_of_is_not_taken_for_whole(
    tmp_path: Path, clock: Clock, receiver: Receiver
) -> None:
    with tiny_disk(tmp_path / "disk", 1 << 20) as disk:
        spool = Spool(clock, receiver, disk / "log", 1, 1, "master")  # type: ignore[arg-type]
        spool.write(1, b"a" * 3000)
        whole = spool.length
        filler = fill(disk)
        # The page that was begun takes a part of it; for the rest there is none.
        spool.write(1, b"b" * 3000)
        filler.unlink()
        spool.write(1, b"c" * 100)
        spool.flush()
        assert (spool.length, receiver.printed) == (whole, b"a" * 3000)
        assert "could not keep the output" in spool.problem
        spool.close()
