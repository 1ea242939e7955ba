"""Loss, rate and delay of real packets are about what was asked for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from syndicate.domain.fault import Links
from tests.support.hosts import Guard, Host, Told, hosts

pytestmark = [pytest.mark.needs_root, pytest.mark.deadline(60)]

PORT = 7000


@attrs.frozen
class Pair:
    """A program of a guarded job, and one that listens on another host."""

    guard: Guard
    job: Told
    far: Host
    listener: Told

    def received(self, kind: str) -> int:
        count: int = self.listener.ask("count")[kind]
        return count


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        near, far = stack.enter_context(hosts(2))
        guard = near.daemon(tmp_path, "near")
        stack.callback(guard.end)
        stack.callback(guard.do, "close")
        guard.do("guard", key="1.1.m", peers=[far.address])
        job, listener = near.talker(guard.group), far.talker()
        stack.callback(job.end)
        stack.callback(listener.end)
        listener.ask("serve", port=PORT)
        job.ask("connect", name="c", address=far.address, port=PORT)
        yield Pair(guard, job, far, listener)


def test_about_as_many_packets_are_lost_as_was_asked_for(pair: Pair) -> None:
    pair.guard.apply(Links(loss=((pair.far.address, 30.0),)))
    sent = pair.job.ask(
        "flood", address=pair.far.address, port=PORT, size=100, seconds=1.0, pause=0.0002
    )
    time.sleep(0.2)
    share = 1 - pair.received("udp") / 100 / sent
    print(f"lost {share:.1%} of {sent}")
    assert 0.2 < share < 0.4
    # A stream bears it: what is lost is sent again.
    for _ in range(20):
        assert pair.job.ask("say", name="c", patience=10) == "ok"


@pytest.mark.parametrize(
    ("kind", "rate", "seconds"),
    [("udp", 200_000, 5.0), ("tcp", 200_000, 5.0), ("tcp", 2 << 20, 3.0)],
)
def test_about_as_much_passes_as_was_asked_for(
    pair: Pair, kind: str, rate: int, seconds: float
) -> None:
    pair.guard.apply(Links(rate=((pair.far.address, float(rate)),)))
    if kind == "udp":
        pair.job.ask(
            "flood", address=pair.far.address, port=PORT, size=1000, seconds=seconds, pause=0.001
        )
    else:
        pair.job.ask("pour", name="c", seconds=seconds)
    passed = pair.received(kind)
    print(f"{kind}: {passed / seconds:.0f} bytes per second, {rate} asked")
    # A second's worth can be saved up, and is there at the beginning.
    assert 0.5 * rate * seconds < passed < 1.1 * rate * (seconds + 1)


def test_packets_are_held_back_about_as_long_as_was_asked_for(pair: Pair) -> None:
    delay = 0.05
    pair.guard.apply(Links(delay=((pair.far.address, delay),)))
    times = []
    for _ in range(20):
        began = time.monotonic()
        assert pair.job.ask("say", name="c", patience=5) == "ok"
        times.append(time.monotonic() - began)
    print(
        f"asked 50 ms, round trips p50 {statistics.median(times) * 1000:.1f} ms,"
        f" most {max(times) * 1000:.1f} ms"
    )
    assert min(times) >= delay
    assert statistics.median(times) < delay + 0.2
    pair.guard.apply(Links())
    began = time.monotonic()
    assert pair.job.ask("say", name="c", patience=5) == "ok"
    assert time.monotonic() - began < delay


def test_different_links_are_held_back_differently_and_cut(pair: Pair) -> None:
    far = pair.far.address
    links = Links(delay=((far, 0.03),), loss=((far, 10.0),), rate=((far, 50_000.0),))
    pair.guard.apply(links)
    assert pair.job.ask("datagram", address=far, port=PORT, patience=1) in ("ok", "timeout")
    both = attrs.evolve(links, blocked=(far,))
    pair.guard.apply(both)
    assert pair.job.ask("datagram", address=far, port=PORT) == "timeout"
    pair.guard.apply(Links())
    assert pair.job.ask("datagram", address=far, port=PORT) == "ok"


def test_many_packets_are_held_back_at_once(pair: Pair) -> None:
    pair.guard.apply(Links(delay=((pair.far.address, 0.1),)))
    before = pair.received("udp")
    sent = pair.job.ask(
        "flood", address=pair.far.address, port=PORT, size=100, seconds=1.0, pause=0.0002
    )
    time.sleep(1.0)
    passed = (pair.received("udp") - before) // 100
    print(f"{passed} of {sent} datagrams passed")
    assert passed == sent
