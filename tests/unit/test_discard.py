from __future__ import annotations

import os
from pathlib import Path

import pytest

from syndicate.sandbox.confine.discard import discard


def test_what_is_not_there_is_discarded_already(tmp_path: Path) -> None:
    discard(str(tmp_path / "x"))


def test_a_file_and_a_link_are_discarded_themselves(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("kept")
    discard(str(tmp_path / "file"))
    discard(str(tmp_path / "link"))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_tree_is_discarded_and_no_link_in_it_is_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("kept")
    tree = tmp_path / "tree"
    for name in ("a/b/c", "a/d", "e"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
        (tree / name / "up").symlink_to("..")
        (tree / name / "kept").symlink_to(tmp_path / "kept")
    os.mkfifo(tree / "pipe")
    discard(str(tree))
    assert (tmp_path / "kept/file").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_directories_that_nobody_may_enter_are_discarded(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").touch()
    for path in (tree / "a/b", tree / "a", tree):
        path.chmod(0)
    discard(str(tree))
    assert not tree.exists()


@pytest.mark.deadline(60)
def test_a_tree_deeper_than_any_path_is_long_is_discarded(tmp_path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        (tmp_path / "tree").mkdir()
        os.chdir(tmp_path / "tree")
        for _ in range(3000):
            os.mkdir("directory")
            os.close(os.open("file", os.O_CREAT))
            os.chdir("directory")
    finally:
        os.chdir(here)
        os.close(here)
    discard(str(tmp_path / "tree"))
    assert list(tmp_path.iterdir()) == []
