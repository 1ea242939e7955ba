"""A real manager daemon alone: no lab, no volunteers, no root; for what befalls its files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.support.labs import Ran

BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port of the loopback device that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.define(eq=False)
class ManagerDaemon:
    """``twistd syndicate-manager`` on a state directory, from `start` to `stop`."""

    directory: Path
    state: Path
    #: More sections of its configuration.
    more: str = ""
    api_port: int = attrs.field(factory=free_port)
    wire_port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        """Its TOML file."""
        return self.directory / "manager.toml"

    @property
    def log(self) -> str:
        """What it has logged since its first start."""
        return (self.directory / "log").read_text()

    def start(self, seconds: float = 30.0) -> None:
        """Start it, and wait until it can be spoken to."""
        self.launch()
        deadline = time.monotonic() + seconds
        while True:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.api_port), 1).close()
                return
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def launch(self) -> None:
        """Start it."""
        self.config.write_text(
            f'[manager]\nstate = "{self.state}"\naddress = "127.0.0.1"\n'
            f"wire_port = {self.wire_port}\napi_port = {self.api_port}\n{self.more}\n"
        )
        with (self.directory / "log").open("ab") as log:
            words = ["-n", "--pidfile=", "syndicate-manager", "--config", str(self.config)]
            self.process = subprocess.Popen(
                [BIN / "twistd", *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; gives its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise
        finally:
            self.process = None

    def run(self, *words: str, timeout: float = 60.0) -> Ran:
        """Run ``syndicate`` as its staff."""
        # Where the state is may be gone for a while.
        for name in ("authority/ca.pem", "tokens/staff"):
            kept = self.directory / Path(name).name
            if not kept.exists():
                kept.write_bytes((self.state / name).read_bytes())
        return _ran(
            [BIN / "syndicate", *words],
            timeout,
            SYNDICATE_URL=f"https://127.0.0.1:{self.api_port}",
            SYNDICATE_TOKEN_FILE=str(self.directory / "staff"),
            SYNDICATE_AUTHORITY=str(self.directory / "ca.pem"),
        )

    def submit(self, name: str = "job", *words: str) -> Ran:
        """Queue a job of an own source, which nobody will run."""
        source = self.directory / f"source-{name}"
        source.mkdir(exist_ok=True)
        (source / "Makefile").write_text(f"master slave:\n\t@echo {name}\n")
        return self.run("submit", str(source), "-n", "1", "-o", "id", "--name", name, *words)


def manage(*words: str | Path, timeout: float = 60.0) -> Ran:
    """Run ``syndicate-manager``."""
    return _ran([BIN / "syndicate-manager", *words], timeout)


def _ran(words: list[str | Path], timeout: float, **environment: str) -> Ran:
    done = subprocess.run(
        words,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def manager_daemon(
    directory: Path, state: Path | None = None, more: str = ""
) -> Iterator[ManagerDaemon]:
    """A manager that is stopped at the end of the block."""
    daemon = ManagerDaemon(directory, state or directory / "state", more)
    try:
        yield daemon
    finally:
        daemon.stop()
