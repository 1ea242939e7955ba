"""What this machine can do at the moment: the measure for all other figures."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from bench.figures import Figure
from bench.session import Session
from syndicate.credentials.authority import SERVER_NAME, ensure_authority

BOUND = 60.0

FORK = "fork+exec"
HASH = "SHA-256"
SYNC = "fsync"
PYTHON = "Python start"
TRIP = "TLS round trip"


def measure(session: Session) -> list[Figure]:
    """Time the machine's own steps."""
    block = os.urandom(64 << 20)
    figures = [
        Figure(FORK, _times(50, _fork), "ms", note="/bin/true"),
        Figure(HASH, [_speed(block) for _ in range(5)], "MB/s", more=True),
        Figure(SYNC, _synced(session, 30), "ms", note="after 4 KiB were appended"),
        Figure(PYTHON, _times(10, _python), "ms", note="-I -S -c pass"),
        Figure(TRIP, _trips(session, 300), "ms", note="100 bytes and back, between two threads"),
    ]
    session.calibration.update({figure.name: figure.median for figure in figures})
    return figures


def _times(runs: int, act: Callable[[], object]) -> list[float]:
    values = []
    for _ in range(runs):
        began = time.perf_counter()
        act()
        values.append((time.perf_counter() - began) * 1000)
    return values


def _fork() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def _python() -> None:
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)


def _speed(block: bytes) -> float:
    began = time.perf_counter()
    hashlib.sha256(block)
    return len(block) / (time.perf_counter() - began) / 1e6


def _synced(session: Session, runs: int) -> list[float]:
    path = session.directory / "synced"
    block = os.urandom(4096)
    with path.open("wb", buffering=0) as file:

        def act() -> None:
            file.write(block)
            os.fsync(file.fileno())

        values = _times(runs, act)
    path.unlink()
    return values


def _trips(session: Session, runs: int) -> list[float]:
    made = ensure_authority(session.directory / "calibration", ())
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made.certificate_file, made.key_file)
    client = ssl.create_default_context(cafile=made.ca_file)
    ours, theirs = socket.socketpair()

    def echo() -> None:
        with theirs, server.wrap_socket(theirs, server_side=True) as peer:
            while data := peer.recv(4096):
                peer.sendall(data)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    with ours, client.wrap_socket(ours, server_hostname=SERVER_NAME) as peer:
        message = bytes(100)

        def act() -> None:
            peer.sendall(message)
            peer.recv(4096)

        values = _times(runs, act)
    thread.join(5)
    return values
