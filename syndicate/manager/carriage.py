"""What a volunteer may carry from and to the manager: its part's source, and its part's outputs."""

from __future__ import annotations

import attrs

from syndicate.domain.errors import Forbidden, TooLarge
from syndicate.domain.job import Job, Machine
from syndicate.manager.book import Book
from syndicate.manager.fleet import Fleet
from syndicate.wire.interface import Holding

#: Bytes that a tarball of outputs may have beyond what its machine's disk may hold: samples, and
#: what tar adds.
OVERHEAD = 256 << 20
#: Tarballs of one part, one for each time that it was killed and revived; and how often their bytes
#: may be those that one may have.
MOST_TARBALLS, MOST_TIMES = 1000, 16


@attrs.define(eq=False)
class Carriage:
    """Knows of every volunteer what it has in hand, and what was brought for that."""

    _book: Book
    _fleet: Fleet
    #: By volunteer, the bytes of each tarball that it has begun to bring for its present part.
    _brought: dict[str, tuple[Holding, dict[str, int]]] = attrs.field(init=False, factory=dict)

    def check_fetch(self, volunteer: str, sha256: str, always: str) -> None:
        """Look whether a volunteer was told to fetch that source.

        :param always: the digest of a source that all should have, or empty.
        :raises Forbidden: it was not.
        """
        if sha256 == always:
            return
        found = self._in_hand(volunteer)
        if found is None or sha256 != found[0].spec.source_of(found[1].role)[0]:
            raise Forbidden(f"{volunteer} was not told to fetch this.")

    def check_ask(self, volunteer: str) -> None:
        """Look whether a volunteer may ask what is here already, as it may bring something.

        :raises Forbidden: it has no part.
        """
        if self._in_hand(volunteer) is None:
            raise Forbidden(f"{volunteer} has no part of a job to bring outputs of.")

    def check_bring(self, volunteer: str, sha256: str, size: int) -> None:
        """Look whether a volunteer may bring so many bytes of outputs; they count from now on.

        :raises Forbidden: it has no part.
        :raises TooLarge: it is more than there can be.
        """
        found = self._in_hand(volunteer)
        if found is None:
            raise Forbidden(f"{volunteer} has no part of a job to bring outputs of.")
        job, machine = found
        holding = Holding(job.number, job.attempt, machine.name)
        before, tarballs = self._brought.get(volunteer, (holding, {}))
        if before != holding:
            tarballs = {}
        most = job.spec.limits.disk + OVERHEAD
        if size > most:
            raise TooLarge(f"The outputs of {machine.name} may have {most} bytes.", limit=most)
        tarballs = {**tarballs, sha256: size}
        if len(tarballs) > MOST_TARBALLS or sum(tarballs.values()) > MOST_TIMES * most:
            raise TooLarge(f"{volunteer} has brought more outputs than {machine.name} can have.")
        self._brought[volunteer] = (holding, tarballs)

    def owns(self, volunteer: str, number: int, attempt: int, name: str) -> bool:
        """Whether a machine of that attempt is that volunteer's, so that it may send its log."""
        return self._find(volunteer, Holding(number, attempt, name)) is not None

    def _in_hand(self, volunteer: str) -> tuple[Job, Machine] | None:
        """The part that a volunteer has, by what it was given and not by what it says."""
        member = self._fleet.members.get(volunteer)
        if member is None or member.holding is None:
            return None
        return self._find(volunteer, member.holding)

    def _find(self, volunteer: str, holding: Holding) -> tuple[Job, Machine] | None:
        job = self._book.jobs.get(holding.job)
        if job is None or job.attempt != holding.attempt:
            return None
        for machine in job.machines:
            if machine.name == holding.machine and machine.volunteer == volunteer:
                return job, machine
        return None
