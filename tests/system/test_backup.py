"""``syndicate-manager backup`` and ``restore``, on a real manager."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syndicate.domain.errors import Corrupt, Invalid
from syndicate.plugins.restore import bring_back
from tests.support.manager_daemon import ManagerDaemon, manage, manager_daemon
from tests.support.tiny_disk import fill, tiny_disk

pytestmark = [pytest.mark.system, pytest.mark.deadline(120)]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ManagerDaemon]:
    with manager_daemon(tmp_path) as daemon:
        yield daemon


def queued(daemon: ManagerDaemon) -> dict[int, str]:
    done = daemon.run("queue", "--all", "-o", "json")
    assert done.code == 0, done
    return {job["job"]: job["name"] for job in done.json()}


@pytest.mark.parametrize("name", ["monday", "monday.tar", "monday.tar.gz"])
def test_a_backup_of_a_running_manager_brings_its_jobs_back(
    daemon: ManagerDaemon, tmp_path: Path, name: str
) -> None:
    daemon.start()
    assert daemon.submit("first").code == 0
    saved = manage("backup", "-c", daemon.config, tmp_path / name)
    assert saved.code == 0, saved
    assert "Saved 1 job" in saved.out
    assert daemon.submit("lost").code == 0
    daemon.stop()
    shutil.rmtree(daemon.state)
    restored = manage("restore", "-c", daemon.config, tmp_path / name)
    assert restored.code == 0, restored
    assert (daemon.state / "tokens/staff").stat().st_mode & 0o777 == 0o600
    daemon.start()
    # The same authority and token as before; and no number is given again.
    assert queued(daemon) == {1: "first"}
    again = daemon.submit("second")
    assert again.code == 0, again
    assert int(again.out) > 1000
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_backup_takes_no_half_written_batch_while_jobs_are_submitted(
    daemon: ManagerDaemon, tmp_path: Path
) -> None:
    daemon.start()
    for n in range(3):
        assert daemon.submit(f"job{n}").code == 0
        saved = manage("backup", "-c", daemon.config, tmp_path / f"copy{n}")
        assert saved.code == 0, saved
        manifest = json.loads((tmp_path / f"copy{n}/manifest.json").read_text())
        assert manifest["jobs"] == n + 1
        database = sqlite3.connect(tmp_path / f"copy{n}/state.db")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()


def test_a_state_directory_in_use_or_not_empty_is_not_restored_over(
    daemon: ManagerDaemon, tmp_path: Path
) -> None:
    daemon.start()
    assert daemon.submit("first").code == 0
    assert manage("backup", "-c", daemon.config, tmp_path / "copy").code == 0
    refused = manage("restore", "-c", daemon.config, "--force", tmp_path / "copy")
    assert refused.code == 1
    assert "in use" in refused.err
    assert daemon.submit("second").code == 0
    daemon.stop()
    refused = manage("restore", "-c", daemon.config, tmp_path / "copy")
    assert refused.code == 1
    assert "--force" in refused.err
    done = manage("restore", "-c", daemon.config, "--force", tmp_path / "copy")
    assert done.code == 0, done
    (aside,) = tmp_path.glob("state.before-*")
    old = sqlite3.connect(aside / "state.db")
    assert old.execute("SELECT count(*) FROM record WHERE kind = 'job'").fetchone() == (2,)
    old.close()
    daemon.start()
    assert queued(daemon) == {1: "first"}


def damage_blob(copy: Path) -> None:
    (blob,) = (path for path in copy.glob("blobs/*/*") if path.is_file())
    blob.write_bytes(b"X" + blob.read_bytes()[1:])


def drop_token(copy: Path) -> None:
    (copy / "tokens/staff").unlink()


def damage_database(copy: Path) -> None:
    data = bytearray((copy / "state.db").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (copy / "state.db").write_bytes(data)


def drop_manifest(copy: Path) -> None:
    (copy / "manifest.json").unlink()


def add_file(copy: Path) -> None:
    (copy / "more").write_text("not saved by us")


def make_manifest_fit(copy: Path) -> None:
    """Let the manifest say what is there."""
    manifest = json.loads((copy / "manifest.json").read_text())
    files = {name: about for name, about in manifest["files"].items() if (copy / name).exists()}
    for name, about in files.items():
        data = (copy / name).read_bytes()
        about |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    manifest["files"] = files
    (copy / "manifest.json").write_text(json.dumps(manifest))


def forget_blob(copy: Path) -> None:
    (blob,) = (path for path in copy.glob("blobs/*/*") if path.is_file())
    blob.unlink()
    make_manifest_fit(copy)


def save_damaged_database(copy: Path) -> None:
    damage_database(copy)
    make_manifest_fit(copy)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with a job in it."""
    directory = tmp_path_factory.mktemp("good")
    with manager_daemon(directory) as daemon:
        daemon.start()
        assert daemon.submit("first").code == 0
        for name in ("copy", "copy.tar", "copy.tar.gz"):
            assert manage("backup", "-c", daemon.config, directory / name).code == 0
    return directory


@pytest.mark.parametrize(
    "harm",
    [
        *(damage_blob, drop_token, damage_database, drop_manifest, add_file),
        *(forget_blob, save_damaged_database),
    ],
)
def test_a_damaged_backup_is_refused_and_nothing_is_changed(
    good: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    shutil.copytree(good / "copy", tmp_path / "copy")
    harm(tmp_path / "copy")
    refused = manage("restore", "--state", tmp_path / "new", tmp_path / "copy")
    assert refused.code in (1, 2), refused
    assert "Traceback" not in refused.err
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))


def test_what_is_secret_is_so_after_it_was_brought_back(good: Path, tmp_path: Path) -> None:
    bring_back(good / "copy.tar", tmp_path / "state")
    found = {
        name: (tmp_path / "state" / name).stat().st_mode & 0o777
        for name in ("authority", "authority/ca.key", "authority/ca.pem", "tokens/join")
    }
    assert found.pop("authority/ca.pem") == 0o644
    assert found == {**dict.fromkeys(found, 0o600), "authority": 0o700}


def lose_blob(state: Path) -> None:
    (blob,) = (path for path in state.glob("blobs/*/*") if path.is_file())
    blob.unlink()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damage_blob, "is damaged: it is not what its name says"),
        (lose_blob, "is not there"),
        (damage_database, "is damaged"),
    ],
)
def test_of_a_damaged_state_no_backup_is_made(
    good: Path, tmp_path: Path, harm: Callable[[Path], None], why: str
) -> None:
    bring_back(good / "copy", tmp_path / "state")
    harm(tmp_path / "state")
    for name in ("new", "new.tar"):
        refused = manage("backup", "--state", tmp_path / "state", tmp_path / name)
        assert refused.code == 1, refused
        assert why in refused.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


@pytest.mark.parametrize("name", ["copy.tar", "copy.tar.gz"])
def test_a_tarball_that_was_cut_short_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    data = (good / name).read_bytes()
    for length in (len(data) // 2, 0):
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises((Corrupt, Invalid)):
            bring_back(tmp_path / name, tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_a_tarball_cannot_write_outside_of_the_state_directory(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    for name in ("../outside", "/tmp/outside", "a/../../outside"):
        with tarfile.open(tmp_path / "bad.tar", "w") as tar:
            member = tar.gettarinfo(tmp_path / "x")
            member.name = name
            with (tmp_path / "x").open("rb") as file:
                tar.addfile(member, file)
        refused = manage("restore", "--state", tmp_path / "below/new", tmp_path / "bad.tar")
        assert refused.code == 1
        assert not list(tmp_path.rglob("outside"))


def test_nothing_is_saved_over_another_backup_nor_into_the_state_itself(
    daemon: ManagerDaemon, tmp_path: Path
) -> None:
    daemon.start()
    (tmp_path / "copy").mkdir()
    assert manage("backup", "-c", daemon.config, tmp_path / "copy").code == 1
    assert manage("backup", "-c", daemon.config, daemon.state / "copy").code == 1
    assert manage("backup", "--state", tmp_path / "nothing", tmp_path / "other").code == 3


@pytest.mark.needs_root
def test_a_backup_for_which_there_is_no_room_leaves_nothing_behind(
    good: Path, tmp_path: Path
) -> None:
    bring_back(good / "copy", tmp_path / "state")
    database = sqlite3.connect(tmp_path / "state/state.db")
    database.execute("CREATE TABLE ballast AS SELECT randomblob(2000000) AS x")
    database.commit()
    database.close()
    with tiny_disk(tmp_path / "disk", 3 << 20) as disk:
        for leave in (2_500_000, 1_000_000):
            filler = fill(disk, leave=leave)
            for name in ("copy", "copy.tar"):
                failed = manage("backup", "--state", tmp_path / "state", disk / name)
                assert failed.code in (1, 75), failed
                assert "Traceback" not in failed.err
                assert "full" in failed.err or "space" in failed.err
                assert [path.name for path in disk.iterdir()] == ["filler"]
            filler.unlink()


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.gz"])
def test_a_backup_whose_last_words_have_no_room_leaves_nothing_behind(
    good: Path, tmp_path: Path, name: str
) -> None:
    bring_back(good / "copy", tmp_path / "state")
    size = (tmp_path / "state/state.db").stat().st_size
    (tmp_path / "state/tokens/large").write_bytes(os.urandom(size + 4096))
    blocks = size // 512 + 4
    (tmp_path / "to").mkdir()
    failed = subprocess.run(
        [
            *("sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh"),
            *(sys.executable, "-c", "from syndicate.plugins.command import main; main()"),
            *("backup", "--state", tmp_path / "state", tmp_path / "to" / name),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert failed.returncode == 75
    assert f"no room for the backup {tmp_path / 'to' / name}" in failed.stderr
    assert list((tmp_path / "to").iterdir()) == []


def test_where_a_backup_cannot_be_made_or_is_none_is_said_in_a_line(
    good: Path, tmp_path: Path
) -> None:
    bring_back(good / "copy", tmp_path / "state")
    refused = manage("backup", "--state", tmp_path / "state", tmp_path / "away/copy.tar")
    assert refused.code == 3
    assert f"There is no directory {tmp_path / 'away'}" in refused.err
    (tmp_path / "text.tar").write_text("hello")
    refused = manage("restore", "--state", tmp_path / "new", tmp_path / "text.tar")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "it is no tarball" in refused.err


def test_a_restored_manager_is_obeyed_by_volunteers_that_have_seen_later_ones(
    daemon: ManagerDaemon, tmp_path: Path
) -> None:
    daemon.start()
    assert manage("backup", "-c", daemon.config, tmp_path / "copy").code == 0
    for _ in range(2):
        daemon.stop()
        daemon.start()
    daemon.stop()
    seen = term_of(daemon.state)
    assert manage("restore", "-c", daemon.config, "--force", tmp_path / "copy").code == 0
    daemon.start()
    daemon.stop()
    assert term_of(daemon.state) > seen


def term_of(state: Path) -> int:
    database = sqlite3.connect(state / "state.db")
    (term,) = database.execute("SELECT value FROM meta WHERE name = 'term'").fetchone()
    database.close()
    return int(term)
