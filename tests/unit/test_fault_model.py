"""The model that real faults are compared with: that it is right, and that it notices."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given

from syndicate.domain import fault as domain
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
from tests.support.fault_sequences import moves

MACHINES = ("master", "slave[0]", "slave[1]", "slave[2]", "client[0]")
ADDRESSES = {name: f"10.0.0.{number}" for number, name in enumerate(MACHINES, 1)}
ON_LINKS = ("disconnect", "partition", "loss")


def as_recorded(number: int, step: Step) -> domain.Fault:
    """The step as the manager writes it down."""
    blocked: tuple[tuple[str, str], ...] = ()
    if step.kind == "partition":
        blocked = domain.partition(step.shape, step.groups, one_way=step.one_way)
    return domain.Fault(
        number,
        1,
        domain.Kind(step.kind),
        (step.machine,) if step.machine else (),
        "client[0]",
        0.0,
        blocked=blocked,
        amount=step.percent,
    )


@given(moves(MACHINES))
def test_the_model_blocks_just_what_the_manager_orders_to_be_blocked(
    sequence: list[tuple[Step, ...]],
) -> None:
    steps = [step for move in sequence for step in move if step.kind in ON_LINKS]
    model = Model(MACHINES)
    ordered: list[domain.Fault] = []
    for number, step in enumerate(steps, 1):
        whole = attrs.evolve(step, lease=None)
        model.take(whole, Answer(f"f{number}"), 0.0, 0.0)
        if step.kind == "loss":
            ordered = [
                f
                for f in ordered
                if f.kind is not domain.Kind.LOSS or f.machines != (step.machine,)
            ]
        ordered.append(as_recorded(number, whole))
    links = domain.links(ordered, ADDRESSES)
    for source, target in model.links:
        lost = dict(links[source].loss).get(ADDRESSES[target], 0.0)
        blocked = ADDRESSES[target] in links[source].blocked or lost == 100
        assert blocked == any(fault.blocks((source, target)) for fault in model.faults)
        assert (lost > 0) == any(fault.loses((source, target)) for fault in model.faults)


CUT = Step("disconnect", "slave[0]")


def cut(lease: float = math.inf) -> list[Period]:
    """A machine is cut off from 10 to 20."""
    fault = Fault("f1", CUT, 9.9 + lease, 10.0 + lease)
    return [Period(0.0, 9.9, ()), Period(10.0, 20.0, (fault,)), Period(20.1, 30.0, ())]


def message(way: str, source: str, target: str, sent: float, after: float = 0.001) -> Message:
    return Message(way, (source, target), sent, sent + 0.0005, sent + after)


@pytest.mark.parametrize("way", ["udp", "tcp"])
@pytest.mark.parametrize(("source", "target"), [("slave[0]", "master"), ("slave[1]", "slave[0]")])
def test_one_message_by_one_direction_of_a_link_that_is_cut_is_noticed(
    way: str, source: str, target: str
) -> None:
    (found,) = violations(cut(), [message(way, source, target, 15.0)])
    assert f"{way} {source} > {target}" in found


def test_a_datagram_that_comes_long_after_is_noticed_and_what_is_sent_again_is_none() -> None:
    assert violations(cut(), [message("udp", "master", "slave[0]", 15.0, after=10.0)])
    assert not violations(cut(), [message("tcp", "master", "slave[0]", 15.0, after=10.0)])


def test_what_is_sent_before_or_after_or_to_clients_or_when_a_lease_is_over_may_come() -> None:
    fine = [message("udp", "master", "slave[0]", at) for at in (5.0, 9.95, 19.9999, 20.05, 25.0)]
    fine += [message("udp", *pair, 15.0) for pair in (("slave[0]", "client[0]"),) * 2]
    fine += [message("tcp", "master", "slave[1]", 15.0)]
    assert violations(cut(), fine) == []
    assert violations(cut(lease=2.0), [message("udp", "master", "slave[0]", 15.0)]) == []
    assert violations(cut(lease=6.0), [message("udp", "master", "slave[0]", 15.0)])


def test_a_word_from_the_dead_is_noticed() -> None:
    dead = Fault("f1", Step("kill", "slave[0]"))
    periods = [Period(10.0, 20.0, (dead,))]
    assert violations(periods, [message("udp", "slave[0]", "client[0]", 15.0)])
    assert not violations(periods, [message("udp", "client[0]", "slave[0]", 15.0)])


def test_an_answer_that_cannot_be_is_noticed() -> None:
    model = Model(MACHINES)
    with pytest.raises(Disagreement):
        model.take(Step("revive", "master"), Answer("f1"), 0.0, 0.1)
    model.take(Step("kill", "master"), Answer("f1"), 0.0, 0.1)
    with pytest.raises(Disagreement):
        model.take(Step("revive", "master"), Answer("", "already_running"), 1.0, 1.1)
    with pytest.raises(Disagreement):
        model.take(Step("pause", "master"), Answer("f2"), 1.0, 1.1)
    model.take(Step("revive", "master"), Answer("f3"), 2.0, 2.1)
    assert model.faults == []
