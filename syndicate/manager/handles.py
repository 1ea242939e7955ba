"""Clients' handles: what a client may ask of its own job, and nothing else.

A handle is not a thing that is kept: it is good while its client's attempt runs, the client has
not finished, and staff has not revoked it. A volunteer speaks only for the client that it holds.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from syndicate.domain.errors import Invalid, Revoked
from syndicate.domain.events import ClientFinished, Marked
from syndicate.domain.fault import ON_LINKS, Fault, Kind, pick
from syndicate.domain.job import Job, JobState, Machine, MachineState, Result, Role
from syndicate.manager.book import Book
from syndicate.manager.conductor import Conductor
from syndicate.manager.desk import FaultDesk
from syndicate.manager.fleet import Fleet
from syndicate.manager.ledger import Ledger
from syndicate.manager.views import event_view, fault_view
from syndicate.wire.interface import Ask

#: Seconds that a request for events waits for one.
EVENTS_WAIT = 20.0
#: How many of the last events are searched for a mark that is made again.
LATE = 200
#: Most bytes of faults or events in one answer, as JSON; the wire carries twice that.
PAGE = 256 << 10
#: Longest name of a mark, and longest notes of a result, in characters.
MARK_LENGTH = 200
NOTES_LENGTH = 2000
#: Longest key of a request, in characters.
TOKEN_LENGTH = 200

Events = Callable[[int, int], Awaitable[list[Any]]]


@attrs.define(eq=False)
class Handles:
    """Answers what clients ask.

    :param events: stored events of a job after a number.
    """

    _clock: IReactorTime
    _book: Book
    _fleet: Fleet
    _ledger: Ledger
    _conductor: Conductor
    _desk: FaultDesk
    _events: Events

    async def ask(self, volunteer: str, ask: Ask) -> Any:
        """What a client on a volunteer asks for.

        :raises Revoked: its handle is not good, or it is not that volunteer's client.
        """
        job, machine = self._client(volunteer, ask)
        body = ask.body if isinstance(ask.body, dict) else {}
        match ask.verb:
            case "job":
                # What the hosts can do is known when their volunteers are back.
                await self._fleet.settled(m.volunteer for m in job.machines)
                return self.view(job, machine.name)
            case "fault":
                return await self._fault(job, machine, body, ask.token)
            case "show":
                fault = pick(self._ledger.of(job.number), body.get("id"), machine.name, job.attempt)
                return fault_view(job.number, fault)
            case "faults":
                return self.faults(job, _number(body.get("after")))
            case "finish":
                return await self._finish(job, machine, body)
            case "mark":
                return await self._mark(job, machine, body.get("name"), ask)
            case "events":
                return await self._new_events(job.number, body.get("after"))
        raise Invalid(f"A client cannot ask for {ask.verb!r}.")

    def _client(self, volunteer: str, ask: Ask) -> tuple[Job, Machine]:
        job = self._book.jobs.get(ask.part.job)
        if job is not None and job.attempt == ask.part.attempt:
            for machine in job.machines:
                mine = machine.name == ask.part.machine and machine.volunteer == volunteer
                if mine and machine.role is Role.CLIENT:
                    self._check(job, machine, ask.verb)
                    return job, machine
        raise Revoked("The attempt of this client is over.")

    @staticmethod
    def _check(job: Job, machine: Machine, verb: str) -> None:
        # A second Finish is answered with the first: its answer may have been lost.
        if verb == "finish" and machine.result is not None:
            return
        if machine.revoked:
            raise Revoked("Staff has revoked this client's handle.")
        if job.state is not JobState.RUNNING:
            raise Revoked("The attempt of this client is over.")
        if machine.result is not None:
            raise Revoked("This client has finished; its handle ended with that.")

    async def _fault(
        self, job: Job, machine: Machine, body: Mapping[str, Any], token: object
    ) -> Any:
        arguments = body.get("arguments")
        if not isinstance(arguments, dict):
            raise Invalid("The body of a fault is a JSON object.")
        if token is not None and not (isinstance(token, str) and len(token) <= TOKEN_LENGTH):
            raise Invalid(f"An Idempotency-Key is a text of at most {TOKEN_LENGTH} characters.")
        return await self._desk.fault(
            job.number, machine.name, read_kind(body.get("kind")), arguments, token
        )

    async def _finish(self, job: Job, machine: Machine, body: Mapping[str, Any]) -> Any:
        result = read_result(body)
        if machine.result is None:
            await self._conductor.happen(job.number, ClientFinished(machine.name, result))
        else:
            result = machine.result
            await self._book.durable()
        return {"finished": machine.name, **attrs.asdict(result)}

    async def _mark(self, job: Job, machine: Machine, name: object, ask: Ask) -> Any:
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MARK_LENGTH:
            raise Invalid(f"A mark has a name of 1 to {MARK_LENGTH} characters, not {name!r}.")
        if ask.again and ask.token and (before := await self._marked(job.number, ask.token)):
            return {"marked": name, "t": before["at"]}
        at = self._clock.seconds()
        await self._book.remark(job.number, Marked(machine.name, name, ask.token))
        return {"marked": name, "t": at}

    async def _marked(self, number: int, token: str) -> Mapping[str, Any] | None:
        """The stored event of a mark that was made before with this token, if it is a late one."""
        await self._book.durable()
        after = max(self._book.get(number).events - LATE, 0)
        for event in await self._events(number, after):
            if event["details"].get("token") == token:
                return dict(event)
        return None

    async def _new_events(self, number: int, after: object) -> list[dict[str, Any]]:
        after = _number(after)
        stored = await self._events(number, after)
        if not stored:

            def there() -> bool:
                job = self._book.stored(number)
                return job is None or job.events > after

            await self._book.feed.until(number, there, self._clock, EVENTS_WAIT)
            stored = await self._events(number, after)
        views = (event_view(number, n, event) for n, event in enumerate(stored, after + 1))
        return _fitting(views)[0]

    def faults(self, job: Job, after: int = 0) -> dict[str, Any]:
        """The faults of a job's present attempt with numbers above ``after``, as the API shows
        them; as many as one message carries, and whether there are more.
        """
        of_attempt = (f for f in self._ledger.of(job.number) if f.attempt == job.attempt)
        views = (fault_view(job.number, fault) for fault in of_attempt if fault.number > after)
        found, more = _fitting(views)
        return {"faults": found, "more": more}

    def view(self, job: Job, me: str) -> dict[str, Any]:
        """The job as its client sees it."""
        in_force = self._ledger.in_force(job)
        facts = [self._fleet.get(machine.volunteer).facts for machine in job.machines]
        kinds = [kind.value for kind in Kind if kind.value not in {"kill", "revive", "heal"}]
        unsupported = {kind: why for fact in facts for kind, why in fact.unsupported}
        return {
            "job": job.number,
            "attempt": job.attempt,
            "seed": job.spec.seed,
            "me": me,
            "machines": [_machine(machine, in_force) for machine in job.machines],
            "supported": ["kill", "revive", "heal", *(k for k in kinds if k not in unsupported)],
            "unsupported": unsupported,
        }


def _machine(machine: Machine, in_force: list[Fault]) -> dict[str, Any]:
    on_it = [fault for fault in in_force if machine.name in fault.machines]
    return {
        "name": machine.name,
        "role": machine.role.value,
        "ip": machine.address,
        "up": machine.state is MachineState.RUNNING
        and not any(fault.kind is Kind.PAUSE for fault in on_it),
        "cut": any(fault.kind in (Kind.DISCONNECT, Kind.PARTITION) for fault in on_it),
        "faults": [f"f{fault.number}" for fault in on_it if fault.kind in ON_LINKS],
    }


def _number(after: object) -> int:
    if type(after) is not int or after < 0:
        raise Invalid(f"after is the number of the last one that was seen, not {after!r}.")
    return after


def _fitting(views: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """The first of some values that one message of the wire surely carries, one at least; and
    whether there are more.
    """
    found: list[dict[str, Any]] = []
    size = 0
    for view in views:
        size += len(json.dumps(view, default=str))
        if found and size > PAGE:
            return found, True
        found.append(view)
    return found, False


def read_kind(value: object) -> Kind:
    """The kind of fault that a request names.

    :raises Invalid: there is none such.
    """
    try:
        return Kind(value)
    except ValueError:
        known = ", ".join(kind.value for kind in Kind)
        raise Invalid(f"{value!r} is no fault; there are: {known}.") from None


def read_result(body: Mapping[str, Any]) -> Result:
    """What a client says with Finish; all of it is optional.

    :raises Invalid: a value is of another kind.
    """
    passed, score, notes = body.get("passed", True), body.get("score"), body.get("notes", "")
    if not isinstance(passed, bool):
        raise Invalid(f"passed is true or false, not {passed!r}.")
    if score is not None and type(score) not in (int, float):
        raise Invalid(f"score is a number, not {score!r}.")
    if not isinstance(notes, str) or len(notes) > NOTES_LENGTH:
        raise Invalid(f"notes are a text of at most {NOTES_LENGTH} characters.")
    return Result(passed, None if score is None else float(score), notes)
