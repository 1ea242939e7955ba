"""Control groups of both versions, as files; `tests/system` has those of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.domain.job import Limits
from syndicate.sandbox import hierarchies
from syndicate.sandbox.cgroups import ControlGroups, Group
from syndicate.sandbox.hierarchies import Hierarchy, Mount, apply, find

BOTH = frozenset({"memory", "pids"})
LIMITS = Limits(memory=100, pids=10)


def settings(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.iterdir()}


def test_the_caps_of_the_second_version(tmp_path: Path) -> None:
    apply(tmp_path, Hierarchy(2, tmp_path, BOTH), LIMITS)
    assert settings(tmp_path) == {"pids.max": "12", "memory.max": "100", "memory.oom.group": "1"}


def test_the_caps_of_the_first_version(tmp_path: Path) -> None:
    apply(tmp_path, Hierarchy(1, tmp_path, BOTH), LIMITS)
    assert settings(tmp_path) == {"pids.max": "12", "memory.limit_in_bytes": "100"}


@pytest.mark.parametrize(
    ("version", "cores", "wanted"),
    [
        (1, 0.25, {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"}),
        (1, 1e6, {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"}),
        (2, 0.25, {"cpu.max": "25000 100000"}),
        (2, 1e6, {"cpu.max": "max 100000"}),
    ],
)
def test_the_share_of_the_cores(
    tmp_path: Path, version: int, cores: float, wanted: dict[str, str]
) -> None:
    apply(tmp_path, Hierarchy(version, tmp_path, frozenset({"cpu"})), Limits(cores=cores))
    assert settings(tmp_path) == wanted


@pytest.mark.parametrize(
    ("version", "name", "text"),
    [
        (1, "cpuacct.usage", "2500000000\n"),
        (2, "cpu.stat", "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n"),
    ],
)
def test_processor_time_is_read_in_seconds(
    tmp_path: Path, version: int, name: str, text: str
) -> None:
    group = Group({tmp_path: Hierarchy(version, tmp_path.parent, frozenset({"cpuacct"}))})
    assert group.processor_time() is None
    (tmp_path / name).write_text(text)
    assert group.processor_time() == 2.5


def test_a_cap_on_processes_that_was_hit_is_seen(tmp_path: Path) -> None:
    group = Group({tmp_path: Hierarchy(1, tmp_path.parent, BOTH)})
    assert not group.short_of_processes()
    (tmp_path / "pids.events").write_text("max 3\n")
    assert group.short_of_processes()


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [(2, "memory.swap.max", "0"), (1, "memory.memsw.limit_in_bytes", "100")],
)
def test_swap_is_capped_where_it_is_counted(
    tmp_path: Path, version: int, name: str, value: str
) -> None:
    (tmp_path / name).touch()
    apply(tmp_path, Hierarchy(version, tmp_path, BOTH), LIMITS)
    assert settings(tmp_path)[name] == value


def test_only_what_a_hierarchy_has_is_set_in_it(tmp_path: Path) -> None:
    apply(tmp_path, Hierarchy(1, tmp_path, frozenset({"pids"})), LIMITS)
    assert settings(tmp_path) == {"pids.max": "12"}


@pytest.mark.parametrize(
    ("version", "name", "text"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"),
        (2, "memory.events", "low 0\nhigh 3\nmax 40\noom 2\noom_kill {}\noom_group_kill 1\n"),
    ],
)
def test_a_memory_cap_that_was_hit_is_seen(
    tmp_path: Path, version: int, name: str, text: str
) -> None:
    group = Group({tmp_path: Hierarchy(version, tmp_path.parent, BOTH)})
    assert not group.out_of_memory()
    (tmp_path / name).write_text(text.format(0))
    assert not group.out_of_memory()
    (tmp_path / name).write_text(text.format(2))
    assert group.out_of_memory()


def test_each_launcher_gets_a_group_in_each_hierarchy(tmp_path: Path) -> None:
    hierarchies = []
    for controller in sorted(BOTH):
        home = tmp_path / controller / "syndicate-x"
        home.mkdir(parents=True)
        hierarchies.append(Hierarchy(1, home, frozenset({controller})))
    groups = ControlGroups("x", tuple(hierarchies))
    one, other = groups.make(), groups.make()
    assert len({*one.paths, *other.paths}) == 4
    assert groups.controllers == BOTH
    assert one.remove() == other.remove() == one.remove() == []
    groups.close()
    assert [list(path.iterdir()) for path in tmp_path.iterdir()] == [[], []]


def test_without_hierarchies_nothing_is_capped_and_nothing_fails() -> None:
    group = ControlGroups("x").make()
    group.set(LIMITS)
    assert not group.out_of_memory()
    assert (group.paths, group.remove(), ControlGroups("x").controllers) == ([], [], frozenset())


def test_a_missing_controller_is_remarked_on_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syndicate.sandbox.hierarchies.mounts", lambda: iter(()))
    hierarchies, remarks = find("syndicate-nobody")
    assert hierarchies == ()
    (remark,) = remarks
    assert "none are mounted" in remark
    assert "nsenter --net=" in remark


@pytest.mark.parametrize(
    ("uid", "remedy"), [(0, "let the volunteer write"), (1000, "run the volunteer as root")]
)
def test_root_is_not_told_to_be_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, remedy: str
) -> None:
    shut = Mount(1, "/", tmp_path / "none", frozenset({"memory"}))
    monkeypatch.setattr("syndicate.sandbox.hierarchies.mounts", lambda: iter((shut,)))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    hierarchies, remarks = find("syndicate-nobody")
    assert hierarchies == ()
    memory, *others = remarks
    assert memory.startswith("The memory of a job cannot be capped by a control group (No such")
    assert remedy in memory
    assert len(others) == 4
    assert all("mount one that has it" in remark for remark in others)


def test_the_second_version_freezes_kills_and_thaws_by_files(tmp_path: Path) -> None:
    group = Group({tmp_path: Hierarchy(2, tmp_path.parent, frozenset({"freezer"}))})
    assert group.can_freeze
    group.freeze()
    assert (tmp_path / "cgroup.freeze").read_text() == "1"
    assert not group.stands_still()
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert group.stands_still()
    group.thaw()
    assert (tmp_path / "cgroup.freeze").read_text() == "0"


def test_the_first_version_freezes_and_thaws_by_words(tmp_path: Path) -> None:
    group = Group({tmp_path: Hierarchy(1, tmp_path.parent, frozenset({"freezer"}))})
    group.freeze()
    assert group.stands_still()
    assert (tmp_path / "freezer.state").read_text() == "FROZEN"
    group.kill()
    assert (tmp_path / "freezer.state").read_text() == "THAWED"


def test_without_a_freezer_nothing_stands_still() -> None:
    assert not Group().can_freeze
    assert not Group().stands_still()


def second_version(place: Path, *groups: str) -> list[Mount]:
    """A hierarchy with these groups, as files."""
    for name in ("", *groups):
        (place / name).mkdir(exist_ok=True)
        (place / name / "cgroup.controllers").write_text("" if name else "memory pids")
        (place / name / "cgroup.subtree_control").touch()
    return [Mount(2, "/", place, frozenset({"memory", "pids", "freezer"}))]


def test_what_others_are_to_be_around_of_is_made_within_it(tmp_path: Path) -> None:
    mounted = second_version(tmp_path, "theirs")
    found = hierarchies._homes(mounted, "pids", "ours", (tmp_path / "theirs",))
    assert list(found) == [(tmp_path / "theirs/ours", 2)]
    elsewhere = hierarchies._homes(mounted, "pids", "ours", (Path("/nowhere/theirs"),))
    assert (tmp_path / "ours", 2) in list(elsewhere)


def test_a_controller_is_passed_on_from_where_it_is(tmp_path: Path) -> None:
    second_version(tmp_path, "theirs", "theirs/ours")
    hierarchies._pass_on(tmp_path / "theirs/ours", "memory")
    for name in ("", "theirs", "theirs/ours"):
        assert (tmp_path / name / "cgroup.subtree_control").read_text() == "+memory"
    with pytest.raises(FileNotFoundError):
        hierarchies._pass_on(tmp_path / "theirs", "no-such")


def test_groups_of_others_are_joined_unless_ours_are_within_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "theirs/ours"
    home.mkdir(parents=True)
    found = (Hierarchy(2, home, frozenset({"freezer"})),)
    monkeypatch.setattr("syndicate.sandbox.cgroups.find", lambda name, around: (found, []))
    theirs, apart = tmp_path / "theirs", tmp_path / "apart"
    groups = ControlGroups("x", others=lambda: (theirs, apart))
    groups.find()
    group = groups.make()
    (own,) = group.places
    assert own.parent == home
    assert group.paths == [str(apart), str(own)]
    assert group.remove() == []
