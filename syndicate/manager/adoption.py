"""A manager that was started again takes over what the one before it had under way.

What is stored says which volunteer was given which machine; each has a while to come back with
it. What a volunteer says in its hello decides at once: its machine is adopted and told what it
may have missed, or given up, or the volunteer is told to remove what nobody wants any more.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from syndicate.domain.adoption import resume
from syndicate.domain.errors import Fenced
from syndicate.domain.job import Job, Machine
from syndicate.domain.lifecycle import ACTIVE
from syndicate.domain.volunteer import Facts
from syndicate.manager.book import Book
from syndicate.manager.conductor import Conductor
from syndicate.manager.fleet import Fleet
from syndicate.manager.member import Member
from syndicate.wire.interface import PROTOCOL, Hello, Holding, IVolunteer, other_protocol

log = Logger()


@attrs.define(eq=False)
class Adoption:
    """Takes over jobs at the start, and volunteers with each hello."""

    _book: Book
    _fleet: Fleet
    _conductor: Conductor
    _term: int

    def take_over(self) -> Deferred[None]:
        """Expect the volunteers of all jobs that were under way; fires once what should have
        happened to these jobs, and was not stored, is durable.
        """
        active = [job for job in self._book.jobs.values() if job.state in ACTIVE]
        for job in active:
            for machine in job.machines:
                if not job.over(machine):
                    self._expect(job, machine)
        if active:
            log.info("{count} jobs were under way and are taken over.", count=len(active))
        written = [
            self._conductor.happen(job.number, event)
            for job in active
            if (event := resume(job)) is not None
        ]
        return gatherResults(written).addCallback(lambda _: None)

    def _expect(self, job: Job, machine: Machine) -> None:
        # Of its host nothing is known but the address until it has said hello.
        facts = Facts(machine.address, 0, 0, "", "", "")
        holding = Holding(job.number, job.attempt, machine.name)
        self._fleet.expect(machine.volunteer, facts, machine.boot, holding)

    def greet(self, hello: Hello, link: IVolunteer) -> tuple[Member, bool]:
        """A volunteer has dialled: take note of what it tells, and decide about what it holds.

        :returns: the volunteer, and whether it is to remove what it holds.
        :raises WrongVersion: its protocol does not fit.
        :raises Fenced: it has obeyed a manager of a later term than ours.
        """
        self._check(hello)
        for report in hello.unacked:
            self._conductor.ended(hello.name, report)
        if hello.gave_back is not None:
            self._conductor.gave_back(hello.name, hello.gave_back)
        known = self._fleet.members.get(hello.name)
        given = None if known is None else known.holding
        holding = hello.holding
        if holding is None and given is not None and self._conductor.good_for(given, hello.boot):
            holding = given
        wanted = holding is not None and self._conductor.stands(holding, hello.name)
        member = self._fleet.join(hello, link, holding, wanted)
        if wanted and holding is not None:
            log.info(
                "{name} goes on with {machine} of job {job}.",
                name=hello.name,
                machine=holding.machine,
                job=holding.job,
            )
            self._conductor.returned(holding, hello.run)
        return member, holding is not None and not wanted

    def _check(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            raise other_protocol(hello.protocol, hello.name)
        if hello.term > self._term:
            raise Fenced(
                f"{hello.name} has obeyed a manager of term {hello.term}, and this one's term is "
                f"{self._term}: another manager leads, or the store is an old copy. Stop this "
                "manager if there is another one; else remove the file outbox/term from the "
                "volunteer's state directory and start the volunteer again."
            )
