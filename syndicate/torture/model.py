"""The model: what was asked for, what was seen, and what of it cannot be.

It is told of everything as it comes, finds at once what can be found at once, and the rest in the
end. It knows nothing of the daemons but what they have said and what was seen from outside.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from syndicate.torture import histories, speech, usage, witness
from syndicate.torture.facts import Ending, Rule, Run, Sample, Sighting, Span, Violation
from syndicate.torture.histories import Tenure
from syndicate.torture.schedule import Manner, Task
from syndicate.torture.speech import Testimony

#: What a finished job may be told of otherwise later: nothing but this.
_PASSING = frozenset({"position"})

#: How a job may end that was made to behave so. Every job may be lost, when its machines are
#: taken from it too often.
_OUTCOMES: Mapping[Manner, frozenset[str]] = {
    **{manner: frozenset({"passed"}) for manner in Manner},
    Manner.FAILS: frozenset({"failed"}),
    Manner.ENDLESS: frozenset({"timed out"}),
    Manner.CANCELLED: frozenset({"passed", "cancelled"}),
}


@attrs.frozen
class _Shown:
    """What was shown of a file once."""

    length: int
    digest: str


@attrs.define
class Model:
    """Everything that is known, and everything that is wrong."""

    #: By the name of the job.
    tasks: Mapping[str, Task]
    violations: list[Violation] = attrs.field(factory=list)
    #: Jobs by the name of the task, once acknowledged.
    acknowledged: dict[str, int] = attrs.field(factory=dict)
    #: Jobs whose cancellation was acknowledged.
    cancelled: set[int] = attrs.field(factory=set)
    #: Finished jobs as they were shown first.
    finished: dict[int, Mapping[str, Any]] = attrs.field(factory=dict)
    #: Those whose history was looked at.
    judged: set[int] = attrs.field(factory=set)
    samples: list[Sample] = attrs.field(factory=list)
    #: Times in which a host's disk was full.
    full: list[Span] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    _shown: dict[tuple[int, str], _Shown] = attrs.field(factory=dict)
    _events: dict[int, Sequence[Mapping[str, Any]]] = attrs.field(factory=dict)
    _tenures: dict[Run, Tenure] = attrs.field(factory=dict)
    _testimonies: dict[tuple[int, str], tuple[Testimony, ...]] = attrs.field(factory=dict)
    _sightings: dict[tuple[Run, str], Sighting] = attrs.field(factory=dict)
    _known: set[tuple[Rule, str]] = attrs.field(factory=set)

    def report(self, found: Iterable[Violation]) -> None:
        """Take note of what is wrong, of the same thing once."""
        for violation in found:
            key = violation.rule, violation.text
            if key not in self._known:
                self._known.add(key)
                self.violations.append(violation)

    # As it comes.

    def submitted(self, task: Task, job: int) -> None:
        """A submission was answered."""
        before = self.acknowledged.setdefault(task.name, job)
        if before != job:
            what = f"the submission of {task.name} was answered with job {before}, then with {job}"
            self.report([Violation(Rule.ENDED_ONCE, what)])

    def known(self) -> frozenset[int]:
        """The jobs that a list of all must have, if it is asked for from now on."""
        return frozenset({*self.finished, *self.acknowledged.values()})

    def listed(
        self, jobs: Sequence[Mapping[str, Any]], wanted: frozenset[int] | None = None
    ) -> None:
        """The manager has shown its jobs.

        :param wanted: if they are all, what was `known` before they were asked for.
        """
        self.counts["listings"] += 1
        by_number = {job["job"]: job for job in jobs}
        for job in jobs:
            if job["state"] == "finished":
                self._compare(job)
            elif job["job"] in self.finished:
                what = f"job {job['job']} was finished, and is {job['state']} now"
                self.report([Violation(Rule.RESULT_KEPT, what, str(job))])
        if wanted is not None:
            lost = wanted - by_number.keys()
            self.report(
                Violation(Rule.ENDED_ONCE, f"job {number} was acknowledged, and is not there")
                for number in sorted(lost)
            )
            names = Counter(job["name"] for job in jobs)
            self.report(
                Violation(Rule.ENDED_ONCE, f"{name} is {count} jobs", _numbers(jobs, name))
                for name, count in names.items()
                if count > 1
            )

    def _compare(self, job: Mapping[str, Any]) -> None:
        now = {key: value for key, value in job.items() if key not in _PASSING}
        before = self.finished.setdefault(job["job"], now)
        self.counts["results compared"] += 1
        if before != now:
            changed = sorted(key for key in now if before.get(key) != now[key])
            self.report(
                [
                    Violation(
                        Rule.RESULT_KEPT,
                        f"job {job['job']} is told of otherwise than before: {', '.join(changed)}",
                        f"before {before}; now {now}",
                    )
                ]
            )

    def file_seen(self, job: int, path: str, data: bytes) -> None:
        """The manager has shown what a file of a job holds so far."""
        before = self._shown.get((job, path))
        now = _Shown(len(data), hashlib.sha256(data).hexdigest())
        self.counts["log bytes read"] += len(data)
        if before is not None:
            kept = hashlib.sha256(data[: before.length]).hexdigest()
            if now.length < before.length or kept != before.digest:
                self.report(
                    [
                        Violation(
                            Rule.LOG_KEPT,
                            f"{path} of job {job} has lost or changed what was shown of it",
                            f"{before.length} bytes were shown, now it has {now.length}",
                        )
                    ]
                )
                return
        self._shown[job, path] = now

    def looked(self, sightings: Sequence[Sighting]) -> None:
        """The processes of all hosts were looked at, all of those told having lived at once."""
        self.counts["looks at processes"] += 1
        by_host: dict[str, set[tuple[int, int]]] = {}
        for each in sightings:
            self.counts["processes seen"] += 1
            self._sightings.setdefault((each.run, each.host), each)
            by_host.setdefault(each.host, set()).add((each.run.job, each.run.attempt))
            if not each.inside:
                what = f"{each.run} runs as a user of {each.host}, but not in its network"
                self.report([Violation(Rule.OWN_MACHINE, what, str(each))])
        self.report(
            Violation(
                Rule.ONE_JOB,
                f"{host} runs at one time: {sorted(attempts)}",
                "\n".join(str(each) for each in sightings if each.host == host),
            )
            for host, attempts in by_host.items()
            if len(attempts) > 1
        )

    def ended(self, ending: Ending) -> None:
        """The whole history of a finished job."""
        job, number = ending.job, ending.job["job"]
        first = number not in self.judged
        self.judged.add(number)
        self.counts["histories folded"] += 1
        self._events[number] = ending.events
        self.report(histories.judge(job, ending.events))
        for tenure in histories.tenures(number, ending.events):
            self._tenures[tenure.run] = tenure
        for path, data in ending.files.items():
            self.file_seen(number, path, data)
        task = self.tasks.get(job["name"])
        if task is None:
            what = f"job {number} is called {job['name']!r}, which nobody has submitted"
            self.report([Violation(Rule.ENDED_ONCE, what)])
            return
        if first:
            self.counts[f"jobs that {job['outcome']}"] += 1
            self.counts["attempts"] += job["attempt"]
        self._listen(task, ending)
        self._check_outcome(task, ending)
        self._check_faults(ending)

    def _listen(self, task: Task, ending: Ending) -> None:
        job, number = ending.job, ending.job["job"]
        for path, data in ending.files.items():
            attempt, _, name = path.partition("/")
            machine, _, kind = name.rpartition(".")
            if kind != "out" or machine.startswith("client") or "/" in name:
                continue
            heard = speech.hear(task.number, machine, f"{path} of job {number}", data)
            self.report(heard.violations)
            self._testimonies[number, path] = heard.testimonies
            told = next((m for m in job["machines"] if m["machine"] == machine), None)
            if attempt == f"attempt-{job['attempt']}" and told is not None:
                self._check_whole(path, number, told, heard.testimonies)
                if told["exit_code"] == 0 and told["state"] == "exited":
                    self._check_kept(task, ending, told)

    def _check_whole(
        self, path: str, job: int, machine: Mapping[str, Any], told: Sequence[Testimony]
    ) -> None:
        by_itself = machine["state"] == "exited" and machine["exit_code"] is not None
        if by_itself and not (told and told[-1].whole):
            what = f"{path} of job {job} breaks off, though its machine ended by itself"
            self.report([Violation(Rule.LOG_WHOLE, what, str(told[-1:]))])

    def _check_kept(self, task: Task, ending: Ending, machine: Mapping[str, Any]) -> None:
        if task.manner is not Manner.KEEPS:
            return
        name = machine["machine"]
        path = f"attempt-{ending.job['attempt']}/{name}/outputs.tar"
        data = ending.files.get(path)
        if data is None or witness.kept(task.number, name).encode() not in data:
            # A disk that was full may have had no room for the tarball.
            if not self._was_full(ending, machine["volunteer"]):
                self.report(
                    [
                        Violation(
                            Rule.OUTPUT_KEPT,
                            f"job {ending.job['job']}: {path} is not what {name} wrote",
                            "there is none" if data is None else f"{len(data)} bytes",
                        )
                    ]
                )
        else:
            self.counts["outputs compared"] += 1

    def _was_full(self, ending: Ending, *hosts: str) -> bool:
        """Whether the disk of one of these hosts, or of the manager, was full meanwhile."""
        begins = histories.seconds_of(ending.events[0]["at"])
        ends = histories.seconds_of(ending.events[-1]["at"])
        wanted = {"manager", *hosts}
        return any(span.host in wanted and span.meets(begins, ends) for span in self.full)

    def _check_outcome(self, task: Task, ending: Ending) -> None:
        job = ending.job
        outcome, number = job["outcome"], job["job"]
        allowed = set(_OUTCOMES[task.manner]) | {"lost"}
        if number in self.cancelled:
            allowed = {"cancelled"}
        elif self._was_full(ending, *(m["volunteer"] for m in job["machines"])):
            allowed |= {"failed", "passed"}
        if outcome not in allowed:
            self.report(
                [
                    Violation(
                        Rule.RIGHT_OUTCOME,
                        f"job {number} ({task.manner.value}) {outcome}, and not"
                        f" {' or '.join(sorted(allowed))}: {job['reason']}",
                        histories.told(ending.events),
                    )
                ]
            )

    def _check_faults(self, ending: Ending) -> None:
        for fault in ending.faults:
            self.counts["faults in ledgers"] += 1
            lasting = fault["kind"] not in ("revive", "reconnect", "resume", "heal")
            if fault["state"] == "requested" or (lasting and fault["state"] == "verified"):
                self.report(
                    [
                        Violation(
                            Rule.FAULT_HEALED,
                            f"job {ending.job['job']} is over, and its fault {fault['id']}"
                            f" ({fault['kind']}) is {fault['state']}",
                            f"{fault}\n{histories.told(ending.events)}",
                        )
                    ]
                )

    # In the end.

    def judge(self) -> None:
        """Find what can only be found when all is over."""
        for name, number in self.acknowledged.items():
            if number not in self.finished:
                what = f"{name} was acknowledged as job {number}, and has not ended"
                self.report([Violation(Rule.ENDED_ONCE, what)])
            elif number not in self.judged:
                what = f"the history of job {number} could not be had"
                self.report([Violation(Rule.ANSWERS, what)])
        said = [each for told in self._testimonies.values() for each in told]
        self.counts["witnesses heard"] = len(said)
        self.report(speech.overlaps(said))
        self.report(histories.overlaps(list(self._tenures.values()), self._events))
        self._check_owners(said)
        self.report(usage.judge(self.samples))

    def _check_owners(self, said: Iterable[Testimony]) -> None:
        for each in said:
            tenure = self._tenures.get(each.run)
            if tenure is None or tenure.address != each.address:
                what = f"{each.run} says that it ran at {each.address}"
                self.report([Violation(Rule.OWN_MACHINE, what, f"it was given: {tenure}")])
        for sighting in self._sightings.values():
            if sighting.run.job not in self.judged:
                continue
            tenure = self._tenures.get(sighting.run)
            if tenure is None or tenure.volunteer != sighting.host:
                what = f"{sighting.run} was seen on {sighting.host}"
                evidence = f"it was given: {tenure}\n{sighting}"
                self.report([Violation(Rule.OWN_MACHINE, what, evidence)])


def _numbers(jobs: Sequence[Mapping[str, Any]], name: str) -> str:
    return ", ".join(str(job["job"]) for job in jobs if job["name"] == name)
