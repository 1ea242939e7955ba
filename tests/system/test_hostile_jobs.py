"""What hostile jobs try in a real cluster, from inside their sandboxes: on hosts of their own and
on the manager's, where a volunteer runs beside it.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.labs import Running, eventually, up

pytestmark = [pytest.mark.needs_root, pytest.mark.system, pytest.mark.deadline(90)]

#: What a job sees: the errors of connections to some places, 0 for none.
TRIES = """
import json, os, socket, sys, threading
seen = {}
for place in sys.argv[1:]:
    address, port = place.rsplit(':', 1)
    with socket.socket() as made:
        made.settimeout(5)
        seen[place] = made.connect_ex((address, int(port)))
own = {}
for port in (7070, 7080):  # the numbers themselves are nobody's
    try:
        with socket.create_server((os.environ['SYNDICATE_ADDRESS'], port)) as listening:
            with socket.create_connection(listening.getsockname(), 5):
                own[port] = 'ok'
    except OSError as error:
        own[port] = str(error)
print('SEEN', json.dumps([seen, own]))
"""
REFUSED = 111


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A lab of three volunteers, one of them on the manager's host; the manager listens everywhere,
    as it does by default.
    """
    with up(tmp_path_factory.mktemp("ports"), 3, manager_on="v3") as running:
        config = running.lab.directory / "manager/manager.toml"
        text, address = config.read_text(), running.lab.host("manager").address
        assert f'address = "{address}"' in text
        config.write_text(text.replace(f'address = "{address}"', 'address = "0.0.0.0"'))
        running.lab.restart("manager")
        eventually(lambda: len(running.volunteers()) == 3 and running.all_free())
        yield running


def seen_by_jobs(lab: Running, *places: str) -> dict[str, tuple[dict[str, int], dict[str, str]]]:
    """What a job of three machines saw, by volunteer."""
    makefile = f"master slave:\n\t@/usr/bin/python3 tries.py {' '.join(places)}\n"
    number = lab.submit(lab.source(makefile, **{"tries.py": TRIES}), 3)
    job = lab.wait(number)
    assert job["outcome"] == "passed", job
    found = {}
    for machine in job["machines"]:
        printed = lab.run("logs", str(number), "--machine", machine["machine"]).out
        (line,) = (line for line in printed.splitlines() if "SEEN" in line)
        found[machine["volunteer"]] = tuple(json.loads(line.partition("SEEN ")[2]))
    return found


def test_no_job_reaches_a_port_of_the_daemons_and_the_daemons_do(lab: Running) -> None:
    manager = lab.lab.host("manager").address
    places = [f"{manager}:7070", f"{manager}:7080"]
    found = seen_by_jobs(lab, *places, "127.0.0.1:7070", "127.0.0.1:7080")
    assert set(found) == {"v1", "v2", "v3"}
    assert lab.lab.host("v3").address == manager
    for seen, _ in found.values():
        assert set(seen.values()) == {REFUSED}
    # Nobody had these numbers on two of the hosts, and there a job can use them for itself.
    for name in ("v1", "v2"):
        assert found[name][1] == {"7070": "ok", "7080": "ok"}
    # All this while the volunteer that shares the manager's host talks with it.
    assert lab.volunteers()["v3"]["state"] != "gone"
    assert all("ports" in each["enforced"] for each in lab.volunteers().values())


def test_what_the_site_opens_is_reached(lab: Running) -> None:
    """And so nothing else was in the way in the test before."""
    manager = lab.lab.host("manager").address
    for name in ("v1", "v2"):
        config = lab.lab.directory / name / "volunteer.toml"
        config.write_text(config.read_text() + f'[network]\nopen = ["{manager}:7080"]\n')
        lab.lab.restart(name)
    eventually(lab.all_free)
    found = seen_by_jobs(lab, f"{manager}:7080", f"{manager}:7070")
    for name in ("v1", "v2"):
        assert found[name][0] == {f"{manager}:7080": 0, f"{manager}:7070": REFUSED}
    assert set(found["v3"][0].values()) == {REFUSED}


def test_a_volunteer_can_tell_jobs_by_their_users_and_says_so(lab: Running) -> None:
    manager = lab.lab.host("manager").address
    config = lab.lab.directory / "v3/volunteer.toml"
    config.write_text(config.read_text() + '[network]\nmatch = "user"\n')
    lab.lab.restart("v3")
    eventually(lab.all_free)
    found = seen_by_jobs(lab, f"{manager}:7070", f"{manager}:7080", "127.0.0.1:7080")
    # Beside the manager, whose own connections go on.
    assert set(found["v3"][0].values()) == {REFUSED}
    told = lab.volunteers()["v3"]
    assert told["state"] != "gone"
    assert "ports-by-user" in told["enforced"]
    assert "ports" not in told["enforced"]
    assert any("by the users that they run as" in remark for remark in told["remarks"])


#: Looks into everything that can be opened for words that it was given backwards.
SNOOPS = """
import os, stat, sys
wanted = {word[::-1].encode() for word in open('/backwards').read().split()}
looked, found = 0, []
def look(path):
    global looked
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return
        with open(path, 'rb') as file:
            data = file.read(1 << 22)
    except OSError:
        return
    looked += 1
    found.extend(path for word in wanted if word in data)
for top, directories, names in os.walk('/'):
    directories[:] = [d for d in directories if top + d not in ('/usr', '/proc')]
    for name in names:
        if '/backwards' not in name:
            look(os.path.join(top, name))
for pid in os.listdir('/proc'):
    for name in ('environ', 'cmdline', 'maps', 'stack', 'auxv', 'mem', 'syscall', 'io', 'wchan'):
        if pid.isdigit() and pid != str(os.getpid()):
            look(f'/proc/{pid}/{name}')
for place in (STATES):
    for reach in (place, f'/proc/1/root{place}', f'/proc/self/root{place}', f'/../../..{place}'):
        if os.path.lexists(reach):
            found.append(reach)
parents = [pid for pid in os.listdir('/proc') if pid.isdigit()]
print('SNOOPED', looked, len(wanted), len(parents), found)
"""


def secrets_of(lab: Running) -> set[str]:
    """Every secret of the cluster: words of tokens, and lines of keys."""
    found: set[str] = set()
    directory = lab.lab.directory
    places = [*directory.glob("*/join"), *directory.glob("manager/state/tokens/*")]
    places += [directory / "client/token"]
    for path in places:
        found |= set(path.read_text().split())
    for path in directory.rglob("*"):
        if path.is_file() and path.stat().st_size < 20_000:
            data = path.read_bytes()
            if b"PRIVATE KEY" in data:
                found |= {line for line in data.decode().splitlines() if len(line) > 40}
    return found


def test_no_secret_of_the_cluster_can_be_read_by_a_job(lab: Running) -> None:
    secrets = secrets_of(lab)
    assert len(secrets) > 10
    directory = str(lab.lab.directory)
    states = [f"{directory}{rest}" for rest in ("", "/manager", "/v1", "/v1/state/identity")]
    program = SNOOPS.replace("STATES", ", ".join(map(repr, states)))
    backwards = "\n".join(word[::-1] for word in sorted(secrets))
    source = lab.source(
        "master slave:\n\t@/usr/bin/python3 snoops.py\n",
        **{"snoops.py": program, "backwards": backwards},
    )
    number = lab.submit(source, 3)
    assert lab.wait(number)["outcome"] == "passed"
    lines = lab.run("logs", str(number)).out.splitlines()
    seen = [line.partition("SNOOPED ")[2].split(maxsplit=3) for line in lines if "SNOOPED" in line]
    assert len(seen) == 3
    for looked, wanted, processes, found in seen:
        assert int(looked) > 50  # files of its own /etc at least
        assert int(wanted) == len(secrets)
        assert int(processes) <= 6  # make, a shell, itself, the first of the namespace
        assert found == "[]"


def test_what_snoops_would_find_a_secret_that_is_there(lab: Running) -> None:
    """One that the job brings itself."""
    program = SNOOPS.replace("STATES", "")
    source = lab.source(
        "master slave:\n\t@/usr/bin/python3 snoops.py\n",
        **{"snoops.py": program, "backwards": "!terces-repus", "left-behind": "super-secret!"},
    )
    number = lab.submit(source, 1)
    lab.wait(number)
    assert "['/left-behind']" in lab.run("logs", str(number)).out


@pytest.mark.parametrize(
    ("command", "words", "outcome", "limit", "reason"),
    [
        ("head -c 90M /dev/zero > big", ("--disk", "20M"), "failed", None, "short of disk"),
        (
            "for i in `seq 9999`; do : > $$i || exit 1; done",
            ("--inodes", "300"),
            "failed",
            None,
            "short of inodes",
        ),
        ("while :; do :; done", ("--cpu", "1s"), "failed", "cpu", "over its cpu limit"),
        (
            "for i in `seq 99`; do sleep 60 & done",
            ("--pids", "30"),
            "failed",
            None,
            "short of pids",
        ),
    ],
    ids=["disk", "inodes", "cpu", "pids"],
)
def test_the_jobs_reason_says_which_limit_it_was(
    lab: Running, command: str, words: tuple[str, ...], outcome: str, limit: str, reason: str
) -> None:
    number = lab.submit(lab.source(f"master slave:\n\t@{command}\n"), 1, *words)
    job = lab.wait(number)
    assert (job["outcome"], job["limit"]) == (outcome, limit), job
    assert reason in job["reason"]


def test_a_volunteer_that_had_jobs_ends_at_once_when_told_to(lab: Running) -> None:
    """Its connection, over which much has gone, is one of TLS with someone who listens to it."""
    lab.lab.kill("v1", signal.SIGTERM, 8.0)
    lab.lab.start("v1")
    eventually(lab.all_free)


def test_no_table_outlives_its_volunteer(lab: Running) -> None:
    lab.lab.kill("v2", signal.SIGKILL)
    tables = lab.lab.exec("v2", ["nft", "list", "tables"], stdout=subprocess.PIPE)
    assert tables.communicate()[0] == b""
    lab.lab.start("v2")
    tables = lab.lab.exec("v2", ["nft", "list", "tables"], stdout=subprocess.PIPE)
    assert b"_doors" in tables.communicate()[0]
