"""Whatever a user gives, the answer is clear and nothing is lost: on real daemons."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.archives import BAD
from tests.support.labs import Running, eventually

pytestmark = [pytest.mark.system, pytest.mark.needs_root, pytest.mark.deadline(120)]

NOTHING = "master slave:\n\t@true\n"


@pytest.fixture(scope="module", autouse=True)
def small_sources(lab: Running) -> None:
    """Make the manager refuse what unpacks to more than 512 MiB, and packs to more than 8."""
    config = lab.lab.directory / "manager" / "manager.toml"
    if not config.exists():
        (config,) = lab.lab.directory.glob("**/manager*.toml")
    config.write_text(config.read_text() + '\n[maxima]\nsource = "8M"\nunpacked = "512M"\n')
    lab.lab.restart("manager")


@pytest.mark.parametrize("which", BAD)
def test_a_bad_tarball_is_refused_before_it_is_queued(
    lab: Running, tmp_path: Path, which: str
) -> None:
    make, words = BAD[which]
    done = lab.run("submit", str(make(tmp_path / "source.tgz")), "-n", "2")
    assert done.code == 2, done
    assert words in done.err
    assert "Traceback" not in done.err
    assert json.loads(lab.run("queue", "-o", "json").out) in ([], {"jobs": []})


def test_a_source_over_the_size_limit_is_refused(lab: Running) -> None:
    source = lab.source(NOTHING)
    (source / "large").write_bytes(os.urandom(9 << 20))
    done = lab.run("submit", str(source), "-n", "1")
    assert done.code == 2, done
    assert "8" in done.err


@pytest.mark.parametrize("machines", ["0", "-1", "two", "1.5", "", "1000000"])
def test_a_number_of_machines_that_is_none_is_refused(lab: Running, machines: str) -> None:
    done = lab.run("submit", str(lab.source(NOTHING)), "-n", machines)
    assert done.code == 2, done
    assert done.out == ""


def test_an_unknown_key_of_a_job_file_is_refused_with_the_right_one(lab: Running) -> None:
    source = lab.source(NOTHING)
    (source / "job.toml").write_text('name = "x"\nsource = "."\nmachine = 2\n')
    done = lab.run("submit", str(source / "job.toml"))
    assert done.code == 2
    assert "did you mean 'machines'" in done.err


def test_a_wrong_token_and_an_expired_one_are_told_apart(lab: Running, tmp_path: Path) -> None:
    done = lab.run("queue", SYNDICATE_TOKEN="syn_wrong", SYNDICATE_TOKEN_FILE="")
    assert done.code == 4, done
    assert "not known" in done.err
    made = lab.run(
        "token", "new", "--role", "user", "--user", "eve", "--expires", "1s", "-o", "json"
    )
    assert made.code == 0, made
    secret = made.json()["secret"]
    time.sleep(1.2)
    done = lab.run("queue", SYNDICATE_TOKEN=secret, SYNDICATE_TOKEN_FILE="")
    assert done.code == 4, done
    assert "expired" in done.err


def test_no_manager_is_told_with_what_to_check(lab: Running) -> None:
    done = lab.run("queue", SYNDICATE_URL="https://127.0.0.1:9")
    assert done.code == 69
    assert "Check" in done.err


def test_more_machines_than_there_are_wait_with_the_reason_unless_told_not_to(
    lab: Running,
) -> None:
    source = lab.source(NOTHING)
    done = lab.run("submit", str(source), "-n", "7", "--no-wait")
    assert done.code not in (0, 1), done
    assert "7 volunteers" in done.err
    number = lab.submit(source, 7)
    job = lab.job(number)
    assert job["state"] == "queued"
    assert "the cluster has 6 now" in job["reason"]
    assert lab.run("cancel", str(number), "--yes").code == 0


def outcome(lab: Running, makefile: str, *words: str) -> tuple[str, str]:
    """How a job of one machine ended, and what it printed."""
    number = lab.submit(lab.source(makefile), 1, *words)
    job = lab.wait(number)
    logs = lab.run("logs", str(number))
    return f"{job['outcome']} {job['limit']}", logs.out


def test_a_missing_compiler_reaches_the_users_log(lab: Running) -> None:
    ended, printed = outcome(lab, "master slave:\n\tno-such-cc hello.c\n")
    assert ended == "failed None"
    assert "no-such-cc" in printed


def test_a_job_that_daemonises_is_over_with_make_and_leaves_nothing(lab: Running) -> None:
    ended, _ = outcome(lab, "master slave:\n\t@setsid sleep 600 </dev/null >/dev/null 2>&1 &\n")
    assert ended == "passed None"
    eventually(lab.all_free)


def test_a_job_that_lingers_goes_on_until_its_daemon_ends(lab: Running) -> None:
    makefile = "master slave:\n\t@(sleep 1; echo daemon done) &\n"
    assert outcome(lab, makefile, "--linger") == ("passed None", "master | daemon done\n")


def test_binary_output_and_a_line_of_10_mb_come_back_to_the_byte(
    lab: Running, tmp_path: Path
) -> None:
    makefile = (
        "master slave:\n"
        "\t@head -c 100000 /dev/zero | tr '\\0' '\\377'\n"
        "\t@head -c 10000000 /dev/zero | tr '\\0' 'x'; echo; printf '\\000\\n'\n"
    )
    number = lab.submit(lab.source(makefile), 1)
    assert lab.wait(number)["outcome"] == "passed"
    logs = lab.run("logs", str(number))
    assert logs.code == 0
    assert logs.out.count("x") >= 10_000_000
    done = lab.run("fetch", str(number), "-d", str(tmp_path / "got"))
    assert done.code == 0, done
    (out,) = (tmp_path / "got").glob("**/master.out")
    assert out.read_bytes() == b"\xff" * 100_000 + b"x" * 10_000_000 + b"\n\0\n"


@pytest.mark.parametrize(
    ("makefile", "words", "ended"),
    [
        ("master slave:\n\t@yes\n", ("--output-limit", "1M"), "failed output"),
        ("master slave:\n\t@sleep 60\n", ("--wall", "1s"), "timed out wall"),
        (
            "master slave:\n\t@python3 -c 'x = bytearray(900 << 20)'\n",
            ("--memory", "200M"),
            "failed memory",
        ),
        (
            "master slave:\n\t@head -c 50000000 /dev/zero > big || exit 7\n",
            ("--disk", "20M"),
            "failed None",
        ),
    ],
)
def test_a_limit_that_is_exceeded_is_the_outcome(
    lab: Running, makefile: str, words: tuple[str, ...], ended: str
) -> None:
    assert outcome(lab, makefile, *words)[0] == ended
    eventually(lab.all_free)


def test_a_follower_sees_the_output_and_exits_with_the_jobs_code(lab: Running) -> None:
    source = lab.source("master slave:\n\t@echo out of $(SYNDICATE_MACHINE); exit 3\n")
    done = lab.run("submit", str(source), "-n", "2", "--follow")
    assert done.code == 1
    assert sorted(line for line in done.out.splitlines() if "out of" in line) == [
        "master   | out of master",
        "slave[0] | out of slave[0]",
    ]


def test_a_full_disk_of_the_manager_refuses_the_source_and_keeps_the_rest(
    lab: Running,
) -> None:
    waiting = lab.submit(lab.source(NOTHING), 7)
    blobs = lab.lab.directory / "manager" / "state" / "blobs"
    lab.lab.kill("manager")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", blobs], check=True)
    try:
        lab.lab.start("manager")
        source = lab.source(NOTHING)
        (source / "data").write_bytes(os.urandom(4 << 20))
        done = lab.run("submit", str(source), "-n", "1")
        assert done.code not in (0, 1, 2), done
        assert "room" in done.err
        assert lab.job(waiting)["state"] == "queued"
        lab.lab.kill("manager")
    finally:
        subprocess.run(["umount", blobs], check=True)
        lab.lab.start("manager")
    assert lab.run("cancel", str(waiting), "--yes").code == 0


def test_a_full_disk_of_a_volunteer_sends_the_job_elsewhere(lab: Running) -> None:
    full = lab.lab.directory / "v1" / "state"
    lab.lab.kill("v1")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", full], check=True)
    try:
        lab.lab.start("v1")
        source = lab.source(NOTHING)
        (source / "data").write_bytes(os.urandom(6 << 20))
        jobs = [lab.submit(source, 1) for _ in range(8)]
        assert {lab.wait(number)["outcome"] for number in jobs} == {"passed"}
        lab.lab.kill("v1")
    finally:
        subprocess.run(["umount", full], check=True)
        lab.lab.start("v1")
    eventually(lambda: len(lab.volunteers()) == 6)
