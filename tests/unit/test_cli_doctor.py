"""What the checks of ``syndicate doctor`` make of what they see."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from syndicate.cli.doctor import host
from syndicate.cli.doctor.enclosing import judge
from syndicate.cli.doctor.findings import FAIL, OK, WARN, Finding, look
from syndicate.domain.errors import Unavailable
from tests.support.commands import forget_environment, record_lab

ALL = ["cores", "cpu", "disk", "freezer", "inodes", "memory", "pids", "scope", "seccomp"]


def raising(error: Exception) -> list[Finding]:
    raise error


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (Unavailable("It is away.\nLook for it."), "It is away."),
        (OSError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        (ZeroDivisionError("by nothing"), "ZeroDivisionError: by nothing"),
    ],
)
def test_whatever_is_raised_is_found(error: Exception, seen: str) -> None:
    (found,) = look("it", lambda: raising(error))
    assert (found.check, found.result, found.seen) == ("it", FAIL, seen)


def test_what_takes_too_long_is_a_failure() -> None:
    over = threading.Event()
    try:
        (found,) = look("it", lambda: [Finding("it", OK, str(over.wait(9)))], 0.05)
    finally:
        over.set()
    assert (found.result, found.code) == (FAIL, 124)


def test_a_sandbox_with_all_walls_has_nothing_to_say() -> None:
    found = judge("root", ALL, ())
    assert {each.result for each in found} == {OK}
    assert not any(each.advice for each in found)


def test_every_remark_of_a_sandbox_is_told_once() -> None:
    remarks = [
        "The memory of a job cannot be capped by a control group (why): do this.",
        "The disk of a job cannot be capped: there is no mkfs.ext4.",
        "System calls cannot be refused to jobs: the kernel has none.",
        "Jobs can reach Unix sockets of this host that have no file.",
        "Something that nobody has thought of.",
    ]
    found = judge("user", ["cores", "cpu", "freezer", "pids"], remarks)
    assert [each.result for each in found] == [WARN] * 5
    assert sorted(each.advice for each in found) == sorted(remarks)
    assert found[1].seen == "not in force: memory"


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    forget_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("SYNDICATE_LAB_STATE", str(tmp_path / "labs"))
    monkeypatch.setattr(host, "_orphans", list)
    return tmp_path / "labs"


def test_whole_labs_are_no_matter(labs: Path) -> None:
    assert host._labs()[0].result == OK
    record_lab("one", "up")
    record_lab("two", "kept")
    (found,) = host._labs()
    assert (found.result, found.seen) == (OK, "one is up; two is kept")


def test_labs_that_are_not_whole_are_told_with_the_remedy(labs: Path) -> None:
    record_lab("early", "up", "an-earlier-boot")
    record_lab("half", "building")
    record_lab("odd", "up")
    (labs / "odd/lab.json").write_text("{}")
    (found,) = host._labs()
    assert found.result == WARN
    for part in ("early ended with", "half is half-built", "odd cannot be read"):
        assert part in found.seen
    for name in ("early", "half", "odd"):
        assert f"syndicate lab down --name {name}" in found.advice


def test_a_full_disk_is_told(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage)
    (found,) = host._disk_room()
    assert found.result == WARN
    assert found.seen.startswith("1M free")


def test_a_host_without_make_cannot_run_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    assert host._job_programs()[0].result == FAIL
    assert host._commands()[0].result == FAIL
