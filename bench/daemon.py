"""A manager alone on this machine's own address, for what needs no lab."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.children import WITH_US, child
from bench.cluster import Cluster


@contextlib.contextmanager
def manager(place: Path) -> Iterator[tuple[Cluster, int]]:
    """A daemon of its own, on this machine's own address."""
    wire_port, api_port = _free_ports(2)
    configuration, state = place / "manager.toml", place / "state"
    configuration.write_text(
        "[manager]\n"
        f"state = {json.dumps(str(state))}\n"
        'address = "127.0.0.1"\n'
        f"wire_port = {wire_port}\n"
        f"api_port = {api_port}\n"
    )
    twistd = Path(sys.executable).with_name("twistd")
    words = [
        *WITH_US,
        sys.executable,
        str(twistd),
        "-n",
        "--pidfile=",
        f"--logfile={place / 'log'}",
    ]
    with (place / "output").open("wb") as output:
        words += ["syndicate-manager", "--config", str(configuration)]
        with child(words, cwd=place, stdout=output, stderr=output) as process:
            yield _reached(process, state, api_port), wire_port


def _reached(process: subprocess.Popen[bytes], state: Path, port: int) -> Cluster:
    secret, authority = state / "tokens/staff", state / "authority/ca.pem"
    for _ in range(500):
        if process.poll() is not None:
            raise RuntimeError("the manager did not start")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            token = secret.read_text().strip()
            return Cluster(f"https://127.0.0.1:{port}", token, str(authority), process.pid)
        time.sleep(0.02)
    raise RuntimeError("the manager does not answer")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
