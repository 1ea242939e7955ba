"""Scripted ends of the wire: a fleet that notes what it is told, a worker that does as asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from syndicate.domain.errors import WrongVersion
from syndicate.domain.job import Limits
from syndicate.domain.volunteer import Facts
from syndicate.wire.interface import (
    PROTOCOL,
    Ask,
    EndReport,
    FaultDone,
    FaultOrder,
    Hello,
    Holding,
    IFleet,
    IManager,
    IVolunteer,
    IWorker,
    Part,
    PrepareOrder,
    Released,
    Welcome,
)

FACTS = Facts("10.0.0.1", 2, 1 << 30, "x86_64", "6.1", "memory")
PART = Part(1, 1, "slave[0]", 1)
ORDER = PrepareOrder(
    PART,
    "slave",
    "a" * 64,
    10,
    Limits(),
    (("master", "10.0.0.1"), ("slave[0]", "10.0.0.2")),
    (("KEY", "välue"),),
    ("*.json",),
)


@implementer(IFleet)
@attrs.define(eq=False)
class NotingFleet:
    """Welcomes everybody who speaks the protocol, and notes what is said."""

    said: list[Any] = attrs.field(factory=list)
    links: list[IVolunteer] = attrs.field(factory=list)
    answer: Callable[[], Deferred[Any]] = lambda: succeed(None)

    def welcome(self, hello: Hello, link: IVolunteer) -> Welcome:
        if hello.protocol != PROTOCOL:
            raise WrongVersion(f"Protocol {hello.protocol} is not {PROTOCOL}; upgrade.")
        self.said.append(hello)
        self.links.append(link)
        return Welcome(PROTOCOL, "test", 1, "session", 5.0, 15.0)

    def ended(self, name: str, report: EndReport) -> Deferred[None]:
        self.said.append((name, report))
        return self.answer()

    def clean(self, name: str, unclean: str) -> Deferred[None]:
        self.said.append((name, unclean))
        return self.answer()

    def ask(self, name: str, ask: Ask) -> Deferred[Any]:
        self.said.append((name, ask))
        return self.answer().addCallback(lambda _: {"you asked": ask.verb})

    def lost(self, link: IVolunteer, reason: str) -> None:
        self.said.append(("lost", link.name))
        self.links.remove(link)


@implementer(IWorker)
@attrs.define(eq=False)
class NotingWorker:
    """Notes its orders; answers them with ``answer``."""

    name: str = "v1"
    protocol: int = PROTOCOL
    holding: Holding | None = None
    orders: list[Any] = attrs.field(factory=list)
    managers: list[IManager] = attrs.field(factory=list)
    welcomes: list[Welcome] = attrs.field(factory=list)
    answer: Callable[[], Deferred[Any]] = lambda: succeed(None)

    def hello(self) -> Hello:
        return Hello(self.protocol, self.name, "boot", FACTS, self.holding)

    def welcomed(self, welcome: Welcome, manager: IManager) -> None:
        self.welcomes.append(welcome)
        self.managers.append(manager)

    def parted(self, reason: str) -> None:
        self.managers.clear()

    def prepare(self, order: PrepareOrder) -> Deferred[None]:
        self.orders.append(order)
        return self.answer()

    def start(self, part: Part) -> Deferred[None]:
        self.orders.append(("start", part))
        return self.answer()

    def inflict(self, order: FaultOrder) -> Deferred[FaultDone]:
        self.orders.append(order)
        return self.answer().addCallback(lambda _: FaultDone(1.5, 2.5, "seen"))

    def now(self) -> float:
        return 42.0

    def release(self, part: Part) -> Deferred[Released]:
        self.orders.append(("release", part))
        return self.answer().addCallback(lambda _: Released(9))


def failing(error: BaseException) -> Callable[[], Deferred[Any]]:
    """An answer that is an error."""
    return lambda: fail(error)
