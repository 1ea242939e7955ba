"""A lease that is over while it waits for its turn ends only what is still its own."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from syndicate.domain.fault import Links
from syndicate.volunteer.hurt import Hurt
from syndicate.wire.interface import FaultOrder, Part


@attrs.define
class Target:
    """A program, as little of it as faults need."""

    alive: bool = True

    def kill(self) -> Deferred[None]:
        self.alive = False
        return succeed(None)

    def processes(self) -> list[int]:
        return [1] if self.alive else []


@attrs.define
class SlowGuard:
    """One whose packet filter takes its time."""

    busy: Deferred[float] = attrs.field(factory=Deferred)

    def apply(self, links: Links) -> Deferred[float]:
        return self.busy

    def verify(self, links: Links) -> Deferred[tuple[()]]:
        return succeed(())


@attrs.define
class Machine:
    """What is hurt."""

    enclosure: Any = None
    run: Any = attrs.field(factory=Target)
    slow: Any = attrs.field(factory=SlowGuard)

    @property
    def runs(self) -> bool:
        return bool(self.run.alive)

    async def begin(self) -> None:
        self.run = Target()

    def guard(self) -> Deferred[Any]:
        return succeed(self.slow)


def test_the_lease_of_a_kill_does_not_revive_what_was_killed_again_for_good() -> None:
    clock, machine = Clock(), Machine()
    hurt = Hurt(clock, clock.seconds, machine)
    part = Part(1, 1, "slave[0]", 1)
    done = [hurt.inflict(FaultOrder(part, 1, "kill", lease=5.0))]
    done.append(hurt.inflict(FaultOrder(part, 2, "links", links=Links())))
    done.append(hurt.inflict(FaultOrder(part, 3, "kill")))
    clock.advance(5)  # the lease is over, and waits behind both
    machine.slow.busy.callback(0.0)
    assert all(each.called for each in done)
    assert not machine.runs
    hurt.stop()


def test_the_lease_of_a_kill_revives_what_nobody_has_killed_again() -> None:
    clock, machine = Clock(), Machine()
    hurt = Hurt(clock, clock.seconds, machine)
    part = Part(1, 1, "slave[0]", 1)
    hurt.inflict(FaultOrder(part, 1, "kill", lease=5.0))
    hurt.inflict(FaultOrder(part, 2, "links", links=Links()))
    clock.advance(5)
    before = machine.runs
    machine.slow.busy.callback(0.0)
    assert (before, machine.runs) == (False, True)
    hurt.stop()
