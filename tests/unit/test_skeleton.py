from __future__ import annotations

import os
from pathlib import Path

from syndicate.sandbox.skeleton import make_identity, merged_directories, provide


def test_every_link_of_the_skeleton_leads_into_usr(tmp_path: Path) -> None:
    skeleton = provide(tmp_path)
    for name in merged_directories():
        directory = skeleton / name
        assert not directory.is_symlink()
        for link in directory.iterdir():
            assert os.readlink(link).startswith("../usr/")
        assert set(os.listdir(directory)) == set(os.listdir(f"/{name}"))
    assert "bin" in merged_directories()


def test_the_loader_does_not_depend_on_directories_that_a_source_may_have(tmp_path: Path) -> None:
    loaders = list(provide(tmp_path).glob("lib64/ld-*"))
    for loader in loaders:
        target = Path("/usr") / os.readlink(loader).removeprefix("../usr/")
        assert not target.is_symlink()


def test_the_skeleton_is_kept_while_the_host_stays_the_same(tmp_path: Path) -> None:
    skeleton = provide(tmp_path)
    born = skeleton.stat().st_ino
    assert provide(tmp_path).stat().st_ino == born


def test_one_of_a_former_host_is_removed_unless_others_may_use_it(tmp_path: Path) -> None:
    former, half_made = tmp_path / ("0" * 16), tmp_path / f"{'1' * 16}.new"
    for path in (former, half_made):
        (path / "bin").mkdir(parents=True)
    wanted = provide(tmp_path, shared=True)
    assert former.is_dir()
    assert provide(tmp_path) == wanted
    assert {path.name for path in tmp_path.iterdir()} == {wanted.name, "lock"}


def test_nothing_is_copied_that_not_everybody_may_read(tmp_path: Path) -> None:
    skeleton = provide(tmp_path)
    names = {path.name for path in skeleton.rglob("*")}
    assert not names & {"shadow", "gshadow", "private", "sudoers", "machine-id"}
    for path in (skeleton / "etc").rglob("*"):
        assert path.is_symlink() or path.stat().st_mode & 0o004


def test_the_identity_tells_a_program_who_and_where_it_is(tmp_path: Path) -> None:
    place = tmp_path / "identity"
    hosts = [("slave0", "10.0.0.2"), ("master", "10.0.0.1")]
    make_identity(place, 4711, hosts, "slave0", None, owned=False)
    assert "job:x:4711:4711:" in (place / "etc/passwd").read_text()
    assert "job:x:4711:" in (place / "etc/group").read_text()
    assert (place / "etc/hosts").read_text().splitlines()[2:] == [
        "10.0.0.2\tslave0",
        "10.0.0.1\tmaster",
    ]
    assert (place / "etc/hostname").read_text() == "slave0\n"
    assert not (place / "etc/resolv.conf").exists()
    assert {path.name for path in place.iterdir()} == {*merged_directories(), "etc"}


def test_a_resolv_conf_is_given_where_one_is_configured(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 10.0.0.53\n")
    make_identity(tmp_path / "id", 1, [], "x", tmp_path / "resolv.conf", owned=False)
    assert (tmp_path / "id/etc/resolv.conf").read_text() == "nameserver 10.0.0.53\n"
