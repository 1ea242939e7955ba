"""The manager: takes jobs, gives them volunteers, and answers for both.

One service object decides and authorises; Perspective Broker, the JSON API, and whatever face
people see are thin ways to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from syndicate.audit.interface import IAudit
from syndicate.blobs.interface import IBlobStore, ILogStore
from syndicate.credentials.interface import IIssuer, ITokens
from syndicate.domain.errors import Conflict, Forbidden
from syndicate.domain.events import HandleRevoked
from syndicate.domain.job import Job, Role
from syndicate.domain.lifecycle import cancel
from syndicate.domain.volunteer import VolunteerState
from syndicate.manager.admission import Admission
from syndicate.manager.adoption import Adoption
from syndicate.manager.aftermath import Aftermath
from syndicate.manager.aging import Aging
from syndicate.manager.auditing import record_ask
from syndicate.manager.book import Book
from syndicate.manager.carriage import Carriage
from syndicate.manager.conductor import Conductor
from syndicate.manager.desk import FaultDesk
from syndicate.manager.fault_orders import FaultOrders
from syndicate.manager.feed import Feed
from syndicate.manager.fleet import Fleet
from syndicate.manager.handles import Handles, read_kind
from syndicate.manager.history import History
from syndicate.manager.hygiene import Hygiene
from syndicate.manager.journal import Journal
from syndicate.manager.ledger import Ledger
from syndicate.manager.planner import Planner
from syndicate.manager.refusals import Refusals
from syndicate.manager.roll import Roll
from syndicate.manager.site import Site
from syndicate.manager.source import CLIENT_TARGETS, SourceGate
from syndicate.manager.trust import Trust
from syndicate.manager.uploads import Uploads
from syndicate.manager.user import User
from syndicate.manager.vetting import REASON, Vetting
from syndicate.sandbox.interface import ISourceInspector
from syndicate.store.interface import ILeadership, IStore, ITerm
from syndicate.wire.interface import (
    PROTOCOL,
    Ask,
    EndReport,
    Hello,
    Holding,
    IFleet,
    IVolunteer,
    Welcome,
)

log = Logger()


@implementer(IFleet)
@attrs.define(eq=False)
class Manager(Service):
    """The manager's service; everything it stands on is given to it."""

    _clock: IReactorTime
    _store: IStore
    _leadership: ILeadership
    blobs: IBlobStore
    logs: ILogStore
    _inspector: ISourceInspector
    tokens: ITokens
    #: Secrets that were made beside the manager, as ``(secret, role, user)``: it knows them too.
    _given: tuple[tuple[str, str, str], ...] = attrs.field(default=(), repr=False)
    site: Site = Site()
    audit: IAudit = attrs.field(kw_only=True)
    _issuer: IIssuer = attrs.field(kw_only=True)
    refusals: Refusals = attrs.field(init=False)
    trust: Trust = attrs.field(init=False)
    roll: Roll = attrs.field(init=False)
    started_at: float = attrs.field(init=False, default=0.0)
    feed: Feed = attrs.field(init=False, factory=Feed)
    _term: ITerm | None = attrs.field(init=False, default=None)
    _journal: Journal = attrs.field(init=False)
    book: Book = attrs.field(init=False)
    fleet: Fleet = attrs.field(init=False)
    hygiene: Hygiene = attrs.field(init=False)
    _conductor: Conductor = attrs.field(init=False)
    _adoption: Adoption = attrs.field(init=False)
    ledger: Ledger = attrs.field(init=False)
    desk: FaultDesk = attrs.field(init=False)
    handles: Handles = attrs.field(init=False)
    history: History = attrs.field(init=False)
    uploads: Uploads = attrs.field(init=False)
    admission: Admission = attrs.field(init=False)
    _aging: Aging = attrs.field(init=False)
    _gate: SourceGate = attrs.field(init=False)
    _vetting: Vetting = attrs.field(init=False)
    carriage: Carriage = attrs.field(init=False)
    planner: Planner = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.refusals = Refusals(self._clock, self.audit)
        self._gate = SourceGate(self.blobs, self._inspector)
        self._vetting = Vetting(self.blobs)

    async def open(self) -> None:
        """Take the lead, load what is stored, and set right what the last manager left.

        :raises SyndicateError: the store cannot be used; the message says why.
        """
        await self._store.open()
        term = self._term = await self._leadership.campaign(self.site.cluster)
        self._make_fleet(term)
        self._make_jobs(term)
        self._make_faults(term)
        self._make_keeping()
        snapshot = await self._store.load()
        self.book.load(snapshot)
        self.ledger.load(snapshot)
        self.hygiene.load(snapshot)
        self.trust.load(snapshot.records, self._given)
        await self._check_client()
        await self._adoption.take_over()
        await self.history.open()
        Aftermath(self._clock, self.book, self.fleet, self.ledger, self.desk).take_over()
        await self.uploads.open()
        self._aging.open(snapshot)
        self.started_at = self._clock.seconds()

    # How the parts are put together. Some know of others that are made later: those they call by
    # functions that look them up.

    def _make_fleet(self, term: ITerm) -> None:
        self._journal = Journal(self._store, self._clock, term)
        self.trust = Trust(self._clock, self._journal, self.tokens, self._issuer, self.audit)
        self.book = Book(self._clock, self._journal, self.feed)
        self.hygiene = Hygiene(
            self._clock,
            self._journal,
            lambda name: name in self.fleet.members or self.trust.has_joined(name),
            lambda name: self.fleet.settle(name),
            self.audit,
        )
        self.fleet = Fleet(
            self._clock, self.site.patience, self._lost, lambda: self.planner.soon(), self.hygiene
        )
        self.roll = Roll(self.fleet, self.hygiene, self.trust)

    def _make_jobs(self, term: ITerm) -> None:
        self._conductor = Conductor(
            self._clock,
            self.book,
            self.fleet,
            term.number,
            lambda: self.planner.soon(),
            lambda holding, problem: self.desk.released(holding, problem),
            self._vetting.released,
            lambda job, machine: self.ledger.killer(job, machine),
        )
        self.planner = Planner(
            self._clock,
            self.book,
            self.fleet,
            self.hygiene,
            lambda: not self._journal.stalled,
            self._conductor.happen,
        )
        self._adoption = Adoption(self.book, self.fleet, self._conductor, term.number)
        self.carriage = Carriage(self.book, self.fleet)

    def _make_faults(self, term: ITerm) -> None:
        self.ledger = Ledger(self._clock, self.book, self.site.faults_per_job)
        orders = FaultOrders(self._clock, self.book, self.fleet, self.ledger, term.number)
        self.desk = FaultDesk(
            self._clock, self.book, self.fleet, self.ledger, self._conductor, orders
        )
        self.handles = Handles(
            self._clock,
            self.book,
            self.fleet,
            self.ledger,
            self._conductor,
            self.desk,
            self._store_events,
        )

    def _make_keeping(self) -> None:
        self.history = History(
            self._clock,
            self._store,
            self._journal,
            self.book,
            self.ledger,
            self.desk,
            lambda: {m.holding.job for m in self.fleet.members.values() if m.holding},
            self.site.keep,
        )
        self.uploads = Uploads(
            self._clock,
            self.blobs,
            self.book,
            self.site.room,
            lambda: (self.site.client_sha256,),
        )
        self.admission = Admission(
            lambda: self.site, self.book, self.history, self.uploads, self._gate, self.planner
        )
        self._aging = Aging(
            self._clock,
            self._journal,
            self.book,
            self.history,
            self.blobs,
            self.logs,
            self.site.files_for,
            self.uploads.needed,
        )

    async def _check_client(self) -> None:
        """Refuse to start with a benchmark client that no job could use."""
        site = self.site
        if site.client_sha256:
            await self._gate.check(site.client_sha256, site.client_size, CLIENT_TARGETS)

    def stopService(self) -> Deferred[None]:
        """Drop the volunteers, who go on with their jobs, and close the store."""
        super().stopService()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._term is not None:
            self.planner.close()
            await self.uploads.close()
            self._aging.close()
            self.history.close()
            self.desk.close()
            self.fleet.close()
            self._journal.close()
            await self._term.resign()
        await self._gate.close()
        await self._store.close()
        self.refusals.close()
        self.audit.close()

    # For the faces: what users and staff may do.

    async def cancel(self, user: User, number: int) -> Job:
        """Cancel a job of the user's own, or any as staff; answers when that is durable.

        :raises Forbidden: the job is somebody else's.
        :raises Conflict: it is finished, or about to be.
        """
        job = self.book.get(number)
        if job.user != user.name and not user.staff:
            raise Forbidden(f"Job {number} belongs to {job.user}; only staff may cancel it.")
        event = cancel(job, user.name)
        if event is None:
            raise Conflict(f"Job {number} is {job.state.value} already; nothing was changed.")
        await self._conductor.happen(number, event)
        return self.book.get(number)

    async def events(self, number: int, after: int, limit: int = 1000) -> list[Any]:
        """Stored events of a job, as `syndicate.plain_events.event_to_plain` made them."""
        if number not in self.book.jobs:
            await self.history.job(number)
        return await self._store.events(number, after, limit)

    async def _store_events(self, number: int, after: int) -> list[Any]:
        # As many as surely fit into one message of the wire; the client asks for more.
        return await self._store.events(number, after, 200)

    async def revoke(self, user: User, number: int, name: str) -> Job:
        """Take a client's handle away; what it has in force stays until it is undone.

        :raises Forbidden: only staff may.
        """
        if not user.staff:
            raise Forbidden("Only staff may revoke a client's handle.")
        machine = self.book.get(number).machine(name)
        if machine.role is not Role.CLIENT:
            raise Conflict(f"{machine.name} is no client, and has no handle.")
        await self._conductor.happen(number, HandleRevoked(machine.name, user.name))
        return self.book.get(number)

    async def fault(
        self, user: User, number: int, kind: str, arguments: Mapping[str, Any], token: str | None
    ) -> dict[str, Any]:
        """Do a fault by hand.

        :raises Forbidden: only staff may.
        """
        if not user.staff:
            raise Forbidden("Only staff may hurt jobs by hand; a job's own client may too.")
        return await self.desk.fault(number, user.name, read_kind(kind), arguments, token)

    def doubt_store(self) -> None:
        """Something beside the store found the disk read-only: find out whether the store can
        still write, before somebody's job finds that out.
        """
        if not self._journal.stalled:
            self._journal.write()

    async def health(self) -> dict[str, Any]:
        """How the store is; why nothing can be written, and why nothing new is taken, if so."""
        refusal = self.uploads.refusal()
        return {
            **attrs.asdict(await self._store.health()),
            "stalled": self._journal.stalled,
            "refuses": self._journal.stalled or ("" if refusal is None else str(refusal)),
        }

    # For the wire: what volunteers may do.

    def welcome(self, hello: Hello, link: IVolunteer) -> Welcome:
        """See `IFleet.welcome`."""
        assert self._term is not None
        member, unwanted = self._adoption.greet(self._vetting.hello(hello), link)
        return Welcome(
            PROTOCOL,
            self.site.cluster,
            self._term.number,
            member.session,
            self.site.patience.ping,
            self.site.patience.deadline,
            release=unwanted,
            keep=((self.site.client_sha256, self.site.client_size),)
            if self.site.client_sha256
            else (),
        )

    def ended(self, name: str, report: EndReport) -> Deferred[None]:
        """See `IFleet.ended`."""
        return Deferred.fromCoroutine(self._ended(name, report))

    async def _ended(self, name: str, report: EndReport) -> None:
        part = report.part
        if self.carriage.owns(name, part.job, part.attempt, part.machine):
            # The volunteer forgets its own copy once it is answered.
            await self.logs.sync(part.job, part.attempt, part.machine)
        await self._conductor.ended(name, self._vetting.report(report))

    def clean(self, name: str, unclean: str) -> Deferred[None]:
        """See `IFleet.clean`."""
        # Else it was said before, and the answer was lost: it has another job by now.
        if self.fleet.get(name).state is not VolunteerState.BUSY:
            self.fleet.cleaned(name, unclean[:REASON])
        return succeed(None)

    def ask(self, name: str, ask: Ask) -> Deferred[Any]:
        """See `IFleet.ask`."""
        answer = Deferred.fromCoroutine(self.handles.ask(name, ask))
        return record_ask(self.audit, self._clock, name, ask, answer)

    def lost(self, link: IVolunteer, reason: str) -> None:
        """See `IFleet.lost`."""
        self.fleet.lost(link, reason)

    def _lost(self, holding: Holding, reason: str) -> None:
        self.ledger.lose(holding, reason)
        self._conductor.lost(holding, reason)
