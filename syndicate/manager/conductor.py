"""Carries out what the domain decides: orders to volunteers, and their answers as events.

Every event goes through `Conductor.happen`: it is folded, stored, and only once it is durable
are the orders that follow from it sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Never

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from syndicate.domain.adoption import missed, never_prepared, stands
from syndicate.domain.errors import (
    Conflict,
    InvalidSource,
    NotClean,
    SyndicateError,
    Timeout,
    VolunteerLost,
)
from syndicate.domain.events import (
    JobEvent,
    MachineExited,
    MachineKilled,
    MachineLost,
    MachineReady,
    MachineReleased,
    MachineRevived,
    MachineRunning,
)
from syndicate.domain.job import Job, JobState, Machine, MachineState, Role
from syndicate.domain.lifecycle import ACTIVE, Order, Prepare, Release, Start
from syndicate.domain.volunteer import VolunteerState
from syndicate.manager.book import Book
from syndicate.manager.fleet import Fleet
from syndicate.manager.vetting import REASON
from syndicate.wire.interface import EndReport, GivenBack, Holding, Part, PrepareOrder, Released

log = Logger()

#: Seconds within which a source must be fetched and unpacked, and a target started; a volunteer
#: that is slower is given up for this attempt.
PREPARE_DEADLINE = 900.0
START_DEADLINE = 60.0
#: Seconds within which a volunteer must be clean after the order; then its link is dropped.
RELEASE_DEADLINE = 60.0

#: Where a machine stands to which this has happened already.
_THERE = {
    MachineReady: (MachineState.READY, MachineState.RUNNING),
    MachineRunning: (MachineState.RUNNING,),
}


@attrs.define(eq=False)
class Conductor:
    """Moves the jobs along.

    :param queued_again: called when a job waits once more.
    :param vet: looks at what a volunteer says that a machine left.
    :param released: called when a machine of a job with clients was given back: with what could
        not be lifted or removed.
    :param killer: tells who has killed a machine on purpose, and by which fault.
    """

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _term: int
    _queued_again: Callable[[], None]
    _released: Callable[[Holding, str], None]
    _vet: Callable[[Released], Released]
    _killer: Callable[[Job, str], tuple[str, str]]

    def happen(self, number: int, event: JobEvent) -> Deferred[None]:
        """An event has happened to a job: store it and all that follows, then send the orders.

        :returns: fires once all of it is durable.
        :raises IllegalEvent: the event does not fit; nothing was changed.
        """
        before = self._book.jobs[number].state
        job, orders, written = self._book.happen(number, event)
        if job.state is JobState.QUEUED and before is not JobState.QUEUED:
            self._queued_again()
        if orders:
            written.addCallback(lambda _: self._send_all(job, orders))
        return written.addCallback(lambda _: None)

    def _send_all(self, job: Job, orders: tuple[Order, ...]) -> None:
        for order in orders:
            self._send(job, order)

    def _send(self, job: Job, order: Order) -> None:
        machine = job.machine(order.machine)
        match order:
            case Prepare():
                sending = self._prepare(job, machine)
            case Start():
                sending = self._start(job, machine)
            case Release():
                sending = self._release(job, machine)
        Deferred.fromCoroutine(sending).addErrback(
            lambda failure: log.failure("an order could not be carried out", failure)
        )

    async def _prepare(self, job: Job, machine: Machine) -> None:
        spec = job.spec
        sha256, size = spec.source_of(machine.role)
        order = PrepareOrder(
            self._part(job, machine),
            machine.role.value,
            sha256,
            size,
            spec.limits,
            tuple((other.name, other.address) for other in job.machines),
            spec.env,
            spec.outputs,
            spec.linger,
            spec.seed,
            client=machine.role is Role.CLIENT,
            hurtful=spec.with_clients,
        )
        try:
            preparing = self._fleet.link(machine.volunteer).prepare(order)
            await preparing.addTimeout(PREPARE_DEADLINE, self._clock, _too_late)
        except VolunteerLost:
            return  # The fleet tells when it will not come back, and repeats the order if it does.
        except InvalidSource as error:
            self._about(job, machine, MachineLost(machine.name, str(error), source=True))
        except Conflict:
            # The part was released while it was being prepared; whoever did that has told.
            return
        except SyndicateError as error:
            if self._about(job, machine, MachineLost(machine.name, str(error))):
                self._fleet.rest(machine.volunteer, str(error))
        else:
            self._about(job, machine, MachineReady(machine.name))

    async def _start(self, job: Job, machine: Machine) -> None:
        try:
            starting = self._fleet.link(machine.volunteer).start(self._part(job, machine))
            await starting.addTimeout(START_DEADLINE, self._clock, _too_late)
        except (VolunteerLost, Conflict):
            return  # As in `_prepare`.
        except SyndicateError as error:
            if self._about(job, machine, MachineLost(machine.name, str(error))):
                self._fleet.rest(machine.volunteer, str(error))
        else:
            self._about(job, machine, MachineRunning(machine.name))

    async def _release(self, job: Job, machine: Machine) -> None:
        name = machine.volunteer
        member = self._fleet.members.get(name)
        mine = Holding(job.number, job.attempt, machine.name)
        if (
            member is None
            or member.link is None
            or member.holding != mine
            or member.state is VolunteerState.CLEANING
        ):
            # Away: it is told when it comes back. Or it was told already, or is free.
            return
        link = member.link
        self._fleet.cleaning(name)
        unclean, released = "", Released()
        try:
            releasing = link.release(self._part(job, machine))
            told = await releasing.addTimeout(RELEASE_DEADLINE, self._clock, _too_late)
            released = self._vet(told)
        except VolunteerLost:
            return
        except Timeout as error:
            self._fleet.lost(link, str(error))
            return
        except NotClean as error:
            unclean = str(error)[:REASON]
        except SyndicateError as error:
            unclean = f"It failed while cleaning up: {error}"
        if member.link is link and released.later:
            self._fleet.tidies(name)
        elif member.link is link:
            self._fleet.cleaned(name, unclean)
        self._given_back(job, machine, unclean, released)

    def _given_back(self, job: Job, machine: Machine, unclean: str, released: Released) -> None:
        # A machine that ended has reported so before it was clean: this one was never started.
        self._about(job, machine, MachineKilled(machine.name))
        if job.spec.with_clients:
            holding = Holding(job.number, job.attempt, machine.name)
            self._released(holding, unclean)
            told = (unclean, released.log_bytes, released.outputs, released.left_out)
            self._about(job, machine, MachineReleased(machine.name, *told))

    def ended(self, volunteer: str, report: EndReport) -> Deferred[None]:
        """A volunteer reports how its target ended; fires once that is stored. A report about a
        part that is not its own, or told already, changes nothing; it is acknowledged when what
        was told is durable, since its volunteer forgets it then.
        """
        part = report.part
        job = self._book.jobs.get(part.job)
        machine = job if job is None else self._machine(job, part.attempt, part.machine)
        if (
            job is None
            or machine is None
            or machine.volunteer != volunteer
            or job.over(machine)
            or (machine.ended and machine.run >= report.run)
            # A target that was killed and revived meanwhile: its former run is told of late.
            or machine.run > report.run
        ):
            return self._book.durable()
        if machine.ended and machine.run < report.run:
            # The answer to the order that revived it is still on its way.
            self.happen(job.number, MachineRevived(machine.name))
        told = (report.log_bytes, report.outputs)
        if report.problem:
            event: JobEvent = MachineLost(machine.name, report.problem)
            self._fleet.rest(volunteer, report.problem)
        elif report.limit or report.killed:
            by, fault = ("", "") if report.limit else self._killer(job, machine.name)
            event = MachineKilled(machine.name, report.limit, *told, by, fault, report.left_out)
        else:
            # The answer to the start order may still be on its way: the start came first.
            if _before_running(job, machine):
                self.happen(job.number, MachineRunning(machine.name))
            event = MachineExited(
                machine.name,
                report.exit_code,
                report.signal,
                *told,
                report.short,
                report.left_out,
            )
        return self.happen(job.number, event)

    def lost(self, holding: Holding, reason: str) -> None:
        """A volunteer will not come back with what it held."""
        job = self._book.jobs.get(holding.job)
        if job is not None and (machine := self._machine(job, holding.attempt, holding.machine)):
            self._about(job, machine, MachineLost(machine.name, reason))

    def stands(self, holding: Holding, volunteer: str) -> bool:
        """Whether the allocation of what a volunteer has in hand stands."""
        job = self._book.jobs.get(holding.job)
        return stands(job, holding.attempt, holding.machine, volunteer) is not None

    def good_for(self, holding: Holding, boot: str) -> bool:
        """Whether a volunteer that does not have in hand what it was given can still prepare it."""
        job = self._book.jobs.get(holding.job)
        machine = job if job is None else self._machine(job, holding.attempt, holding.machine)
        return job is not None and machine is not None and never_prepared(job, machine, boot)

    def returned(self, holding: Holding, run: int) -> None:
        """A volunteer has come back with what it held: repeat the order it may have missed."""
        job = self._book.jobs[holding.job]
        for reaction in missed(job, job.machine(holding.machine), run):
            if isinstance(reaction, Order):
                self._send(job, reaction)
            else:
                self.happen(job.number, reaction)

    def gave_back(self, volunteer: str, given: GivenBack) -> Deferred[None]:
        """A volunteer has removed what it held, and its answer to the order may have been lost;
        fires once that is stored.
        """
        part = given.part
        job = self._book.jobs.get(part.job)
        machine = job if job is None else self._machine(job, part.attempt, part.machine)
        if job is not None and machine is not None and machine.volunteer == volunteer:
            self._given_back(job, machine, given.unclean, given.released)
        return self._book.durable()

    def _about(self, job: Job, machine: Machine, event: JobEvent) -> bool:
        """Let an event about a machine happen, unless the job has moved on meanwhile."""
        now = self._book.jobs.get(job.number)
        if now is None:
            return False  # In the archive since.
        current = self._machine(now, job.attempt, machine.name)
        if now.state not in ACTIVE or current is None or now.over(current):
            return False
        if current.ended and not isinstance(event, MachineReleased | MachineLost):
            return False
        if (
            isinstance(event, MachineReady | MachineRunning)
            and current.state in _THERE[type(event)]
        ):
            return False  # A repeated order, answered again.
        self.happen(job.number, event)
        return True

    @staticmethod
    def _machine(job: Job, attempt: int, name: str) -> Machine | None:
        if job.attempt != attempt or job.state not in ACTIVE:
            return None
        return next((machine for machine in job.machines if machine.name == name), None)

    def _part(self, job: Job, machine: Machine) -> Part:
        return Part(job.number, job.attempt, machine.name, self._term)


def _before_running(job: Job, machine: Machine) -> bool:
    running = job.state in (JobState.RUNNING, JobState.FINISHING)
    return running and machine.state is MachineState.READY


def _too_late(result: object, timeout: float) -> Never:
    raise Timeout(f"The order was not carried out within {timeout:g} seconds.")
