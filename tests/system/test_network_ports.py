"""Jobs are kept from the daemons' ports, by real packets between hosts and over loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from syndicate.domain.fault import Links
from tests.support.hosts import JOB, Guard, Host, Told, hosts
from tests.support.traces import keeping

pytestmark = [pytest.mark.needs_root, pytest.mark.deadline(60)]

#: A daemon's port, one of a job that has the same number elsewhere, and one of nobody's concern.
DAEMON, OTHER = 7080, 9000
#: Users of jobs, of whom one is that of all of ours here; and one who has nothing to do with jobs.
UIDS = [JOB - 7, JOB + 8]
SOMEBODY = 30_777


@attrs.frozen
class Scene:
    """Two hosts, each with a volunteer, a program of a job, and a daemon."""

    one: Host
    two: Host
    guard: Guard
    job: Told
    outside: Told
    #: By what jobs are told from others.
    match: str

    def shut(self, **doors: Any) -> None:
        assert self.guard.do("shut", uids=UIDS, **doors) == self.match

    def as_job(self, *command: str) -> list[str]:
        """Words that run a command on the first host as a program of a job."""
        enter = f'echo 0 > {self.guard.group}/cgroup.procs && exec "$@"'
        return [
            *("nsenter", f"--net=/run/netns/{self.one.namespace}", "sh", "-c", enter, "sh"),
            *("setpriv", f"--reuid={JOB}", f"--regid={JOB}", "--clear-groups"),
            *("/usr/bin/python3", "-c", *command),
        ]

    def reach(self, told: Told, address: str, port: int = DAEMON) -> str:
        """How a new connection fares, a round trip included."""
        word: str = told.ask("connect", name="new", address=address, port=port, patience=2.0)
        if word == "ok":
            word = told.ask("say", name="new", patience=2.0)
            told.ask("hang_up", name="new")
        return word


@pytest.fixture(scope="module", params=["group", "user"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    state = tmp_path_factory.mktemp("doors")
    with ExitStack() as stack:
        one, two = stack.enter_context(hosts(2))
        started: list[Told] = []

        def started_too(told: Any) -> Any:
            stack.callback(told.end)
            started.append(told)
            return told

        stack.enter_context(keeping(lambda: [told.pid for told in started]))
        guard = started_too(one.daemon(state, one.namespace, match=request.param))
        stack.callback(guard.do, "close")
        job = started_too(one.talker(guard.group))
        outside = started_too(one.talker(uid=SOMEBODY))
        for host in (one, two):
            daemon = started_too(host.talker(uid=0))
            for port in (DAEMON, OTHER):
                daemon.ask("serve", port=port)
        yield Scene(one, two, guard, job, outside, request.param)


@pytest.fixture(autouse=True)
def all_open(scene: Scene) -> Iterator[None]:
    yield
    scene.shut()


def everywhere(scene: Scene) -> list[tuple[str, int]]:
    """The daemons' addresses as this host may know them."""
    loopback = ["127.0.0.1", "::1", "127.3.2.1"]
    own = [scene.one.address, scene.one.address6, *loopback]
    return [(a, port) for a in (*own, scene.two.address, scene.two.address6) for port in (DAEMON,)]


def test_everything_is_reached_as_long_as_nothing_is_shut(scene: Scene) -> None:
    """The tests below would prove nothing if it were not."""
    assert {scene.reach(scene.job, *place) for place in everywhere(scene)} == {"ok"}


def test_a_job_reaches_no_daemon_and_the_daemons_reach_each_other(scene: Scene) -> None:
    scene.shut(
        closed=[[scene.two.address, DAEMON], [scene.two.address6, DAEMON]],
        own=[DAEMON],
    )
    assert {scene.reach(scene.job, *place) for place in everywhere(scene)} == {"ECONNREFUSED"}
    assert {scene.reach(scene.outside, *place) for place in everywhere(scene)} == {"ok"}
    # The job's own traffic, to the very same hosts, goes on.
    for address in (scene.one.address, scene.two.address6, "127.0.0.1"):
        assert scene.reach(scene.job, address, OTHER) == "ok"


def test_the_other_protocol_of_streams_is_no_way_round(scene: Scene) -> None:
    scene.shut(closed=[[scene.two.address, DAEMON]], own=[DAEMON])
    multipath = (
        "import socket, sys\n"
        "for address in sys.argv[2:]:\n"
        "    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)\n"
        "    made.settimeout(2)\n"
        "    print(made.connect_ex((address, int(sys.argv[1]))))\n"
    )
    if not Path("/proc/sys/net/mptcp/enabled").exists():
        pytest.skip("this kernel has no MPTCP")
    words = {}
    for port in (DAEMON, OTHER):
        done = subprocess.run(
            scene.as_job(multipath, str(port), scene.two.address, scene.one.address),
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        )
        words[port] = done.stdout.split()
    assert words == {DAEMON: ["111", "111"], OTHER: ["0", "0"]}


def test_a_connection_that_was_there_before_is_left_alone(scene: Scene) -> None:
    """None is: a daemon closes the ports before it takes its first job."""
    scene.job.ask("connect", name="old", address=scene.two.address, port=DAEMON)
    scene.shut(closed=[[scene.two.address, DAEMON]])
    assert scene.job.ask("say", name="old") == "ok"
    scene.job.ask("hang_up", name="old")


def test_a_job_that_listens_on_the_same_number_is_reached(scene: Scene) -> None:
    listens = (
        "import socket, sys\n"
        "kind = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "made = socket.create_server((sys.argv[1], int(sys.argv[2])), family=kind)\n"
        "print('up', flush=True)\n"
        "while True:\n"
        "    c = made.accept()[0]\n"
        "    c.sendall(c.recv(99)); c.close()\n"
    )
    scene.shut(closed=[[scene.two.address, 7443]], own=[7443])
    with ExitStack() as stack:
        for address in ("127.5.5.5", scene.one.address6):
            server = subprocess.Popen(
                scene.as_job(listens, address, "7443"), stdout=subprocess.PIPE, text=True
            )
            stack.callback(server.wait)
            stack.callback(server.kill)
            assert server.stdout is not None
            stack.callback(server.stdout.close)
            assert server.stdout.readline() == "up\n"
            # By its user alone it cannot be told who listens.
            told = "ok" if scene.match == "group" else "ECONNREFUSED"
            assert scene.reach(scene.job, address, 7443) == told
            assert scene.reach(scene.outside, address, 7443) == "ok"


def test_what_the_site_has_opened_is_reached(scene: Scene) -> None:
    closed = [[scene.two.address, DAEMON], [scene.two.address6, DAEMON]]
    scene.shut(closed=closed, own=[DAEMON], open=[[scene.two.address, DAEMON], ["::1", DAEMON]])
    assert scene.reach(scene.job, scene.two.address) == "ok"
    assert scene.reach(scene.job, scene.two.address6) == "ECONNREFUSED"
    assert scene.reach(scene.job, "::1") == "ok"
    assert scene.reach(scene.job, "127.0.0.1") == "ECONNREFUSED"


def test_a_port_can_be_shut_at_every_host(scene: Scene) -> None:
    scene.shut(everywhere=[DAEMON])
    assert {scene.reach(scene.job, *place) for place in everywhere(scene)} == {"ECONNREFUSED"}
    assert {scene.reach(scene.outside, *place) for place in everywhere(scene)} == {"ok"}


def test_the_last_word_counts(scene: Scene) -> None:
    scene.shut(closed=[[scene.two.address, DAEMON]])
    scene.shut(closed=[[scene.two.address6, DAEMON]])
    assert scene.reach(scene.job, scene.two.address) == "ok"
    assert scene.reach(scene.job, scene.two.address6) == "ECONNREFUSED"


def test_faults_and_shut_ports_do_not_meet(scene: Scene) -> None:
    scene.shut(closed=[[scene.two.address, DAEMON]], own=[DAEMON])
    scene.guard.do("guard", key="1.1.m", peers=[scene.two.address])
    try:
        for links in (
            Links(blocked=(scene.two.address,)),
            Links(delay=((scene.two.address, 0.01),)),
            Links(loss=((scene.two.address, 1.0),)),
        ):
            scene.guard.apply(links)
            assert scene.reach(scene.job, "127.0.0.1") == "ECONNREFUSED"
            assert scene.reach(scene.job, scene.two.address) == "ECONNREFUSED"
            wanted = "timeout" if links.blocked else "ok"
            assert scene.reach(scene.job, scene.two.address, OTHER) == wanted
    finally:
        scene.guard.do("dismiss")


def test_a_daemon_without_the_right_says_that_nothing_is_shut(scene: Scene, tmp_path: Path) -> None:
    weak = scene.one.daemon(tmp_path, "weak", "setpriv", "--bounding-set=-net_admin")
    assert weak.do("shut", uids=UIDS, closed=[[scene.two.address, DAEMON]]) == ""
    weak.do("close")
    weak.end()


def test_a_killed_daemon_leaves_nothing_shut(scene: Scene, tmp_path: Path) -> None:
    doomed = scene.one.daemon(tmp_path, "doomed", match=scene.match)
    orphan = scene.one.talker(doomed.group)
    assert doomed.do("shut", uids=UIDS, closed=[[scene.two.address, DAEMON]]) == scene.match
    assert scene.reach(orphan, scene.two.address) == "ECONNREFUSED"
    doomed.kill()
    assert scene.reach(orphan, scene.two.address) == "ok"
    orphan.kill()
    argv = ("-m", "tests.support.guard_daemon", str(tmp_path), "doomed")
    following = Guard(Told.start(scene.one.namespace, *argv).process)
    following.do("sweep")
    following.end()


#: Runs a command where there are no control groups of version 2.
WITHOUT_GROUPS = ("unshare", "--mount", "sh", "-c", 'umount -R /sys/fs/cgroup && exec "$@"', "sh")


def test_where_there_are_no_control_groups_jobs_are_told_by_their_users(
    scene: Scene, tmp_path: Path
) -> None:
    guard = scene.one.daemon(tmp_path, "ungrouped", *WITHOUT_GROUPS)
    job, another = scene.one.talker(), scene.one.talker(uid=SOMEBODY)
    try:
        assert guard.facts["supported"] == []
        assert guard.do("shut", uids=UIDS, closed=[[scene.two.address, DAEMON]]) == "user"
        assert scene.reach(job, scene.two.address) == "ECONNREFUSED"
        assert scene.reach(another, scene.two.address) == "ok"
        assert guard.do("shut", uids=UIDS, closed=[[scene.two.address6, DAEMON]]) == "user"
        assert scene.reach(job, scene.two.address) == "ok"
        assert scene.reach(job, scene.two.address6) == "ECONNREFUSED"
        guard.do("close")
        assert scene.reach(job, scene.two.address6) == "ok"
    finally:
        for each in (guard, job, another):
            each.end()


def test_jobs_that_have_no_users_of_their_own_are_not_said_to_be_kept_from_anything(
    scene: Scene, tmp_path: Path
) -> None:
    guard = scene.one.daemon(tmp_path, "ungrouped", *WITHOUT_GROUPS)
    try:
        assert guard.do("shut", closed=[[scene.two.address, DAEMON]]) == ""
    finally:
        guard.do("close")
        guard.end()


def test_a_daemon_that_may_not_try_it_as_another_user_does_not_claim_that_it_works(
    scene: Scene, tmp_path: Path
) -> None:
    words = ("setpriv", "--bounding-set=-setuid", *WITHOUT_GROUPS)
    guard = scene.one.daemon(tmp_path, "unproved", *words)
    try:
        assert guard.do("shut", uids=UIDS, closed=[[scene.two.address, DAEMON]]) == ""
    finally:
        guard.do("close")
        guard.end()
