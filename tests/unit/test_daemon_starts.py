"""What keeps a daemon from starting is said in a sentence, and not by a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from syndicate.plugins import manager, volunteer


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Not a directory that could be made, whoever asks for it."""
    (tmp_path / "file").touch()
    return tmp_path / "file/state"


def start_volunteer(directory: Path, state: Path) -> None:
    config = directory / "volunteer.toml"
    config.write_text(
        f"""[volunteer]
manager = "127.0.0.1"
authority = "{directory}/ca.pem"
join_token_file = "{directory}/join"
state = "{state}"
"""
    )
    volunteer.make_service({"config": str(config)})


def test_a_volunteer_without_its_authority_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ca.pem cannot be read: No such file.* Copy ca.pem"):
        start_volunteer(tmp_path, tmp_path / "state")


def test_a_volunteer_without_room_for_its_state_says_so(tmp_path: Path, state: Path) -> None:
    with pytest.raises(SystemExit, match=r"state directory .* cannot be made: Not a directory"):
        start_volunteer(tmp_path, state)


def test_a_manager_without_room_for_its_state_says_so(tmp_path: Path, state: Path) -> None:
    config = tmp_path / "manager.toml"
    config.write_text(f'[manager]\nstate = "{state}"\n')
    with pytest.raises(SystemExit, match=r"state directory .* cannot be made: Not a directory"):
        manager.make_service({"config": str(config)})
