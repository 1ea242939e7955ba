"""The words of the manager's console: its jobs, its volunteers, and what is done to both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from syndicate.console.process import Process
from syndicate.console.server import Console
from syndicate.console.tables import Facts, Table, Text, moment
from syndicate.console.words import Visitor, Word
from syndicate.domain.errors import Invalid
from syndicate.domain.job import Job, JobState, Machine
from syndicate.domain.quantities import parse_span, say_size
from syndicate.domain.scheduler import Census
from syndicate.domain.timeline import Offset
from syndicate.manager.service import Manager
from syndicate.manager.user import User
from syndicate.manager.views import fault_view, timestamp

#: Jobs that `jobs` shows: the latest.
SHOWN = 50


def manager_words(
    reactor: Any, manager: Manager, console: Callable[[], Console]
) -> Callable[[Visitor, Callable[[str], None]], list[Word]]:
    """Makes the words for each visitor."""
    process = Process(reactor, console, reactor.seconds())

    def make(visitor: Visitor, say: Callable[[str], None]) -> list[Word]:
        words: list[Word] = []
        looking, steering = Looking(manager), Steering(manager, visitor)
        words += [Word(name, getattr(looking, name)) for name in LOOKING]
        words += [Word(name, getattr(steering, name), steers=True) for name in STEERING]
        words += process.words(visitor, say, lambda: words)
        return words

    return make


LOOKING = ("jobs", "job", "queue", "why", "volunteers", "v", "faults", "events", "cluster")
STEERING = (
    *("drain", "quarantine", "resume", "cancel"),
    *("kill", "revive", "disconnect", "reconnect", "fault"),
)


@attrs.frozen
class Looking:
    """What anybody at the console may ask."""

    _manager: Manager

    def jobs(self, count: int | str = SHOWN) -> Table[Job]:
        """The latest jobs, in any state."""
        jobs = sorted(self._manager.book.jobs.values(), key=lambda job: job.number)
        return Table(jobs[-_number(count) :], self._row, "There is no job yet.")

    def job(self, number: int | str) -> Any:
        """One job with its machines."""
        return self._of(number, self.shown)

    def shown(self, job: Job) -> Facts[Job]:
        """A job with its machines."""
        facts = {
            **self._row(job),
            "attempt": job.attempt,
            "submitted": moment(timestamp(job.submitted_at)),
            "started": moment(timestamp(job.started_at)),
            "finished": moment(timestamp(job.finished_at)),
        }
        return Facts(job, facts, Table(job.machines, _machine, ""))

    def queue(self) -> Table[Job]:
        """The jobs that wait, in order, and why."""
        waiting = self._manager.book.queue()
        return Table(waiting, self._row, "Nothing waits.")

    def why(self, number: int | str) -> Any:
        """Why a job waits, or ended so."""
        return self._of(number, lambda job: Text(self._reason(job) or "It runs."))

    def _of(self, number: int | str, show: Callable[[Job], Any]) -> Any:
        """Something about a job: at once, or a Deferred if it is in the archive."""
        job = self._manager.book.jobs.get(_number(number))
        if job is not None:
            return show(job)
        return Deferred.fromCoroutine(self._archived(_number(number), show))

    async def _archived(self, number: int, show: Callable[[Job], Any]) -> Any:
        return show(await self._manager.history.job(number))

    def volunteers(self) -> Table[Any]:
        """All volunteers."""
        return Table(self._manager.roll.all(), _volunteer, "No volunteer has joined.")

    def v(self, name: str) -> Facts[Any]:
        """One volunteer."""
        member = self._manager.fleet.get(name)
        volunteer = member.view()
        facts = {
            **_volunteer(volunteer),
            "enforced": " ".join(volunteer.facts.enforced),
            "lacks": " ".join(volunteer.facts.remarks),
            "faults": " ".join(volunteer.facts.faults),
            "kernel": volunteer.facts.kernel,
            "versions": " ".join(f"{name} {value}" for name, value in volunteer.facts.versions),
            "holds": member.holding and f"{member.holding.machine} of job {member.holding.job}",
            "clock": _compared(member.offset),
            "failures": self._manager.hygiene.of(name).failures or None,
            "registered": moment(timestamp(volunteer.registered_at)),
        }
        return Facts(member, facts)

    def faults(self, number: int | str) -> Deferred[Table[Any]]:
        """All faults of a job."""
        return Deferred.fromCoroutine(self._faults(_number(number)))

    async def _faults(self, number: int) -> Table[Any]:
        _, found = await self._manager.history.job_and_faults(number)
        views = [fault_view(number, fault) for fault in found]
        shown = ("id", "kind", "machines", "by", "state")
        return Table(
            views,
            lambda each: {
                **{key: each[key] for key in shown},
                "machines": " ".join(each["machines"]),
                "verified_at": moment(each["verified_at"], 3),
                "healed_at": moment(each["healed_at"], 3),
                "ended": each["ended"],
                "note": each["note"],
            },
            "It had none.",
        )

    def events(self, number: int | str, after: int | str = 0) -> Deferred[Table[Any]]:
        """What happened to a job."""
        return Deferred.fromCoroutine(self._events(_number(number), _number(after)))

    async def _events(self, number: int, after: int) -> Table[Any]:
        found = await self._manager.events(number, after)
        return Table(
            list(enumerate(found, after + 1)),
            lambda each: {
                "n": each[0],
                "at": moment(timestamp(each[1]["at"]), 3),
                "kind": each[1]["kind"],
                "details": each[1]["details"],
            },
        )

    def cluster(self) -> Deferred[Facts[Any]]:
        """Counts of jobs and volunteers, and how the store is."""
        return Deferred.fromCoroutine(self._cluster())

    async def _cluster(self) -> Facts[Any]:
        manager = self._manager
        health = await manager.health()
        facts: dict[str, object] = {
            "cluster": manager.site.cluster,
            "started": moment(timestamp(manager.started_at)),
        }
        for name, states in (
            ("jobs", (job.state.value for job in manager.book.shown())),
            ("volunteers", (each.state.value for each in manager.roll.all())),
        ):
            counts: dict[str, int] = {}
            for state in states:
                counts[state] = counts.get(state, 0) + 1
            facts[name] = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        facts |= {f"store {name}": value for name, value in health.items()}
        return Facts(manager, facts)

    def _row(self, job: Job) -> dict[str, object]:
        return {
            "job": job.number,
            "name": job.spec.name,
            "user": job.user,
            "state": (job.outcome or job.state).value,
            "machines": job.spec.machines,
            "why": self._reason(job),
        }

    def _reason(self, job: Job) -> str:
        if job.state is not JobState.QUEUED:
            return job.reason
        snapshot = self._manager.planner.snapshot()
        ahead = sum(other.number < job.number for other in snapshot.queue)
        return Census(snapshot).explain(job, ahead)


@attrs.frozen
class Steering:
    """What operators may do; each is done in their name."""

    _manager: Manager
    _visitor: Visitor

    def drain(self, name: str, reason: str = "") -> Deferred[Facts[Any]]:
        """Give a volunteer no further job."""
        return self._standing("drain", name, reason)

    def quarantine(self, name: str, reason: str = "") -> Deferred[Facts[Any]]:
        """The same for one that is not to be trusted."""
        return self._standing("quarantine", name, reason)

    def resume(self, name: str) -> Deferred[Facts[Any]]:
        """Let a volunteer that was drained or quarantined have jobs again."""
        return self._standing("resume", name)

    def cancel(self, number: int | str) -> Deferred[Facts[Job]]:
        """Cancel a job."""
        return Deferred.fromCoroutine(self._cancel(_number(number)))

    def kill(self, number: int | str, machine: str, **more: Any) -> Deferred[Any]:
        """Kill a machine of a job; lease="10s" revives it after so long."""
        return self.fault(number, "kill", machine=machine, **more)

    def revive(self, number: int | str, machine: str, **more: Any) -> Deferred[Any]:
        """Start a killed machine again; with_disk=False on an empty disk."""
        return self.fault(number, "revive", machine=machine, **more)

    def disconnect(self, number: int | str, machine: str, **more: Any) -> Deferred[Any]:
        """Cut a machine off from the others of its job."""
        return self.fault(number, "disconnect", machine=machine, **more)

    def reconnect(self, number: int | str, machine: str) -> Deferred[Any]:
        """End that."""
        return self.fault(number, "reconnect", machine=machine)

    def fault(self, number: int | str, kind: str, **arguments: Any) -> Deferred[Any]:
        """Any fault, with the arguments of the API; its "for" is called lease here."""
        if "lease" in arguments:
            arguments["for"] = arguments.pop("lease")
        if type(arguments.get("for")) is str:
            try:
                arguments["for"] = parse_span(arguments["for"])
            except ValueError as error:
                raise Invalid(f"lease: {error}.") from None
        if arguments.get("with_disk") in ("true", "false", "True", "False"):
            arguments["with_disk"] = arguments["with_disk"].lower() == "true"
        return Deferred.fromCoroutine(self._fault(_number(number), kind, arguments))

    async def _cancel(self, number: int) -> Facts[Job]:
        job = await self._manager.cancel(self._user, number)
        return Looking(self._manager).shown(job)

    async def _fault(self, number: int, kind: str, arguments: dict[str, Any]) -> Facts[Any]:
        found = await self._manager.fault(self._user, number, kind, arguments, None)
        return Facts(found, found)

    def _standing(self, verb: str, name: str, *reason: str) -> Deferred[Facts[Any]]:
        async def steer() -> Facts[Any]:
            hygiene = self._manager.hygiene
            user = self._user
            await getattr(hygiene, verb)(user.name, user.role, name, *reason)
            if name not in self._manager.fleet.members:
                return Facts(None, _volunteer(self._manager.roll.get(name)))
            return Looking(self._manager).v(name)

        return Deferred.fromCoroutine(steer())

    @property
    def _user(self) -> User:
        visitor = self._visitor
        return User(visitor.name, visitor.role, visitor.key, visitor.address)


def _number(value: int | str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Invalid(f"{value!r} is no number.") from None


def _machine(machine: Machine) -> dict[str, object]:
    return {
        "machine": machine.name,
        "volunteer": machine.volunteer,
        "address": machine.address,
        "state": machine.state.value,
        "run": machine.run,
        "exit": machine.exit_code if machine.signal is None else f"signal {machine.signal}",
        "log": say_size(machine.log_bytes),
        "why": machine.reason,
    }


def _compared(offset: Offset) -> str:
    """How well a volunteer's clock is known. What it shows counts from its host's start: how far it
    is off tells nobody anything.
    """
    known = math.isfinite(offset.uncertainty)
    return f"compared, ± {offset.uncertainty:.6f}s" if known else "not compared yet"


def _volunteer(volunteer: Any) -> dict[str, object]:
    facts = volunteer.facts
    return {
        "volunteer": volunteer.name,
        "state": volunteer.state.value,
        "job": volunteer.job,
        "address": facts.address,
        "cores": facts.cores,
        "memory": say_size(facts.memory),
        "sandbox": facts.sandbox,
        "heard": moment(timestamp(volunteer.heard_at or None)),
        "why": volunteer.reason,
    }
