"""A manager and volunteers in one process on one clock: every part is real but the outermost.

The store, blobs and sandboxes are those in memory, which pass the same contracts as the others;
the wire is `syndicate.wire.memory`. A test moves the clock and breaks what it likes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from syndicate.audit.memory import MemoryAudit
from syndicate.blobs.interface import IBlobStore, IBlobTransfer
from syndicate.blobs.memory import MemoryBlobStore, MemoryLogStore
from syndicate.client.interface import IHandle
from syndicate.credentials.authority import ensure_authority
from syndicate.credentials.issuing import VolunteerIssuer
from syndicate.credentials.registry import TokenRegistry
from syndicate.domain.errors import Forbidden, InvalidSource, SyndicateError
from syndicate.domain.job import Job, JobSpec, Limits
from syndicate.domain.volunteer import Facts
from syndicate.manager.liveness import Patience
from syndicate.manager.service import Manager
from syndicate.manager.site import Site
from syndicate.manager.user import User
from syndicate.network.interface import NetworkFacts
from syndicate.network.memory import MemoryFaults
from syndicate.sandbox.interface import ISourceInspector, SandboxFacts, SourceFacts
from syndicate.sandbox.memory import MemorySandbox
from syndicate.store.memory import MemoryLeadership, MemoryStore
from syndicate.volunteer.service import Session, Volunteer
from syndicate.wire.interface import IWorker
from syndicate.wire.memory import MemoryLink

ANN = User("ann", "user")
BOB = User("bob", "user")
STAFF = User("staff", "staff")
MAKEFILE = b"master:\nslave:\nclient:\n"
PATIENCE = Patience()
SITE = Site()


@implementer(ISourceInspector)
@attrs.define
class FixedInspector:
    """Finds in every source the Makefile that it was told of."""

    makefile: bytes = MAKEFILE
    problem: str = ""

    def inspect(self, path: Path) -> Deferred[SourceFacts]:
        if self.problem:
            return fail(InvalidSource(self.problem))
        return succeed(SourceFacts(1, len(self.makefile), self.makefile))

    def close(self) -> Deferred[None]:
        return succeed(None)


@implementer(IBlobTransfer)
@attrs.define(eq=False)
class DirectTransfer:
    """Carries bytes to the manager's stores with nothing in between."""

    manager: Manager
    name: str
    #: Set to break it.
    error: SyndicateError | None = None

    def download(self, sha256: str, size: int, store: IBlobStore) -> Deferred[Path]:
        if self.error is not None:
            return fail(self.error)
        return succeed(self.manager.blobs.path(sha256))

    def upload(self, path: Path, sha256: str) -> Deferred[None]:
        return Deferred.fromCoroutine(put(self.manager.blobs, path.read_bytes()))

    def append_log(
        self, job: int, attempt: int, machine: str, offset: int, data: bytes
    ) -> Deferred[int]:
        if self.error is not None:
            return fail(self.error)
        if not self.manager.carriage.owns(self.name, job, attempt, machine):
            return fail(Forbidden("This log is not yours."))
        length = self.manager.logs.append(job, attempt, machine, offset, data)
        self.manager.feed.publish(job)
        return succeed(length)

    def close(self) -> Deferred[None]:
        return succeed(None)


async def put(store: IBlobStore, data: bytes) -> None:
    sha256 = hashlib.sha256(data).hexdigest()
    if store.size(sha256) is None:
        writer = store.write(sha256, len(data))
        writer.write(data)
        await writer.finish()


class IssuerOnUse(VolunteerIssuer):
    """Makes its authority at the first signature."""

    def sign(self, *args: Any) -> Any:
        ensure_authority(self.directory, ())
        return super().sign(*args)


@attrs.define(eq=False)
class MemoryDoor:
    """A door without sockets: a test takes the handle behind it."""

    directory: Path
    uid: int
    handle: IHandle
    limits: Limits
    is_open: bool = False

    def open(self) -> Deferred[None]:
        self.is_open = True
        return succeed(None)

    def close(self) -> Deferred[None]:
        self.is_open = False
        return succeed(None)


@attrs.define(eq=False)
class Host:
    """One volunteer: its service, its sandbox, and the link of the moment."""

    cluster: Cluster
    name: str
    sandbox: MemorySandbox
    transfer: DirectTransfer
    session: Session
    service: Volunteer
    link: MemoryLink | None = None
    #: Whether it dials again when its link is broken.
    dials: bool = True

    def start(self) -> None:
        """Dial, as `ManagerDialler` does."""
        if self.dials and (self.link is None or not self.link.up):
            self.link = MemoryLink(self.cluster.clock, self.cluster.manager, self.service)

    def stop(self) -> Deferred[None]:
        """Hang up."""
        self.dials = False
        if self.link is not None:
            self.link.cut()
        return succeed(None)

    def crash(self) -> None:
        """The daemon dies: its jobs with it, and nobody is told but by the broken link."""
        self.dials = False
        self.sandbox.crash()
        self.service._post.close()
        part = self.service.look().part
        if part is not None and part._told is not None:
            part._told.cancel()
        if part is not None and part._spool is not None:
            part._spool.close()
        if self.link is not None:
            self.link.cut()


class Cluster:
    """A manager and its volunteers; `settle` lets everything happen that can without waiting."""

    def __init__(
        self,
        directory: Path,
        behaviour: Any = None,
        patience: Patience = PATIENCE,
        writing: Callable[[Any], Any] = lambda store: store,
        site: Site = SITE,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.directory, self.behaviour = directory, behaviour
        self.site = attrs.evolve(site, patience=patience)
        #: What the manager writes through: a test may put something before the store.
        self.writing = writing
        self.store, self.blobs, self.logs = (
            MemoryStore(),
            MemoryBlobStore(now=self.clock.seconds),
            MemoryLogStore(),
        )
        self.inspector, self.audit = FixedInspector(), MemoryAudit()
        self.hosts: dict[str, Host] = {}
        self._tokens = 0
        self.manager = self._make_manager()

    def _make_manager(self) -> Manager:
        manager = Manager(
            self.clock,
            self.writing(self.store),
            MemoryLeadership(self.store),
            self.blobs,
            self.logs,
            self.inspector,
            TokenRegistry(self.clock),
            site=self.site,
            audit=self.audit,
            issuer=IssuerOnUse(self.directory / "authority"),
        )
        self.result_of(manager.open())
        manager.startService()
        return manager

    def add(self, *names: str, **facts: Any) -> None:
        """Start volunteers."""
        for name in names:
            sandbox = MemorySandbox(self.clock, **self._behaviour())
            transfer, session = DirectTransfer(self.manager, name), Session()
            spool = self.directory / name / "spool"
            host: list[Host] = []

            def make(worker: IWorker, host: list[Host] = host) -> Host:
                return host[0]

            def describe(probed: SandboxFacts, paths: NetworkFacts, name: str = name) -> Facts:
                plain: dict[str, Any] = {
                    "address": f"10.0.0.{int(name.strip('v')) + 1}",
                    "cores": 2,
                    "memory": 1 << 30,
                    "arch": "x86_64",
                    "kernel": "6.1",
                    "faults": (*paths.supported, "pause"),
                    **facts,
                }
                return Facts(
                    **plain, sandbox=probed.mode, enforced=probed.enforced, remarks=probed.remarks
                )

            service = Volunteer(
                self.clock,
                name,
                describe,
                sandbox,
                MemoryBlobStore(),
                transfer,
                session,
                spool,
                make,
                1 << 30,
                MemoryFaults(self.clock),
                MemoryDoor,
                self.clock.seconds,
                maybeDeferred,
            )
            host.append(Host(self, name, sandbox, transfer, session, service))
            self.hosts[name] = host[0]
            self.result_of(service.open())
            service.startService()
        self.settle()

    def _behaviour(self) -> dict[str, Any]:
        return {} if self.behaviour is None else {"behaviour": self.behaviour}

    def submit(self, machines: int = 1, user: User = ANN, **values: Any) -> int:
        """Queue a job of an own source; gives its number."""
        self._tokens += 1
        source = b"source %d" % self._tokens
        self.result_of(put(self.blobs, source))
        sha256 = hashlib.sha256(source).hexdigest()
        spec = JobSpec("a job", sha256, len(source), machines=machines, **values)
        job, _ = self.result_of(self.manager.admission.submit(user, f"token-{self._tokens}", spec))
        self.settle()
        return int(job.number)

    def submit_with_clients(self, machines: int = 3, clients: int = 1, **values: Any) -> int:
        """Queue a job with benchmark clients of its own."""
        source = b"client source"
        self.result_of(put(self.blobs, source))
        sha256 = hashlib.sha256(source).hexdigest()
        size = len(source)
        own: dict[str, Any] = {"clients": clients, "client_sha256": sha256, "client_size": size}
        return self.submit(machines, **own, **values)

    def handle(self, number: int, machine: str = "client[0]") -> Any:
        """What is behind a client's door."""
        part = self.part(number, machine)
        door = part._door
        assert isinstance(door, MemoryDoor)
        assert door.is_open
        return door.handle

    def part(self, number: int, machine: str) -> Any:
        """A machine as its volunteer has it in hand."""
        volunteer = self.job(number).machine(machine).volunteer
        part = self.hosts[volunteer].service.look().part
        assert part is not None
        return part

    def blocked(self, number: int, machine: str) -> set[str]:
        """Names of the machines to which nothing leaves from a machine."""
        job = self.job(number)
        guard = self.part(number, machine)._guard
        if guard is None:
            return set()
        links = self.result_of(guard.follow()).links
        return {m.name for m in job.machines if m.address in links.blocked}

    def job(self, number: int) -> Job:
        """The job as it is."""
        return self.manager.book.get(number)

    def cancel(self, number: int, user: User = ANN) -> None:
        """Cancel a job."""
        self.result_of(self.manager.cancel(user, number))
        self.settle()

    def settle(self, turns: int = 200) -> None:
        """Let happen what needs no time to pass."""
        for _ in range(turns):
            self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps small enough for what is late to be noticed."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(min(0.5, until - self.clock.seconds()))
            self.settle(20)

    def result_of(self, doing: Any) -> Any:
        """Run a coroutine or Deferred to its end, without time passing."""
        outcome: list[Any] = []
        if not isinstance(doing, Deferred):
            doing = Deferred.fromCoroutine(doing)
        doing.addBoth(outcome.append)
        for _ in range(200):
            if outcome:
                break
            self.clock.advance(0)
        assert outcome, "it waits for something that does not come"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def kill_manager(self) -> None:
        """The manager dies, and does and says nothing any more."""
        for host in self.hosts.values():
            if host.link is not None:
                host.link.cut()
        self.result_of(self.manager.uploads.close())
        self.manager._aging.close()
        self.manager.history.close()
        self.manager.refusals.close()
        self.manager._journal.close()
        self.manager.desk.close()
        self.manager.fleet.close()

    def restart_manager(self) -> None:
        """The manager dies, if it lives, and another starts on the same store; volunteers dial
        again.
        """
        self.kill_manager()
        self.result_of(self.store.close())
        self.manager = self._make_manager()
        for host in self.hosts.values():
            host.transfer.manager = self.manager
            host.start()
        self.settle()

    def kinds(self, number: int) -> list[str]:
        """The kinds of a job's stored events, in order."""
        stored = self.result_of(self.manager.events(number, 0))
        return [event["kind"] for event in stored]

    def states(self) -> dict[str, str]:
        """What each volunteer does."""
        members = self.manager.fleet.members.values()
        return {member.name: member.state.value for member in members}

    def close(self) -> None:
        """End everything; nothing may be left on the clock."""
        self.settle()
        for host in self.hosts.values():
            self.result_of(host.service.stopService())
        self.result_of(self.manager.stopService())
        assert not self.clock.getDelayedCalls(), self.clock.getDelayedCalls()


def instead(inner: Any, **methods: Any) -> Any:
    """An object like another one, with some of its methods replaced."""
    return _Instead(inner, methods)


class _Instead:
    def __init__(self, inner: Any, methods: dict[str, Any]) -> None:
        self._inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
