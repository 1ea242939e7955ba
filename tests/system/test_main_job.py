"""The main job, on real daemons: run, seen from inside, and hurt from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syndicate.lab.disks import SKELETONS
from tests.support.labs import JOBS, Running, eventually, processes_of

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

SLEEPER = "master slave:\n\t@echo started; sleep 600\n"
NOTHING = "master slave:\n\t@true\n"


def uids_of(lab: Running, volunteer: str) -> range:
    uids = lab.lab.host(volunteer).uids
    assert uids is not None
    return range(uids[0], uids[1] + 1)


def mounts_of(lab: Running) -> list[str]:
    """Those of jobs; the lab has one itself."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    of_lab = (line for line in mounts if str(lab.lab.directory) in line)
    return [line for line in of_lab if f" {SKELETONS} " not in line]


def test_a_job_runs_chrooted_as_another_user_on_six_addresses(lab: Running) -> None:
    number = lab.submit(JOBS / "witness", 6)
    job = lab.wait(number)
    logs = lab.run("logs", str(number), "-o", "jsonl")
    assert job["outcome"] == "passed", (job["reason"], logs)
    told = [json.loads(json.loads(line)["line"]) for line in logs.out.splitlines()]
    assert len(told) == 6
    volunteers = {machine["machine"]: machine for machine in job["machines"]}
    for seen in told:
        machine = volunteers[seen["machine"]]
        # As another user, of the range of its own volunteer, with nothing else.
        assert seen["uid"] == seen["gid"]
        assert seen["uid"] in uids_of(lab, machine["volunteer"])
        assert seen["groups"] in ([], [seen["uid"]])
        assert int(seen["capabilities"], 16) == 0
        assert seen["no_new_privs"] == "1"
        # In a chroot: its root is the source directory, and no host file is there but /usr.
        assert seen["cwd"] == "/"
        assert {"Makefile", "witness.py"} <= set(seen["root"])
        assert not seen["shadow"]
        assert not seen["home_of_root"]
        assert not seen["state"]
        assert seen["usr_is_read_only"]
        # In a process namespace of its own.
        assert seen["pids"] < 10
        # At one address, its volunteer's, which is also what its own name means.
        assert seen["addresses"] == [machine["address"]]
        assert seen["host_address"] == machine["address"]
        assert seen["environment"]["SYNDICATE_JOB"] == str(number)
        assert "SYNDICATE_TOKEN" not in seen["environment"]
    assert len({seen["addresses"][0] for seen in told}) == 6
    # Real packets, from the addresses that the manager told.
    callers = next(seen["callers"] for seen in told if seen["role"] == "master")
    assert callers == sorted(
        [machine["machine"], machine["address"]]
        for machine in job["machines"]
        if machine["role"] == "slave"
    )


def test_the_volunteers_are_free_and_clean_after_a_job(lab: Running) -> None:
    lab.wait(lab.submit(JOBS / "witness", 6))
    eventually(lab.all_free)
    for name in lab.volunteers():
        assert processes_of(uids_of(lab, name)) == []
    assert mounts_of(lab) == []


def test_cancelling_leaves_no_process(lab: Running) -> None:
    makefile = (
        "master slave:\n"
        "\t@for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP INT; sleep 600' & done; "
        "echo started; trap '' TERM; sleep 600\n"
    )
    number = lab.submit(lab.source(makefile), 6)
    lab.wait(number, "running")
    eventually(lambda: len(lab.run("logs", str(number)).out.splitlines()) == 6)
    assert processes_of(uids_of(lab, "v1"))
    done = lab.run("cancel", str(number), "--yes")
    assert done.code == 0, done
    job = lab.wait(number)
    assert job["outcome"] == "cancelled"
    for name in lab.volunteers():
        assert processes_of(uids_of(lab, name)) == []
    eventually(lab.all_free)


def test_killing_the_manager_loses_no_queued_job(lab: Running) -> None:
    running = lab.submit(lab.source(SLEEPER), 6)
    lab.wait(running, "running")
    queued = [lab.submit(lab.source(NOTHING), n) for n in (1, 2, 3, 4, 5, 6)]
    lab.lab.kill("manager")
    lab.lab.start("manager")
    eventually(lambda: lab.run("queue").code == 0)
    told = {number: lab.job(number) for number in queued}
    assert {job["state"] for job in told.values()} <= {"queued", "finished", "running"}
    assert lab.run("cancel", str(running), "--yes").code == 0
    for number in queued:
        assert lab.wait(number)["outcome"] == "passed"
    assert lab.job(running)["outcome"] == "cancelled"
    eventually(lab.all_free)


def test_killing_a_volunteer_leaves_nothing_of_the_job_and_the_job_runs_again(
    lab: Running,
) -> None:
    number = lab.submit(lab.source(SLEEPER), 3)
    job = lab.wait(number, "running")
    victim = job["machines"][1]["volunteer"]
    eventually(lambda: processes_of(uids_of(lab, victim)))
    lab.lab.kill(victim)
    eventually(lambda: not processes_of(uids_of(lab, victim)))
    assert mounts_of(lab) == []
    namespaces = _pid_namespaces_of(uids_of(lab, victim))
    assert namespaces == set()
    lab.lab.start(victim)
    job = eventually(lambda: _at_attempt(lab, number, 2))
    assert "came back without it" in lab.run("status", str(number), "-o", "json").out or job
    jobs_of_victim = lab.lab.directory / victim / "state" / "jobs"
    assert len(list(jobs_of_victim.iterdir())) <= 1
    lab.run("cancel", str(number), "--yes")
    assert lab.wait(number)["outcome"] == "cancelled"
    eventually(lab.all_free)


def _at_attempt(lab: Running, number: int, attempt: int) -> dict[str, object] | None:
    job = lab.job(number)
    return job if job["attempt"] >= attempt and job["state"] == "running" else None


def _pid_namespaces_of(uids: range) -> set[str]:
    return {
        Path(f"/proc/{process.split()[0]}/ns/pid").readlink().name for process in processes_of(uids)
    }
