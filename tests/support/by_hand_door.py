"""The doors of a job by hand: for each client a UNIX socket with JSON over HTTP behind it, as in
a client's sandbox.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.by_hand import Job

FAULTS = ("kill", "revive", "disconnect", "reconnect")


class _Door(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, job: Job, me: str) -> None:
        self.job, self.me = job, me
        super().__init__(str(path), _Answers)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Door

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A UNIX socket has none."""
        return self.server.me

    def do_GET(self) -> None:
        job, me = self.server.job, self.server.me
        if self.path == "/v1/job":
            self._answer(job.describe(me))
        elif self.path == "/v1/faults":
            self._answer({"faults": job.faults})
        else:
            self._refuse(404, "not_found", f"There is no {self.path}.")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        job, me, what = self.server.job, self.server.me, self.path.rpartition("/")[2]
        if self.path == "/v1/samples":
            lines = [json.loads(line) for line in body.splitlines() if line.strip()]
            job.samples.extend({**line, "machine": me} for line in lines)
            self._answer({"accepted": len(lines)})
            return
        asked = json.loads(body or b"{}")
        if self.path == "/v1/finish":
            job.results.setdefault(me, asked)
            self._answer({})
        elif self.path == "/v1/marks":
            job.marks.append(asked["name"])
            self._answer({})
        elif self.path.startswith("/v1/faults/") and what in FAULTS:
            self._answer(job.fault(what, asked, me))
        else:
            self._refuse(404, "not_found", f"There is no {self.path}.")

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer({"error": {"code": code, "message": message, "details": {}}}, status)

    def _answer(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def open_doors(job: Job, sockets: Mapping[str, Path]) -> Iterator[None]:
    """A door for each client, by its name, while the block runs."""
    with contextlib.ExitStack() as stack:
        for name, path in sockets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            door = stack.enter_context(_Door(path, job, name))
            thread = threading.Thread(target=door.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(door.shutdown)
        yield
