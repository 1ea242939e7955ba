"""A manager whose disk is full, takes no writes, or holds what is damaged: on real file systems."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syndicate.store.schema import APPLICATION
from tests.support.labs import eventually
from tests.support.manager_daemon import ManagerDaemon, manager_daemon
from tests.support.tiny_disk import Ext4, fill, tiny_disk

pytestmark = [pytest.mark.system, pytest.mark.deadline(120)]


def jobs(daemon: ManagerDaemon) -> list[str]:
    done = daemon.run("queue", "--all", "-o", "json")
    assert done.code == 0, done
    return [job["name"] for job in done.json()]


def store(daemon: ManagerDaemon) -> dict[str, Any]:
    done = daemon.run("status", "-o", "json")
    assert done.code == 0, done
    return dict(done.json()["store"])


def resubmitted(daemon: ManagerDaemon, name: str) -> bool:
    return daemon.submit(name).code == 0


@pytest.mark.needs_root
def test_a_full_disk_stops_submissions_with_a_reason_and_they_go_on_by_themselves(
    tmp_path: Path,
) -> None:
    with (
        tiny_disk(tmp_path / "disk", 16 << 20) as disk,
        manager_daemon(tmp_path, disk / "state", '[storage]\nreserve = "1M"') as daemon,
    ):
        daemon.start()
        assert daemon.submit("before").code == 0
        assert store(daemon)["stalled"] == ""
        # Down to the last page, so that the database itself cannot grow.
        filler = fill(disk)
        refused = daemon.submit("during")
        assert refused.code == 75, refused
        assert "full" in refused.err or "room" in refused.err
        # A source that is there already needs no upload, and is refused all the same.
        refused = daemon.submit("before")
        assert refused.code == 75, refused
        assert "The manager's disk is full" in refused.err or str(disk) in refused.err
        assert jobs(daemon) == ["before"]
        assert "reserve" in store(daemon)["refuses"]
        filler.unlink()
        eventually(lambda: resubmitted(daemon, "after"))
        assert jobs(daemon) == ["before", "after"]
        assert store(daemon)["refuses"] == ""
        daemon.stop()
        daemon.start()
        assert jobs(daemon) == ["before", "after"]


@pytest.mark.needs_root
def test_a_file_system_that_became_read_only_can_be_mended_under_a_running_manager(
    tmp_path: Path,
) -> None:
    with (
        Ext4(tmp_path / "disk", 64 << 20) as disk,
        manager_daemon(tmp_path, disk.place / "state", '[storage]\nreserve = "1M"') as daemon,
    ):
        daemon.start()
        assert daemon.submit("before").code == 0
        disk.break_off()
        refused = daemon.submit("before")
        assert refused.code == 75, refused
        assert "read-only" in refused.err
        assert jobs(daemon) == ["before"]
        eventually(lambda: "read-only" in store(daemon)["stalled"])
        # It has let go of everything there.
        eventually(lambda: not open_below(daemon, disk.place))
        disk.umount()
        disk.check()
        assert daemon.submit("before").code == 75
        disk.mount()
        eventually(lambda: store(daemon)["stalled"] == "")
        assert daemon.submit("after").code == 0
        assert jobs(daemon) == ["before", "after"]
        daemon.stop()
        daemon.start()
        assert jobs(daemon) == ["before", "after"]


def open_below(daemon: ManagerDaemon, place: Path) -> list[str]:
    assert daemon.process is not None
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")
    found = []
    for entry in descriptors.iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return [path for path in found if path.startswith(f"{place}/")]


def zero_header(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(bytes(100))


def damage_page(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(os.urandom(4096))


def cut_half(database: Path) -> None:
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2 // 4096 * 4096)


def cut_to_nothing(database: Path) -> None:
    database.write_bytes(b"")


def remove(database: Path) -> None:
    database.unlink()


def of_another_program(database: Path) -> None:
    change(database, f"PRAGMA application_id = {APPLICATION + 1}")


def of_a_newer_format(database: Path) -> None:
    change(database, "PRAGMA user_version = 4711")


def change(database: Path, statement: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute(statement)
    connection.close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a manager that had a job."""
    directory = tmp_path_factory.mktemp("stored")
    with manager_daemon(directory) as daemon:
        daemon.start()
        assert daemon.submit("kept").code == 0
    return directory


@pytest.mark.parametrize(
    ("harm", "words", "command"),
    [
        (zero_header, "damaged", "restore --force"),
        (damage_page, "damaged", "restore --force"),
        (cut_half, "damaged", "restore --force"),
        (cut_to_nothing, "is empty", "restore --force"),
        (remove, "is gone", "restore --force"),
        (of_another_program, "another program", "Move it away"),
        (of_a_newer_format, "format 4711", "restore --force"),
    ],
)
def test_a_database_that_is_not_what_was_written_is_refused_at_the_start(
    stored: Path,
    tmp_path: Path,
    harm: Callable[[Path], None],
    words: str,
    command: str,
) -> None:
    shutil.copytree(stored / "state", tmp_path / "state")
    database = tmp_path / "state/state.db"
    harm(database)
    before = database.read_bytes() if database.exists() else None
    with manager_daemon(tmp_path) as daemon:
        daemon.launch()
        assert daemon.process is not None
        assert daemon.process.wait(30) == 1
    assert words in daemon.log
    assert str(database) in daemon.log
    assert command in daemon.log
    assert "Traceback" not in daemon.log
    assert (database.read_bytes() if database.exists() else None) == before
