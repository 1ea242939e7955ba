"""What each of the five calls does to every kind of traffic and to every process, and that it does
nothing to others: on real daemons and real packets, called by a client in its sandbox.

The manager shares a host with a machine of the job that is hurt. The machines are hurt alone on
the cluster, and beside another job.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest

from tests.support import agents
from tests.support.agents import AgentJob, Hub
from tests.support.labs import Running, eventually, processes_of, up

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

#: Who the manager shares its host with.
SHARED = "v1"

WAYS = ("old", "new", "udp", "icmp")
#: A host answers to a ping whatever becomes of its job's processes.
OF_PROCESSES = ("old", "new", "udp")

#: Way, source and target.
Reached = set[tuple[str, str, str]]

#: Seconds that are waited for what must not come.
PATIENCE = 0.4


@attrs.frozen
class Scene:
    """The job that is hurt, and another that is not."""

    lab: Running
    job: AgentJob
    #: The machine beside the manager, which is the one that is hurt.
    victim: str
    other: AgentJob | None

    @property
    def peers(self) -> list[str]:
        """The masters and slaves that the victim is cut off from."""
        return [name for name in self.job.machines if name != self.victim]

    def bystanders(self) -> dict[str, Any]:
        """All that must be as it was after whatever was done to the job."""
        told = self.lab.volunteers()
        return {
            "links to the manager": {name: v["registered_at"] for name, v in told.items()},
            "processes": self.other and {v: self.processes(v) for v in self.other.hosts.values()},
        }

    def processes(self, volunteer: str) -> list[str]:
        """What runs of a job on a volunteer."""
        uids = self.lab.lab.host(volunteer).uids
        assert uids is not None
        return sorted(processes_of(range(uids[0], uids[1] + 1)))


def all_ways(names: Iterable[str], ways: tuple[str, ...] = WAYS) -> Reached:
    """Each of them to each other."""
    return {(way, a, b) for way in ways for a, b in itertools.permutations(names, 2)}


def touching(found: Reached, name: str) -> Reached:
    """Those to and from a machine."""
    return {each for each in found if name in each[1:]}


def tried(job: AgentJob, wanted: Reached, patience: float = PATIENCE) -> Reached:
    """Those by which an answer came; each is tried with a round trip, all at once."""
    asked = []
    for source in job.where:
        mine = sorted((way, target) for way, name, target in wanted if name == source)
        if mine and job.hub.knows(job.number, source):
            ways = [(way, job.where[target]) for way, target in mine]
            asked.append(
                (
                    source,
                    mine,
                    job.hub.begin(job.number, source, "reach", ways=ways, patience=patience),
                )
            )
    return {
        (way, source, target)
        for source, mine, pending in asked
        for (way, target), good in zip(mine, job.hub.end(pending) or [], strict=False)
        if good
    }


def assert_up(job: AgentJob, wanted: Reached) -> None:
    """All these ways are open; a host that has much to do is given time."""
    left = wanted
    for patience in (PATIENCE, 2.0, 10.0):
        left = left - tried(job, left, patience)
    assert left == set()


def assert_only(scene: Scene, down: Reached, up: Reached) -> None:
    """None of the former is open, all of the latter, and everything of the other job."""
    assert tried(scene.job, down) == set()
    assert_up(scene.job, up)
    assert_other_up(scene)


def assert_other_up(scene: Scene) -> None:
    if scene.other is not None:
        assert_up(scene.other, all_ways(scene.other.where))


def acquaint(job: AgentJob, names: Iterable[str]) -> None:
    for name in names:
        peers = [address for peer, address in job.where.items() if peer != name]
        assert job.ask(name, "acquaint", peers=peers) == "ok"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with up(tmp_path_factory.mktemp("lab"), 7, manager_on=SHARED) as running:
        for host in running.lab.hosts.values():
            let = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range"
            assert running.lab.exec(host.name, ["sh", "-c", let]).wait() == 0
        yield running


@pytest.fixture(scope="module")
def hub(lab: Running) -> Iterator[Hub]:
    hub = Hub(lab.lab.description.gateway)
    yield hub
    hub.close()


def start_on(lab: Running, hub: Hub, shared: str) -> AgentJob:
    """A job that has a master or slave on that volunteer."""
    for _ in range(20):
        job = agents.start(lab, hub, 3, 1)
        if shared in [job.hosts[name] for name in job.machines]:
            return job
        end(lab, job)
        # The one that has been free longest comes last now.
        lab.wait(lab.submit(lab.source("master slave:\n\ttrue\n"), 1))
    raise AssertionError(f"{shared} was never given to it")


def end(lab: Running, job: AgentJob) -> None:
    lab.run("cancel", str(job.number), "--yes")
    lab.wait(job.number)
    eventually(lab.all_free)


@pytest.fixture(scope="module", params=["alone", "beside another job"])
def scene(request: pytest.FixtureRequest, lab: Running, hub: Hub) -> Iterator[Scene]:
    with ExitStack() as stack:
        job = start_on(lab, hub, SHARED)
        stack.callback(end, lab, job)
        other = None
        if request.param != "alone":
            other = agents.start(lab, hub, 2, 1)
            stack.callback(lambda: lab.run("cancel", str(other.number), "--yes"))
            acquaint(other, other.where)
        victim = next(name for name in job.machines if job.hosts[name] == SHARED)
        yield Scene(lab, job, victim, other)


@pytest.fixture(autouse=True)
def all_is_as_it_was(request: pytest.FixtureRequest, scene: Scene) -> Iterator[None]:
    """Before each test everybody reaches everybody; after it the bystanders are as they were."""
    job = scene.job
    acquaint(job, job.where)
    assert_up(job, all_ways(job.where))
    before = scene.bystanders()
    yield
    assert scene.bystanders() == before
    assert_other_up(scene)


def verified(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer.get("state") == "verified", answer
    assert answer["requested_at"] <= answer["applied_at"] <= answer["verified_at"]
    return answer


def test_disconnect_cuts_a_machine_from_masters_and_slaves_until_reconnect(scene: Scene) -> None:
    job, victim = scene.job, scene.victim
    everything = all_ways(job.where)
    down = touching(all_ways(job.machines), victim)
    # By address; the next one by name.
    verified(job.call("disconnect", job.where[victim]))
    assert_only(scene, down, everything - down)
    verified(job.call("reconnect", victim))
    assert_only(scene, set(), everything)


def test_a_link_is_up_only_if_neither_end_is_disconnected(scene: Scene) -> None:
    job, victim, second = scene.job, scene.victim, scene.peers[0]
    everything, machines = all_ways(job.where), all_ways(job.machines)
    for name in (victim, second):
        verified(job.call("disconnect", name))
    both = touching(machines, victim) | touching(machines, second)
    assert_only(scene, both, everything - both)
    verified(job.call("reconnect", victim))
    still = touching(machines, second)
    assert_only(scene, still, everything - still)
    verified(job.call("reconnect", second))
    assert_only(scene, set(), everything)


def test_a_client_that_is_disconnected_reaches_no_master_and_no_slave(scene: Scene) -> None:
    job = scene.job
    everything = all_ways(job.where)
    down = touching(everything, "client[0]")
    # Its door is no network.
    verified(job.call("disconnect", "client[0]"))
    assert_only(scene, down, everything - down)
    verified(job.call("reconnect", "client[0]"))
    assert_only(scene, set(), everything)


#: Left by itself, in a session of its own, and deaf to signals: ``sleep`` for each way.
STUBBORN = """
setsid sh -c 'trap "" TERM HUP INT; sleep 901; sleep 901' >/dev/null 2>&1 &
(nohup sleep 902 >/dev/null 2>&1 &) &
"""


@pytest.mark.parametrize("with_disk", [True, False])
def test_kill_ends_every_process_until_revive(scene: Scene, with_disk: bool) -> None:
    job, victim = scene.job, scene.victim
    everything = all_ways(job.where)
    dead = touching(all_ways(job.where, OF_PROCESSES), victim)
    job.ask(victim, "fresh")
    job.ask(victim, "children", script=STUBBORN)
    eventually(lambda: sum("sleep" in each for each in scene.processes(SHARED)) >= 2)
    verified(job.call("kill", job.where[victim]))
    assert scene.processes(SHARED) == []
    eventually(lambda: not job.hub.knows(job.number, victim))
    assert_only(scene, dead, all_ways([*scene.peers, "client[0]"]))
    # What is dead is answered, and is not two starts later.
    verified(job.call("kill", victim))
    verified(job.call("revive", victim, with_disk=with_disk))
    job.there(victim)
    assert job.ask(victim, "fresh") is not with_disk
    acquaint(job, [victim])
    # What was connected to the former process is not any more, as on any network.
    gone = {each for each in everything if each[0] == "old" and each[2] == victim}
    assert_only(scene, set(), everything - gone)
    refused = job.call("revive", victim)
    assert refused["error"] == "already_running"


def test_a_machine_that_is_killed_and_revived_is_still_cut_off(scene: Scene) -> None:
    job, victim = scene.job, scene.victim
    machines = all_ways(job.machines)
    verified(job.call("disconnect", victim))
    verified(job.call("kill", victim))
    verified(job.call("revive", victim, with_disk=False))
    job.there(victim)
    down = touching(machines, victim)
    to_client = {w for w in all_ways(job.where, ("new", "udp", "icmp")) if "client[0]" in w}
    assert_only(scene, down, to_client)
    verified(job.call("reconnect", victim))
    acquaint(job, job.where)
    assert_only(scene, set(), all_ways(job.where))


SERVE = """
import socket
with socket.create_server(("", 7)) as server:
    print(flush=True)
    server.accept()
"""


def test_hosts_themselves_reach_each_other_whatever_is_cut_between_their_machines(
    scene: Scene,
) -> None:
    job, lab = scene.job, scene.lab.lab
    peer = scene.peers[0]
    verified(job.call("disconnect", scene.victim))
    ends = [(SHARED, job.where[scene.victim]), (job.hosts[peer], job.where[peer])]
    for (here, _), (there, address) in itertools.permutations(ends):
        with lab.exec(there, [sys.executable, "-c", SERVE], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            server.stdout.readline()
            dial = f"import socket; socket.create_connection(('{address}', 7), 10)"
            assert lab.exec(here, [sys.executable, "-c", dial]).wait(20) == 0
            server.wait(10)
    verified(job.call("reconnect", scene.victim))


def test_finish_ends_the_job_and_frees_its_machines_and_no_others(scene: Scene) -> None:
    # The last test of a scene, as nothing is left of the job after it.
    job, lab = scene.job, scene.lab
    verified(job.call("disconnect", scene.victim))
    # The answer may be lost, as the client is ended then.
    answer = job.call("finish", True, 7.5, "all was seen")
    assert answer is None or answer["finished"] == "client[0]"
    told = lab.wait(job.number)
    assert (told["outcome"], told["reason"]) == ("passed", "Every client has finished and passed.")
    for volunteer in job.hosts.values():
        assert scene.processes(volunteer) == []
    free = {name for name, v in lab.volunteers().items() if v["state"] == "free"}
    assert free >= set(job.hosts.values())
    assert free.isdisjoint(scene.other.hosts.values() if scene.other else ())
    listed = lab.run("fault", "list", str(job.number), "-o", "json").json()
    faults = listed["faults"] if isinstance(listed, dict) else listed
    assert {fault["state"] for fault in faults} <= {"verified", "healed"}
    assert all(fault["state"] == "healed" for fault in faults if fault["kind"] == "disconnect")
