"""Daemons that cannot start say in a sentence why, and end with 1."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.manager_daemon import BIN, manager_daemon

pytestmark = [pytest.mark.system, pytest.mark.deadline(60)]


def started(which: str, directory: Path, config: str) -> tuple[int, str]:
    (directory / "config.toml").write_text(config)
    words = ["-n", "--pidfile=", which, "--config", str(directory / "config.toml")]
    done = subprocess.run(
        [BIN / "twistd", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("which", ["manager", "volunteer"])
def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path, which: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "join").write_text("syn_join")
    config = f'[{which}]\nstate = "{tmp_path}/file/state"\n'
    if which == "volunteer":
        config += f'manager = "127.0.0.1"\nauthority = "ca"\njoin_token_file = "{tmp_path}/join"\n'
    code, said = started(f"syndicate-{which}", tmp_path, config)
    assert code == 1
    assert f"{tmp_path}/file/state cannot be made: Not a directory." in said
    assert "Traceback" not in said


def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, manager_daemon(tmp_path) as daemon:
        daemon.api_port = other.getsockname()[1]
        daemon.launch()
        assert daemon.process is not None
        assert daemon.process.wait(30) == 1
        assert (
            f"It cannot listen on 127.0.0.1:{daemon.api_port}: Address already in use" in daemon.log
        )
        assert "Traceback" not in daemon.log
