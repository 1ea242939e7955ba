"""A large source on its way to six volunteers, against curl and nginx on the same ways."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import cluster, sources
from bench.children import WITH_US, child, end
from bench.cluster import VOLUNTEERS
from bench.figures import Figure, Peer
from bench.session import Session
from bench.sources import Tarball

BOUND = 240.0

#: Bytes of the file in the source.
SIZE = 100 << 20

#: Each writes 800 MB, so there are fewer of them.
MOST_RUNS = 5

PORT = 8443

_CONFIGURATION = """
daemon off;
user root;
worker_processes auto;
pid {place}/pid;
error_log {place}/errors;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
  uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  server {{
    listen {address}:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    root {place}/files;
  }}
}}
"""


def measure(session: Session) -> list[Figure]:
    """Let volunteers and curl download the same file in turn, in the same network namespaces."""
    ours, curls, ready = [], [], []
    makers = os.urandom(SIZE)
    with _nginx(session) as place:
        for _ in range(min(session.runs, MOST_RUNS)):
            source = sources.tarball(sources.NO_OP, {"random": makers})
            (place / "files" / source.sha256).write_bytes(source.data)
            # What was written before is not to be brought to the disk while it is measured.
            os.sync()
            curls.append(_downloaded(session, place, source.sha256))
            os.sync()
            held, prepared = _distributed(session, source)
            ours.append(held)
            ready.append(prepared)
            _forget(session, place, source.sha256)
    curl = Figure("six curl downloads from nginx, over TLS", curls, "s")
    peer = Peer("curl+nginx", curl.median)
    return [
        Figure(
            "100 MiB to six volunteers, verified",
            ours,
            "s",
            target=2 * curl.median,
            peer=peer,
            note="target: twice curl's time",
        ),
        curl,
        Figure("  until all six are ready", ready, "s", peer=peer, note="unpacked too"),
    ]


@contextlib.contextmanager
def _nginx(session: Session) -> Iterator[Path]:
    """An nginx beside the manager, with the manager's certificate."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("curl") is None:
        raise RuntimeError("nginx or curl is missing: apt-get install nginx-light curl")
    lab = session.lab
    address = lab.host("manager").address
    authority = lab.directory / "manager/state/authority"
    place = session.directory / f"nginx{session.number()}"
    (place / "files").mkdir(parents=True)
    (place / "configuration").write_text(
        _CONFIGURATION.format(
            place=place,
            address=address,
            port=PORT,
            certificate=authority / "certificate.pem",
            key=authority / "certificate.key",
        )
    )
    words = [program, "-e", str(place / "errors"), "-p", str(place), "-c", "configuration"]
    with child(lab.exec_command("manager", [*WITH_US, *words])) as process:
        _await(address, process)
        yield place


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((address, PORT), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError("nginx does not answer")


def _downloaded(session: Session, place: Path, sha256: str) -> float:
    """The time that six curl processes take at once."""
    lab = session.lab
    url = f"https://{lab.host('manager').address}:{PORT}/{sha256}"
    targets = [place / f"curl{n}" for n in range(1, VOLUNTEERS + 1)]
    running: list[subprocess.Popen[bytes]] = []
    began = time.monotonic()
    try:
        for n, target in enumerate(targets, 1):
            words = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(lab.authority)]
            words = lab.exec_command(f"v{n}", [*words, "--output", str(target), url])
            running.append(subprocess.Popen(words, start_new_session=True))
        codes = [process.wait() for process in running]
        took = time.monotonic() - began
    finally:
        for process in running:
            end(process)
        for target in targets:
            target.unlink(missing_ok=True)
    if any(codes):
        raise RuntimeError(f"curl ended with {codes}")
    return took


def _distributed(session: Session, source: Tarball) -> tuple[float, float]:
    """How long after the reservation all volunteers hold it, and are ready."""
    with session.cluster.connection() as connection:
        job = cluster.submit(connection, source, VOLUNTEERS)
        held = _await_all(_places(session, source.sha256))
        at = {
            event["kind"]: cluster.seconds(event["at"])
            for _, event in cluster.events(connection, job)
        }
        cluster.require_passed([connection.get(f"/v1/jobs/{job['job']}")["job"]])
        cluster.wait_free(connection)
    return held - at["reserved"], at["machine-ready"] - at["reserved"]


def _places(session: Session, sha256: str) -> list[Path]:
    """Where volunteers show a source once it is whole and verified."""
    top = session.lab.directory
    return [top / f"v{n}/state/cache/{sha256[:2]}/{sha256}" for n in range(1, VOLUNTEERS + 1)]


def _await_all(paths: Sequence[Path]) -> float:
    left = list(paths)
    while left:
        time.sleep(0.002)
        left = [path for path in left if not path.exists()]
    return time.time()


def _forget(session: Session, place: Path, sha256: str) -> None:
    """Make room: nobody asks for this one again."""
    (place / "files" / sha256).unlink()
    for path in _places(session, sha256):
        path.unlink(missing_ok=True)
    blobs = session.lab.directory / "manager/state/blobs"
    (blobs / sha256[:2] / sha256).unlink(missing_ok=True)
