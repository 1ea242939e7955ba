"""Guards over real packets: programs of jobs and others talk between hosts while links are cut."""

from __future__ import annotations

import itertools
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from syndicate.domain.fault import Links
from tests.support.hosts import Failed, Guard, Host, Told, hosts
from tests.support.labs import eventually
from tests.support.traces import keeping

pytestmark = [pytest.mark.needs_root, pytest.mark.deadline(60)]

PORT = 7000
OTHERS_PORT = 7001


@attrs.frozen
class Scene:
    """Three hosts; on two of them a guard, a program of a job, and one of somebody else."""

    one: Host
    two: Host
    third: Host
    guards: tuple[Guard, Guard]
    jobs: tuple[Told, Told]
    others: tuple[Told, Told]
    witness: Told

    def cut(self, first: Links, second: Links | None = None) -> None:
        """Put links in force on the first host, and on the second."""
        self.guards[0].apply(first)
        self.guards[1].apply(second or Links())

    @property
    def to_one(self) -> Links:
        addresses = (self.one.address, self.one.address6)
        return Links(blocked=addresses, unheard=addresses)

    @property
    def to_two(self) -> Links:
        addresses = (self.two.address, self.two.address6)
        return Links(blocked=addresses, unheard=addresses)

    def cut_one_way(self) -> None:
        """What the first sends does not reach the second; the other direction is open."""
        self.cut(Links(blocked=self.to_two.blocked), Links(unheard=self.to_one.unheard))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    state = tmp_path_factory.mktemp("guards")
    with ExitStack() as stack:
        one, two, third = stack.enter_context(hosts(3))
        started: list[Told] = []

        def started_too(told: Any) -> Any:
            stack.callback(told.end)
            started.append(told)
            return told

        stack.enter_context(keeping(lambda: [told.pid for told in started]))
        guards = tuple(started_too(host.daemon(state, host.namespace)) for host in (one, two))
        everyone = [h.address for h in (one, two, third)] + [h.address6 for h in (one, two, third)]
        for host, guard in zip((one, two), guards, strict=True):
            stack.callback(guard.do, "close")
            mine = (host.address, host.address6)
            guard.do("guard", key="1.1.m", peers=[a for a in everyone if a not in mine])
        jobs = tuple(
            started_too(host.talker(guard.group))
            for host, guard in zip((one, two), guards, strict=True)
        )
        others = tuple(started_too(host.talker()) for host in (one, two))
        for told, port in [*((job, PORT) for job in jobs), *((o, OTHERS_PORT) for o in others)]:
            told.ask("serve", port=port)
        witness = started_too(two.talker(uid=0))
        witness.ask("sniff", address=one.address)
        yield Scene(one, two, third, guards, jobs, others, witness)


@pytest.fixture(autouse=True)
def all_lifted(scene: Scene) -> Iterator[None]:
    yield
    scene.cut(Links())


def reached(talkers: tuple[Told, Told], scene: Scene, port: int, version: int = 4) -> set[str]:
    """By what means the first reaches the second, and the second the first; each is tried with
    a round trip.
    """
    ways: list[tuple[str, str, dict[str, Any]]] = []
    for index, target in enumerate((scene.two, scene.one)):
        address = target.address if version == 4 else target.address6
        where = ">" if index == 0 else "<"
        ways += [
            (f"old{where}", "say", {"name": "old"}),
            (f"new{where}", "connect", {"name": "new", "address": address, "port": port}),
            (f"udp{where}", "datagram", {"address": address, "port": port}),
            (f"icmp{where}", "ping", {"address": address}),
        ]
        for _, verb, words in ways[-4:]:
            talkers[index].send(verb, **words)
    return {way for i, (way, _, _) in enumerate(ways) if talkers[i // 4].answer() == "ok"}


ALL = {f"{way}{where}" for way in ("old", "new", "udp", "icmp") for where in "><"}
#: The answer to a ping comes from the other host itself, and not from the job.
PING_FROM_THE_OTHER_SIDE = {"icmp<"}

CUTS = {
    "nothing": (lambda scene: (Links(), Links()), ALL),
    "both": (lambda scene: (scene.to_two, scene.to_one), set()),
    "one": (lambda scene: (scene.to_two, Links()), PING_FROM_THE_OTHER_SIDE),
    "one way": (
        lambda scene: (Links(blocked=scene.to_two.blocked), Links(unheard=scene.to_one.unheard)),
        set(),
    ),
    "one and in": (
        lambda scene: (attrs.evolve(scene.to_two, refused=scene.to_two.blocked), Links()),
        PING_FROM_THE_OTHER_SIDE,
    ),
    "in": (lambda scene: (Links(refused=scene.to_two.blocked), Links()), {"icmp>", "icmp<"}),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("cut", CUTS)
def test_what_is_cut_is_cut_whole_and_only_that(scene: Scene, cut: str, version: int) -> None:
    make, expected = CUTS[cut]
    targets = (scene.two, scene.one)
    for talkers, port in ((scene.jobs, PORT), (scene.others, OTHERS_PORT)):
        for talker, target in zip(talkers, targets, strict=True):
            address = target.address if version == 4 else target.address6
            assert talker.ask("connect", name="old", address=address, port=port) == "ok"
            assert talker.ask("say", name="old") == "ok"
    scene.cut(*make(scene))
    assert reached(scene.jobs, scene, PORT, version) == expected
    assert reached(scene.others, scene, OTHERS_PORT, version) == ALL
    scene.cut(Links())
    for told in scene.jobs:
        assert told.ask("say", name="old", patience=10) == "ok"
    assert reached(scene.jobs, scene, PORT, version) == ALL


def test_no_packet_at_all_leaves_for_who_is_cut_off(scene: Scene) -> None:
    first, second = scene.jobs
    two = scene.two.address
    # A connection with something unsent whose program is killed, one that was closed on both
    # sides, a port whose program is gone, and one that nobody ever had.
    doomed = scene.one.talker(scene.guards[0].group)
    doomed.ask("serve", port=7100)
    assert doomed.ask("connect", name="x", address=two, port=PORT) == "ok"
    assert doomed.ask("say", name="x") == "ok"
    assert first.ask("connect", name="closed", address=two, port=PORT) == "ok"
    first.ask("hang_up", name="closed")
    one = scene.one.address
    assert second.ask("connect", name="server", address=one, port=7100) == "ok"
    time.sleep(0.1)
    scene.guards[0].apply(scene.to_two)
    # The proof itself sends to the others only, and counts for nothing here.
    scene.witness.ask("seen")
    assert doomed.ask("push", name="x", size=1 << 20) > 0
    assert second.ask("say", name="server", patience=0.2) == "timeout"
    doomed.kill()
    assert second.ask("say", name="server", patience=0.4) == "timeout"
    assert second.ask("connect", name="y", address=one, port=PORT) == "timeout"
    assert second.ask("connect", name="y", address=one, port=7100) == "timeout"
    assert second.ask("connect", name="y", address=one, port=7200) == "timeout"
    assert second.ask("datagram", address=one, port=PORT) == "timeout"
    assert second.ask("datagram", address=one, port=7200) == "timeout"
    assert first.ask("datagram", address=two, port=PORT) == "timeout"
    assert first.ask("connect", name="y", address=two, port=PORT) == "timeout"
    assert scene.witness.ask("seen") == []


def test_a_closed_connection_is_not_opened_again_through_a_cut(scene: Scene) -> None:
    _, second = scene.jobs
    one = scene.one.address
    closing = scene.one.talker(scene.guards[0].group)
    closing.ask("serve", port=7300)
    try:
        # The server closes first, and remembers the connection for a minute.
        assert second.ask("connect", name="c", address=one, port=7300, source=7301) == "ok"
        closing.kill()
        closing = scene.one.talker(scene.guards[0].group)
        closing.ask("serve", port=7300)
        assert second.ask("say", name="c") in ("closed", "EPIPE", "ECONNRESET")
        second.ask("hang_up", name="c")
        scene.guards[0].apply(scene.to_two)
        scene.witness.ask("seen")
        again = second.ask("connect", name="c", address=one, port=7300, source=7301)
        assert again in ("timeout", "EADDRNOTAVAIL")
        assert scene.witness.ask("seen") == []
    finally:
        closing.end()


def test_who_sends_datagrams_is_not_told_that_they_are_lost(scene: Scene) -> None:
    scene.cut(scene.to_two, scene.to_one)
    for address in (scene.two.address, scene.two.address6):
        assert scene.jobs[0].ask("shout", address=address, port=PORT) == "ok"


def test_a_datagram_still_comes_in_from_who_is_not_cut(scene: Scene) -> None:
    scene.cut(scene.to_two)
    before = scene.jobs[0].ask("count")["udp"]
    scene.jobs[1].ask("shout", address=scene.one.address, port=PORT)
    assert scene.jobs[1].ask("ping", address=scene.one.address) == "ok"
    eventually(lambda: scene.jobs[0].ask("count")["udp"] == before + len("!hello"))


def heard(scene: Scene, by: int, patience: float) -> int:
    """How much one job hears, so many seconds at most, of what the other says to all at once."""
    hearer, speaker = scene.jobs[by], scene.jobs[1 - by]
    before = int(hearer.ask("count")["udp"])
    until = time.monotonic() + patience
    assert speaker.ask("shout", address="10.66.0.255", port=PORT) == "ok"
    while (now := int(hearer.ask("count")["udp"])) == before and time.monotonic() < until:
        time.sleep(0.02)
    return now - before


def test_a_shout_to_all_is_not_heard_by_who_is_cut_off(scene: Scene) -> None:
    assert heard(scene, by=1, patience=8) > 0
    scene.cut(scene.to_two, scene.to_one)
    assert heard(scene, by=1, patience=0.5) == 0
    scene.cut(Links())
    assert heard(scene, by=1, patience=8) > 0


def test_a_shout_to_all_is_heard_in_the_direction_that_is_open(scene: Scene) -> None:
    scene.cut_one_way()
    assert heard(scene, by=1, patience=0.5) == 0
    assert heard(scene, by=0, patience=8) > 0


@pytest.mark.parametrize("lasts", [1.0, 3.0])
def test_a_connection_stops_at_once_and_goes_on_at_once(scene: Scene, lasts: float) -> None:
    first = scene.jobs[0]
    for told, port in ((first, PORT), (scene.others[0], OTHERS_PORT)):
        told.ask("connect", name="beat", address=scene.two.address, port=port)
        told.ask("pulse", name="beat")
    time.sleep(0.3)
    for told in (first, scene.others[0]):
        assert len(told.ask("beaten")) > 10
    asked = time.monotonic()
    scene.cut(scene.to_two, scene.to_one)
    time.sleep(lasts)
    last = max(first.ask("beaten"), default=asked)
    lifted = time.monotonic()
    scene.cut(Links())
    time.sleep(1.5)
    beats = first.ask("beaten")
    print(
        f"last echo {1000 * (last - asked):.1f} ms after the call, and again"
        f" {1000 * (beats[0] - lifted):.1f} ms after it was lifted"
    )
    assert last - asked < 0.5
    assert beats[0] > lifted
    assert beats[0] - lifted < 1.0
    undisturbed = scene.others[0].ask("beaten")
    assert max(b - a for a, b in itertools.pairwise(undisturbed)) < 0.5


def test_who_comes_after_a_kill_is_cut_off_too(scene: Scene) -> None:
    scene.cut(scene.to_two, scene.to_one)
    revived = scene.one.talker(scene.guards[0].group)
    reach = {"name": "r", "address": scene.two.address, "port": PORT}
    assert revived.ask("connect", **reach) == "timeout"
    revived.kill()
    revived = scene.one.talker(scene.guards[0].group)
    assert revived.ask("connect", **reach) == "timeout"
    scene.cut(Links())
    assert revived.ask("connect", **reach) == "ok"
    revived.end()


def test_the_whole_replaces_what_was_in_force(scene: Scene) -> None:
    third = Links(blocked=(scene.third.address,))
    job, two = scene.jobs[0], scene.two.address
    scene.cut(attrs.evolve(third, blocked=(*third.blocked, two)))
    assert job.ask("ping", address=two) == job.ask("ping", address=scene.third.address) == "timeout"
    scene.cut(third)
    assert job.ask("ping", address=two) == "ok"
    assert job.ask("ping", address=scene.third.address) == "timeout"


def test_a_second_volunteer_on_the_host_is_untouched(scene: Scene, tmp_path: Path) -> None:
    guard = scene.one.daemon(tmp_path, "second")
    guard.do("guard", key="1.1.m", peers=[scene.two.address])
    neighbour = scene.one.talker(guard.group)
    reach = {"name": "n", "address": scene.two.address, "port": PORT}
    scene.cut(scene.to_two, scene.to_one)
    assert neighbour.ask("connect", **{**reach, "port": OTHERS_PORT}) == "ok"
    scene.cut(Links())
    guard.apply(Links(blocked=(scene.two.address,)))
    assert neighbour.ask("connect", **reach) == "timeout"
    assert scene.jobs[0].ask("connect", **reach) == "ok"
    guard.do("dismiss")
    assert neighbour.ask("connect", **reach) == "ok"
    neighbour.end()
    guard.do("close")
    guard.end()


def test_a_killed_daemon_leaves_no_cut_and_the_next_one_clears_up(
    scene: Scene, tmp_path: Path
) -> None:
    guard = scene.one.daemon(tmp_path, "doomed")
    guard.do("guard", key="1.1.m", peers=[scene.two.address])
    orphan = scene.one.talker(guard.group)
    reach = {"name": "o", "address": scene.two.address, "port": OTHERS_PORT}
    guard.apply(Links(blocked=(scene.two.address,), delay=((scene.third.address, 0.01),)))
    assert orphan.ask("connect", **reach) == "timeout"
    before = scene.guards[0].do("tables")
    guard.kill()
    assert orphan.ask("connect", patience=5, **reach) == "ok"
    listed = subprocess.run(
        ["nsenter", f"--net=/run/netns/{scene.one.namespace}", "nft", "list", "tables"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert sorted(listed.split()[2::3]) == sorted(before)
    assert Path(guard.group).is_dir()
    argv = ("-m", "tests.support.guard_daemon", str(tmp_path), "doomed")
    following = Guard(Told.start(scene.one.namespace, *argv).process)
    assert following.do("sweep") == 1
    assert not Path(guard.group).exists()
    assert orphan.process.wait(5) == -9
    orphan.end()
    assert following.do("sweep") == 0
    following.end()


def test_a_daemon_without_the_right_says_so_and_lets_jobs_run(scene: Scene, tmp_path: Path) -> None:
    guard = scene.one.daemon(tmp_path, "weak", "setpriv", "--bounding-set=-net_admin")
    assert guard.facts["supported"] == []
    assert "Operation not permitted" in dict(guard.facts["unsupported"])["disconnect"]
    assert guard.group == "None"
    guard.do("guard", key="1.1.m", peers=[scene.two.address])
    guard.do("apply")
    with pytest.raises(Failed, match=r"unsupported: .*not permitted"):
        guard.do("apply", blocked=[scene.two.address])
    guard.do("dismiss")
    guard.end()


# That the proofs can fail.


def conflict(guard: Guard, links: Links) -> str:
    with pytest.raises(Failed, match=r"^conflict: ") as caught:
        guard.do("verify", **attrs.asdict(links))
    return str(caught.value)


def test_what_was_not_put_in_force_is_noticed(scene: Scene) -> None:
    guard, to_two = scene.guards[0], scene.to_two
    assert f"{scene.two.address}: a datagram left by eth0" in conflict(guard, to_two)
    guard.apply(to_two)
    guard.do("spoil")
    assert scene.two.address in conflict(guard, to_two)
    guard.apply(Links())
    conflict(guard, Links(refused=to_two.blocked))
    conflict(guard, Links(loss=((scene.two.address, 20.0),)))
    conflict(guard, Links(rate=((scene.two.address, 10_000.0),)))
    for address in (scene.two.address, scene.two.address6):
        fast = Links(rate=((address, 3e6),))
        assert "the kernel has no limit" in conflict(guard, fast)
        proofs = {proof["address"]: proof["seen"] for proof in guard.apply(fast)}
        # Others of the job may have sent something, too.
        assert re.search(
            r"a limit of 3000000 bytes per second, to which [1-9]\d* packets", proofs[address]
        )
        conflict(guard, Links(rate=((address, 2e6),)))
    conflict(guard, Links(delay=((scene.two.address, 0.1),)))


def test_what_is_still_in_force_is_noticed(scene: Scene) -> None:
    guard, two = scene.guards[0], scene.two.address
    for links in (
        scene.to_two,
        Links(refused=(two,)),
        Links(loss=((two, 100.0),)),
        Links(delay=((two, 0.3),)),
    ):
        guard.apply(links)
        assert two in conflict(guard, Links())
    guard.apply(Links(loss=((two, 30.0),)))
    conflict(guard, Links(loss=((two, 90.0),)))


@pytest.mark.parametrize("wrong", ["level", "group"])
def test_rules_that_match_nothing_are_noticed(scene: Scene, tmp_path: Path, wrong: str) -> None:
    guard = scene.one.daemon(tmp_path, "wrong")
    right = Path(guard.group)
    elsewhere: Any = {"level": {"level": 3}, "group": {"group": scene.guards[0].group}}
    guard.do("misplace", **elsewhere[wrong])
    guard.do("guard", key="1.1.m", peers=[scene.two.address])
    cut = Links(blocked=(scene.two.address,))
    guard.apply(cut, verify=False)
    assert scene.two.address in conflict(guard, cut)
    guard.do("dismiss")
    guard.do("close")
    guard.end()
    assert not right.exists()
