"""What we hand out can be installed, and brings both daemons and the command with it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest
from packaging.requirements import Requirement

import syndicate

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.system, pytest.mark.deadline(120)]


@attrs.frozen
class Installed:
    """A virtual environment with nothing of its own but Syndicate."""

    folder: Path

    def run(self, program: str, *arguments: str) -> str:
        """What a program of this environment prints; it must succeed."""
        return _run([str(self.folder / "bin" / program), *arguments], self.folder)

    def twistd(self, *arguments: str) -> str:
        """What ``twistd`` prints; its script is elsewhere, as Twisted is."""
        code = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
        return self.run("python", "-c", code, *arguments)


def _run(command: Sequence[str], folder: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # So that no line is broken where we look for one.
    environ["COLUMNS"] = "200"
    ran = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, as a build writes into its source."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy)
    made = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in ("syndicate", "twisted"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=made)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    _run([sys.executable, "-m", "pip", *build, str(source)], folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Installed]:
    """Install something into an environment of its own; what it needs is taken from ours."""

    def into_new_environment(*what: str) -> Installed:
        folder = tmp_path_factory.mktemp("venv")
        venv.create(folder, symlinks=True, with_pip=False)
        packages = folder / f"lib/python{sysconfig.get_python_version()}/site-packages"
        # Ours is not read for .pth files there, so that our own editable install is not seen.
        (packages / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
        _run([*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", *what], folder)
        return Installed(folder)

    return into_new_environment


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(
    request: pytest.FixtureRequest, install: Callable[..., Installed], source: Path
) -> Installed:
    if request.param == "wheel":
        return install(str(request.getfixturevalue("wheel")))
    return install("--editable", str(source))


def test_twistd_finds_both_daemons(installed: Installed) -> None:
    commands = re.findall(r"^\s+(syndicate-\w+)", installed.twistd("--help"), re.MULTILINE)
    assert sorted(commands) == ["syndicate-manager", "syndicate-volunteer"]


@pytest.mark.parametrize("daemon", ["syndicate-manager", "syndicate-volunteer"])
def test_each_daemon_can_say_what_it_takes(installed: Installed, daemon: str) -> None:
    assert daemon in installed.twistd(daemon, "--help")


def test_the_command_tells_its_version(installed: Installed) -> None:
    assert syndicate.__version__ in installed.run("syndicate", "--version")


def test_the_package_is_of_the_version_it_says() -> None:
    assert importlib.metadata.version("syndicate") == syndicate.__version__


def test_what_runs_is_what_was_installed(installed: Installed, source: Path) -> None:
    where = Path(installed.run("python", "-c", "import syndicate; print(syndicate.__file__)"))
    assert any(where.is_relative_to(place) for place in (installed.folder, source))


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path, source: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(source))
        for path in (source / "syndicate").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= held


def test_the_wheel_adds_one_file_to_twisted(wheel: Path) -> None:
    # An __init__.py would overwrite Twisted's own, and take it away when we are uninstalled.
    held = zipfile.ZipFile(wheel).namelist()
    assert [name for name in held if name.startswith("twisted/")] == [
        "twisted/plugins/syndicate_plugins.py"
    ]


def test_the_locked_versions_are_in_the_ranges_of_setup() -> None:
    asked = map(Requirement, importlib.metadata.requires("syndicate") or [])
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", _lock(), re.MULTILINE))
    found = {str(need): locked.get(need.name.replace(".", "-").lower()) for need in asked}
    assert all(
        version is not None and Requirement(need).specifier.contains(version)
        for need, version in found.items()
    ), found


def test_the_lock_says_what_and_not_from_where() -> None:
    assert not re.search(r"://|^\s*--(?!hash=)", _lock(), re.MULTILINE)


def _lock() -> str:
    return (REPOSITORY / "requirements.lock").read_text()
