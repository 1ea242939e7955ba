"""Random sequences of faults: made up, carried out by a client in its sandbox, and compared with
the model of what must be up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from tests.support.agents import AgentJob, Log
from tests.support.fault_model import (
    Answer,
    Disagreement,
    Fault,
    Message,
    Model,
    Period,
    Step,
    violations,
)

#: Who calls. It is hurt as others are, but for being stopped.
CALLER = "client[0]"
#: Probes of each link, of each kind, in a second.
RATE = 100.0
#: Seconds within which everything flows again that must.
BOUND = 10.0
#: Seconds from one step to the next at the least: some probes of each link.
DWELL = 0.05

#: One step, or two that are called at the same time.
Move = tuple[Step, ...]


def moves(machines: Sequence[str]) -> st.SearchStrategy[list[Move]]:
    """Sequences of moves on a job of these machines, `CALLER` among them."""
    stopped = st.sampled_from([name for name in machines if name != CALLER])
    anyone = st.sampled_from(list(machines))
    lease = st.sampled_from([None, None, 0.15, 0.4])
    process = st.one_of(
        st.builds(Step, st.just("kill"), stopped, lease=lease),
        st.builds(Step, st.just("revive"), stopped, with_disk=st.booleans()),
        st.builds(Step, st.just("pause"), stopped, lease=lease),
        st.builds(Step, st.just("resume"), stopped),
    )
    cut = st.one_of(
        st.builds(Step, st.just("disconnect"), anyone, lease=lease),
        st.builds(Step, st.just("reconnect"), anyone),
        _partitions(machines, lease),
        st.builds(
            Step,
            st.just("loss"),
            anyone,
            percent=st.sampled_from([20.0, 50.0, 100.0]),
            lease=lease,
        ),
    )
    ending = st.one_of(
        st.builds(Step, st.just("heal one"), number=st.integers(0, 7)),
        st.builds(Step, st.just("heal one"), number=st.integers(0, 7)),
        st.just(Step("heal")),
        st.just(Step("wait")),
    )
    one = st.one_of(process, process, cut, cut, ending)
    race = stopped.map(lambda name: (Step("revive", name), Step("kill", name)))
    move = st.one_of(st.tuples(one), st.tuples(one), st.tuples(one), st.tuples(process, cut), race)
    return st.lists(move, min_size=3, max_size=8)


def _partitions(
    machines: Sequence[str], lease: st.SearchStrategy[float | None]
) -> st.SearchStrategy[Step]:
    mixed = st.permutations(list(machines))

    def split(names: list[str], at: int, one_way: bool, seconds: float | None) -> Step:
        groups = (tuple(names[:at]), tuple(names[at:]))
        return Step("partition", shape="split", groups=groups, one_way=one_way, lease=seconds)

    def bridge(names: list[str], seconds: float | None) -> Step:
        groups = (tuple(names[:2]), tuple(names[2:4]), (names[4],))
        return Step("partition", shape="bridge", groups=groups, lease=seconds)

    def ring(names: list[str], size: int, seconds: float | None) -> Step:
        return Step("partition", shape="ring", groups=(tuple(names[:size]),), lease=seconds)

    return st.one_of(
        st.builds(split, mixed, st.integers(1, len(machines) - 1), st.booleans(), lease),
        st.builds(bridge, mixed, lease),
        st.builds(ring, mixed, st.integers(4, len(machines)), lease),
    )


def arguments(step: Step) -> dict[str, Any]:
    """How the library for clients is called for a step."""
    words: list[Any] = [step.machine]
    more: dict[str, Any] = {} if step.lease is None else {"for_": step.lease}
    if step.kind == "revive":
        more["with_disk"] = step.with_disk
    elif step.kind == "loss":
        words.append(step.percent)
    elif step.kind == "partition":
        words = list(step.groups)
        more |= {"shape": step.shape, "one_way": step.one_way}
    elif step.kind == "heal":
        words = []
    return {"call": step.kind, "words": words, "more": more}


@attrs.define
class Runner:
    """Carries out sequences on one job, each on what the one before has left whole."""

    job: AgentJob
    log: Log
    #: Seconds within which everything flows again that must.
    bound: float = BOUND
    steps: int = 0
    #: Messages that came and were looked at.
    messages: int = 0
    #: The longest that anything took to flow again, in seconds.
    slowest: float = 0.0
    _model: Model = attrs.field(init=False)
    _periods: list[Period] = attrs.field(init=False, factory=list)

    def run(self, sequence: Sequence[Move]) -> None:
        """One sequence.

        :raises Disagreement: something was not as the model says.
        """
        self._model, self._periods = Model(tuple(self.job.where)), []
        done: list[str] = []
        try:
            for move in sequence:
                done.append(" + ".join(map(str, move)))
                self._move(move)
                time.sleep(DWELL)
            done.append("heal, at the end")
            self._move((Step("heal"),))
            self._check_told()
            if wrong := self._wrong():
                raise Disagreement("\n".join(wrong[:20]))
        except AssertionError as error:
            told = "\n".join(f"  {number} {step}" for number, step in enumerate(done))
            raise Disagreement(f"{error}\nThe steps were:\n{told}") from error

    def _move(self, move: Move) -> None:
        called = time.monotonic()
        self._close(called)
        if move[0].kind == "heal one":
            self._heal_one(move[0].number)
        elif move[0].kind == "wait":
            time.sleep(max(0.0, self._model.leases_over() - called))
            self._model.waited()
        else:
            self._carry_out(move, called)
        answered = time.monotonic()
        self._periods.append(Period(answered, math.inf, tuple(self._model.faults)))
        self.steps += 1
        wanted = self._model.must_flow()
        missing = self.job.hub.flowing(self.job.number, wanted, answered, self.bound)
        if missing:
            raise Disagreement(f"after {self.bound:g} s nothing came by {sorted(missing)}")
        self.slowest = max(self.slowest, time.monotonic() - answered)

    def _close(self, at: float) -> None:
        if self._periods:
            self._periods[-1] = attrs.evolve(self._periods[-1], end=at)

    def _carry_out(self, move: Move, called: float) -> None:
        hub, number = self.job.hub, self.job.number
        asked = [hub.begin(number, CALLER, "fault", **arguments(step)) for step in move]
        answers = [hub.end(one) for one in asked]
        answered = time.monotonic()
        both = [
            (step, Answer(told.get("id", ""), told.get("error", "")))
            for step, told in zip(move, answers, strict=True)
        ]
        # Of two that were called at once, the one with the lower number was first; what was
        # refused came before what made it possible.
        both.sort(key=lambda one: int(one[1].id[1:] or 0) if not one[1].error else 0)
        for step, answer in both:
            self._model.take(step, answer, called, answered)

    def _heal_one(self, number: int) -> None:
        if not self._model.faults:
            return
        fault: Fault = self._model.faults[number % len(self._model.faults)]
        told = self.job.call("heal", fault.id, by=CALLER)
        over = fault.ends_from < math.inf
        if told.get("healed") != [fault.id] and not (over and told.get("healed") == []):
            raise Disagreement(f"heal of {fault.id} was answered with {told}")
        self._model.heal_one(fault, time.monotonic())

    def _check_told(self) -> None:
        """Whether the job is told to be whole, when it is."""
        for machine in self.job.call("job", by=CALLER)["machines"]:
            if not machine["up"] or machine["cut"] or machine["faults"]:
                raise Disagreement(f"all is healed, but a client is told {machine}")

    def _wrong(self) -> list[str]:
        self._close(time.monotonic())
        with self.job.hub.quiet():
            came, rounds = self.log.came, self.log.rounds
            self.log.forget()
        self.messages += len(came)
        messages = (
            Message(
                one.way,
                (one.source, one.target),
                one.sent,
                # A round whose end nobody has told of was not over before its machine was.
                rounds.get(one.source, {}).get(one.sent, math.inf),
                one.came,
            )
            for one in came
        )
        return violations(self._periods, messages)
