"""The lab's own work, with simple daemons; the real ones are in the other tests' labs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syndicate.domain.errors import Conflict, Invalid, NotFound, Timeout, Unavailable
from syndicate.lab import leftovers, neighbours, network, processes, state
from syndicate.lab.cluster import Lab
from syndicate.lab.lock import exclusive, whole_machine
from syndicate.lab.processes import Spaces
from tests.support.dummy_daemons import POINTS, Sleepers
from tests.support.labs import eventually

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(40)]

Make = Callable[..., Lab]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes labs, and ends those that the test has not."""
    made: list[Lab] = []

    def lab(name: str = "one", daemons: Sleepers | None = None) -> Lab:
        made.append(Lab(name, tmp_path / name, daemons=daemons or Sleepers()))
        return made[-1]

    yield lab
    for each in made:
        each.down()


def in_host(lab: Lab, host: str, *argv: str) -> str:
    with lab.exec(host, argv, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate()
    assert process.returncode == 0
    return str(said)


def left_of(lab: Lab, index: int) -> list[str]:
    """Whatever there is of a lab."""
    names = [name for name in network.interfaces() if name.startswith(f"syn-{index}")]
    spaces = [path.name for path in processes.NAMESPACES.glob(f"syn-{index}-*")]
    files = [str(lab.directory)] if lab.directory.exists() else []
    return [*names, *spaces, *files]


def test_every_host_has_one_address_of_its_own_and_reaches_the_others(make: Make) -> None:
    lab = make()
    lab.up(2)
    seen = set()
    for host in lab.hosts.values():
        found = json.loads(in_host(lab, host.name, "ip", "-j", "addr", "show", "up"))
        outer = [a for link in found if link["ifname"] != "lo" for a in link["addr_info"]]
        assert [address["local"] for address in outer] == [host.address]
        seen.add(host.address)
    assert len(seen) == 3
    # A datagram from each to the manager and back, and to this machine.
    listen = (
        "import socket; s = socket.create_server(('', 7)); s.settimeout(5); s.accept(); s.accept()"
    )
    dial = "import socket, sys; socket.create_connection((sys.argv[1], 7), 5)"
    with lab.exec("manager", [sys.executable, "-c", listen]) as server:
        deadline = time.monotonic() + 5
        for caller in ("v1", "v2"):
            call = [sys.executable, "-c", dial, lab.hosts["manager"].address]
            while lab.exec(caller, call, stderr=subprocess.DEVNULL).wait() != 0:
                assert time.monotonic() < deadline
        assert server.wait(5) == 0


def test_down_leaves_nothing(make: Make) -> None:
    lab = make()
    lab.up(3)
    index = lab.description.index
    pids = [host.pid for host in lab.hosts.values()]
    assert left_of(lab, index)
    assert lab.down()
    assert left_of(lab, index) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not lab.down()


def test_what_a_host_started_ends_with_the_lab(make: Make) -> None:
    lab = make()
    lab.up(1)
    # As a job's daemon would: in another session, deaf to requests, and out of our hands.
    script = "trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; sleep 601; true' & sleep 602"
    process = lab.exec("v1", ["sh", "-c", script], start_new_session=True)
    deadline = time.monotonic() + 5
    spaces = Spaces.named([lab.hosts["v1"].namespace])
    while len(inside := spaces.processes()) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lab.down()
    assert process.wait(1) == -signal.SIGKILL
    assert not any(map(processes.is_alive, inside))


def test_labs_stand_side_by_side(make: Make) -> None:
    one, other = make("one"), make("other")
    one.up(2)
    other.up(2)
    first, second = one.description, other.description
    assert first.net != second.net
    assert first.index != second.index
    uids = [
        uid
        for each in (first, second)
        for host in each.volunteers
        for uid in range(host.uids[0], host.uids[1] + 1)  # type: ignore[index]
    ]
    assert len(uids) == len(set(uids)) == 4 * 16
    one.down()
    assert left_of(one, first.index) == []
    assert all(each.runs for each in other.status())


def test_a_lab_that_is_up_is_left_as_it_is(make: Make) -> None:
    lab = make()
    lab.up(2)
    before = lab.description
    lab.up(2)
    assert lab.description == before
    with pytest.raises(Conflict, match=r"syndicate lab down --name one"):
        lab.up(3)
    assert lab.description == before


def test_a_lab_of_which_something_ended_is_made_anew(make: Make) -> None:
    lab = make()
    lab.up(2)
    lab.kill("v1")
    assert [each.runs for each in lab.status()] == [True, False, True]
    lab.up(2)
    assert all(each.ready for each in lab.status())


def test_the_manager_can_share_a_volunteers_host(make: Make) -> None:
    lab = make()
    with pytest.raises(Invalid, match="v1 to v2"):
        lab.up(2, manager_on="v3")
    lab.up(2, manager_on="v2")
    manager, shared = lab.host("manager"), lab.host("v2")
    assert (manager.namespace, manager.address) == (shared.namespace, shared.address)
    assert manager.pid != shared.pid
    assert manager.address in lab.url
    lab.up(2, manager_on="v2")
    with pytest.raises(Conflict, match="manager on v2"):
        lab.up(2)
    index = lab.description.index
    lab.down()
    assert left_of(lab, index) == []


@pytest.mark.parametrize("point", POINTS)
def test_a_maker_killed_at_any_point_leaves_what_can_be_repaired(make: Make, point: str) -> None:
    lab = make()
    words = [sys.executable, "-m", "tests.support.dummy_daemons", str(lab.directory), "one", point]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert lab.directory.exists()
    with pytest.raises(NotFound, match="is not up"):
        lab.hosts  # noqa: B018
    (claim,) = leftovers.claims_of(lab.directory)
    lab.up(2)
    assert lab.description.index <= claim.index  # it was given back before one was taken
    namespaces = network.namespaces(leftovers.claims_of(lab.directory)[0])
    assert len(namespaces) == 3
    # Nobody of the former time is in there. One that is just starting has no name for a moment.
    spaces = Spaces.named(namespaces)
    eventually(lambda: len(spaces.processes()) >= 3)
    assert len(spaces.processes()) == 3
    lab.down()
    assert not leftovers.claims_of(lab.directory)


@pytest.mark.parametrize("milliseconds", [3, 10, 20, 30, 45, 60, 80])
def test_a_maker_killed_at_any_time_leaves_what_can_be_taken_away(
    make: Make, tmp_path: Path, milliseconds: int
) -> None:
    lab = make()
    words = [sys.executable, "-m", "tests.support.dummy_daemons", str(lab.directory), "one", ""]
    maker = subprocess.Popen(words)
    deadline = time.monotonic() + 10
    while not lab.directory.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(milliseconds / 1000)
    maker.kill()
    maker.wait()
    index = next((claim.index for claim in leftovers.claims_of(lab.directory)), None)
    lab.down()
    assert not leftovers.claims_of(lab.directory)
    assert index is None or left_of(lab, index) == []


def test_a_lab_whose_files_are_gone_is_taken_away_by_the_next(make: Make) -> None:
    lost = make("lost")
    lost.up(1)
    description = lost.description
    pids = [processes.Identity(h.pid or 0, h.began or 0) for h in description.hosts.values()]
    (lost.directory / "lab.json").unlink()
    said: list[str] = []
    other = Lab("other", lost.directory.parent / "other", daemons=Sleepers(), say=said.append)
    try:
        other.up(1)
        assert not any(map(processes.is_alive, pids))
        assert any(f"syn-{description.index}" in text for text in said)
        assert other.description.index == description.index
    finally:
        other.down()


def test_what_has_lost_its_bridge_is_taken_away_by_the_next(make: Make) -> None:
    lost = make("lost")
    lost.up(1)
    index = lost.description.index
    subprocess.run(["ip", "link", "del", f"syn-{index}"], check=True)
    other = make("other")
    other.up(1)
    assert other.description.index == index
    assert not any(each.runs for each in lost.status())


def test_a_lab_of_before_the_machine_restarted_is_not_up_and_comes_up_again(make: Make) -> None:
    lab = make()
    lab.up(1)
    description = lab.description
    # As it is after a restart: the files are there, and nothing else.
    processes.end([processes.Identity(h.pid or 0, h.began or 0) for h in lab.hosts.values()], 1)
    with whole_machine():
        leftovers.sweep(leftovers.claims_of(lab.directory)[0])
    description.boot = "another boot"
    state.write(lab.directory, description)
    with pytest.raises(NotFound, match="Bring it up again: syndicate lab up --name one"):
        lab.status()
    kept = lab.directory / "manager/of-the-jobs"
    kept.touch()
    lab.up(1)
    assert all(each.ready for each in lab.status())
    assert kept.exists()


def test_state_is_kept_when_asked(make: Make) -> None:
    lab = make()
    lab.up(1)
    kept = lab.directory / "manager/of-the-jobs"
    kept.touch()
    index = lab.description.index
    lab.down(keep_state=True)
    assert left_of(lab, index) == [str(lab.directory)]
    lab.up(2)
    assert kept.exists()
    lab.down()
    assert not lab.directory.exists()


def test_a_process_that_took_over_a_daemons_number_is_not_ended(make: Make) -> None:
    lab = make()
    lab.up(1)
    time.sleep(0.05)  # some ticks of the clock by which processes are told apart
    with subprocess.Popen(["sleep", "600"]) as innocent:
        try:
            description = lab.description
            victim = description.hosts["v1"]
            ours = processes.Identity(victim.pid or 0, victim.began or 0)
            victim.pid = innocent.pid  # but began at another time
            state.write(lab.directory, description)
            assert [each.runs for each in lab.status()] == [True, False]
            with pytest.raises(Conflict, match="v1 does not run"):
                lab.kill("v1")
            lab.down()
            assert innocent.poll() is None
            assert not processes.is_alive(ours)  # found in its namespace all the same
        finally:
            innocent.kill()


def test_a_single_daemon_is_killed_started_and_restarted(make: Make) -> None:
    lab = make()
    lab.up(1)
    before = lab.host("v1").pid
    with pytest.raises(Conflict, match="v1 runs already"):
        lab.start("v1")
    lab.kill("v1", signal.SIGSTOP)
    lab.kill("v1", signal.SIGKILL)
    assert not lab.status()[1].runs
    lab.start("v1")
    lab.restart(lab.host("v1").address)
    assert lab.status()[1].runs
    assert lab.host("v1").pid != before
    with pytest.raises(NotFound, match="has no host 'v7'; it has: manager, v1"):
        lab.kill("v7")


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(make: Make) -> None:
    argv = ("sh", "-c", "echo no such luck; exit 3")
    lab = make(daemons=Sleepers(argv=argv, gets_ready=()))
    with pytest.raises(Unavailable, match="no such luck"):
        lab.up(1)
    assert not lab.directory.exists()
    assert not leftovers.claims_of(lab.directory)


def test_daemons_that_do_not_get_ready_in_time_are_taken_away(make: Make) -> None:
    lab = make(daemons=Sleepers(gets_ready=("manager",)))
    with pytest.raises(Timeout, match="1 of 2 hosts ready"):
        lab.up(1, wait=0.3)
    assert not leftovers.claims_of(lab.directory)


def test_networks_that_cannot_be_are_refused(make: Make) -> None:
    lab, other = make(), make("other")
    lab.up(1, net="10.199.3.0/28")
    assert lab.host("v1").address == "10.199.3.3"
    with pytest.raises(Conflict, match=r"10\.199\.0\.0/16 overlaps 10\.199\.3\.0/28"):
        other.up(1, net="10.199.0.0/16")
    with pytest.raises(Invalid, match="is not a network"):
        other.up(1, net="10.199.3.7/24")
    with pytest.raises(Invalid, match="no room for 9 volunteers"):
        other.up(9, net="10.199.4.0/29")
    with pytest.raises(Invalid, match="1 to 250 volunteers"):
        other.up(0)
    assert not leftovers.claims_of(other.directory)


def test_the_neighbour_limits_are_raised_for_a_large_lab_and_put_back(make: Make) -> None:
    lab, small = make(), make("small")
    lab.up(40)
    (claim,) = leftovers.claims_of(lab.directory)
    assert neighbours.current()[2] > 41 * 41
    small.up(1)
    lab.down()
    assert neighbours.current()[2] > 41 * 41  # another lab may need it
    small.down()
    if not network.claims():  # none of somebody else's on this machine
        assert neighbours.current() == claim.limits


def test_what_a_killed_volunteer_left_mounted_is_taken_away(make: Make) -> None:
    from syndicate.sandbox.host import tag_of

    lab = make()
    lab.up(1)
    place = lab.directory / "v1/state"
    (place / "jobs/1").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", place / "jobs/1"], check=True)
    groups = [
        Path(line.split()[4]) / f"syndicate-{tag_of('v1', place)}/1"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if " - cgroup" in line
    ]
    made = []
    for group in groups[:2]:
        try:
            group.mkdir(parents=True)
        except OSError:
            continue
        made.append(group)
    lab.down()
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    assert not any(group.parent.exists() for group in made)


def test_two_commands_do_not_work_on_a_lab_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    inside = threading.Event()

    def first() -> None:
        with exclusive(tmp_path / "lab", "the lab", said.append):
            inside.set()
            time.sleep(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with exclusive(tmp_path / "lab", "the lab", said.append):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert said == ["Another command works on the lab; waiting for it."]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that other users may look into, as they may not into pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def lab_up_as_nobody(directory: Path) -> subprocess.CompletedProcess[str]:
    """``syndicate lab up`` of somebody with nothing on his path but what is in the directory."""
    script = (
        "import os, sys; from syndicate.cli.main import run; import syndicate.cli.verbs.lab;"
        "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534);"
        "sys.argv[1:] = ['lab', 'up', '-n', '2']; sys.exit(run(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PATH": str(directory), "SYNDICATE_LAB_STATE": "/his/labs"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_who_is_not_root_and_has_no_sudo_is_told_what_to_do(open_directory: Path) -> None:
    ended = lab_up_as_nobody(open_directory)
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "A lab needs root" in ended.stderr
    assert "su -c 'syndicate lab up -n 2'" in ended.stderr


def test_who_is_not_root_becomes_it_by_sudo_and_keeps_his_directory(open_directory: Path) -> None:
    sudo = open_directory / "sudo"
    sudo.write_text('#!/bin/sh\necho "$@"\n')
    sudo.chmod(0o755)
    ended = lab_up_as_nobody(open_directory)
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith("-- env SYNDICATE_LAB_STATE=/his/labs PATH=")
    assert ended.stdout.endswith("-m syndicate.cli lab up -n 2\n")


def test_what_sudo_brought_up_can_be_read_by_who_called_it_and_by_nobody_else(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")
    lab = make()
    lab.up(1)
    for path, mode in ((lab.directory, 0o700), (lab.directory / "lab.json", 0o600)):
        about = path.stat()
        assert (about.st_uid, about.st_mode & 0o777) == (65534, mode)
    assert (lab.directory / "v1").stat().st_uid == 0
