"""A small manager that answers as the JSON API says, over real HTTPS: for tests of the command
line. It runs nothing: tests say what its jobs do."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from syndicate.credentials.authority import ensure_authority

Record = dict[str, Any]

START = datetime(2030, 5, 1, 12, 0, 0, tzinfo=UTC)


class Seen(NamedTuple):
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def at(seconds: float) -> str:
    """A time as the API writes it."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")[:-6] + "Z"


def machine(name: str, **changes: Any) -> Record:
    """A machine of a job, running unless said otherwise."""
    number = 2 if name == "master" else int(re.sub(r"\D", "", name)) + 3
    return {
        "machine": name,
        "role": name.partition("[")[0],
        "volunteer": f"v{number - 1}",
        "address": f"10.77.0.{number}",
        "state": "running",
        "exit_code": None,
        "signal": None,
        "limit": None,
        "reason": "",
        "log_bytes": 120,
        "outputs": None,
        "left_out": [],
        **changes,
    }


def job(number: int, **changes: Any) -> Record:
    """A job, queued unless said otherwise."""
    return {
        "job": number,
        "name": "wordcount",
        "user": "ann",
        "state": "queued",
        "outcome": None,
        "reason": "Waits for 2 more volunteers.",
        "limit": None,
        "attempt": 0,
        "machines_wanted": 3,
        "position": None,
        "submitted_at": at(0),
        "started_at": None,
        "finished_at": None,
        "clients": 0,
        "seed": 0,
        "source": {"sha256": "ab" * 32, "size": 10},
        "client": None,
        "limits": {
            "cpu": 86400.0,
            "wall": 3600.0,
            "memory": 1 << 30,
            "pids": 512,
            "files": 1024,
            "output": 50 << 20,
            "disk": 2 << 30,
        },
        "resources": {"cores": 0.0, "memory": 0, "arch": []},
        "outputs": [],
        "env": {},
        "linger": False,
        "events": 1,
        "machines": [],
        **changes,
    }


def volunteer(name: str, **changes: Any) -> Record:
    """A volunteer, free unless said otherwise."""
    return {
        "volunteer": name,
        "state": "free",
        "job": None,
        "attempt": None,
        "reason": "",
        "address": "10.77.0.3",
        "cores": 2,
        "memory": 8 << 30,
        "arch": "x86_64",
        "kernel": "6.1.0",
        "sandbox": "root",
        "enforced": ["wall", "memory"],
        "versions": {"syndicate": "0.1.0"},
        "registered_at": at(0),
        "heard_at": at(0),
        **changes,
    }


def fault(number: int, kind: str, applied: float, healed: float | None) -> Record:
    """A fault of the second attempt, applied and perhaps healed so long after the start."""
    return {
        "id": f"f{number}",
        "job": 1,
        "attempt": 2,
        "kind": kind,
        "amount": None,
        "machines": ["master"],
        "by": "client[0]",
        "state": "verified" if healed is None else "healed",
        "with_disk": False if kind == "revive" else None,
        "requested_at": at(applied - 0.01),
        "applied_at": at(applied),
        "verified_at": at(applied + 0.005),
        "healed_at": None if healed is None else at(healed),
        "note": "no process left",
    }


def finished(outcome: str = "passed", **changes: Any) -> Record:
    """What a job's record becomes when it ends."""
    return {
        "state": "finished",
        "outcome": outcome,
        "reason": "Every machine ended with exit code 0.",
        "started_at": at(1),
        "finished_at": at(3.5),
        "position": None,
        **changes,
    }


class FakeManager:
    """Serves on a port of 127.0.0.1 until it is closed."""

    def __init__(self, directory: Path) -> None:
        made = ensure_authority(directory / "authority", [])
        self.authority = made.ca_file
        self.secret = "open sesame"
        self.forget()
        self.connections = 0
        self._open: list[ssl.SSLSocket] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(made.certificate_file, made.key_file)
        self._server = self._listen(0)
        self.port = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """Be as in the beginning."""
        self.jobs: dict[int, Record] = {}
        self.events: dict[int, list[Record]] = {}
        self.lines: dict[int, list[Record]] = {}
        self.files: dict[int, dict[str, bytes]] = {}
        self.faults: dict[int, list[Record]] = {}
        #: Lines of CSV, without the first.
        self.samples: dict[int, list[str]] = {}
        self.volunteers: list[Record] = []
        self.audit: list[Record] = []
        self.console: Record | None = None
        self.blobs: dict[str, bytearray] = {}
        self.whole: set[str] = set()
        self.seen: list[Seen] = []
        #: Called with each job that is submitted, to change what becomes of it.
        self.on_submit: Callable[[Record], None] = lambda record: None
        #: The next request of that method is carried out, and its answer lost.
        self.break_on = ""
        self.break_next_upload = False
        #: So many streams break off in their midst.
        self.break_streams = 0
        self._tokens: dict[str, int] = {}

    def _listen(self, port: int) -> ThreadingHTTPServer:
        manager = self

        class Handler(_Handler):
            fake = manager

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[ssl.SSLSocket, Any]:
                raw, address = super().get_request()
                raw.settimeout(20)
                manager.connections += 1
                secured = manager._context.wrap_socket(
                    raw, server_side=True, do_handshake_on_connect=False
                )
                manager._open.append(secured)
                return secured, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no event."""

        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self) -> None:
        """Serve no more, not even those who are connected."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def restart_after(
        self, seconds: float, *, before: Callable[[], bool], then: Callable[[], None]
    ) -> threading.Thread:
        """Close once something is so, and serve again on the same port after a while."""

        def restart() -> None:
            deadline = time.monotonic() + 8
            while not before() and time.monotonic() < deadline:
                time.sleep(0.02)
            self.close()
            time.sleep(seconds)
            then()
            self._server = self._listen(self.port)

        thread = threading.Thread(target=restart)
        thread.start()
        return thread

    def submit(self, body: Record) -> tuple[int, Record]:
        """Take a submission, once."""
        token = body["submission"]
        if token in self._tokens:
            return 200, self.jobs[self._tokens[token]]
        spec = body["spec"]
        number = len(self.jobs) + 1
        record = job(
            number,
            name=spec["name"],
            machines_wanted=spec.get("machines", 1),
            source={"sha256": spec["sha256"], "size": spec["size"]},
        )
        self.jobs[number] = record
        self._tokens[token] = number
        self.on_submit(record)
        return 201, record


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: FakeManager

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.command == "PUT" and self.path.startswith("/v1/blobs/"):
            self._take_blob(length)
            return
        body = self.rfile.read(length)
        self.fake.seen.append(Seen(self.command, self.path, dict(self.headers), body))
        if self.fake.break_on == self.command:
            self.fake.break_on = ""
            with contextlib.suppress(_Answered):
                self._route(body, dry=True)
            self._break()
            return
        with contextlib.suppress(_Answered):
            self._route(body)

    def _break(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _take_blob(self, length: int) -> None:
        sha256 = self.path.rpartition("/")[2]
        offset = int(self.headers["X-Syndicate-Offset"])
        held = self.fake.blobs.setdefault(sha256, bytearray())
        del held[offset:]
        while length:
            data = self.rfile.read1(min(length, 65536))
            if not data:
                return
            held += data
            length -= len(data)
            if self.fake.break_next_upload:
                self.fake.break_next_upload = False
                self._break()
                return
        self.fake.seen.append(Seen("PUT", self.path, dict(self.headers), b""))
        self.fake.whole.add(sha256)
        with contextlib.suppress(_Answered):
            self._answer(201, {})

    def _route(self, body: bytes, *, dry: bool = False) -> None:
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        words = unquote(url.path).removeprefix("/v1/").split("/")
        self._dry = dry
        if words == ["version"]:
            self._answer(200, {"version": "0.1.0", "protocol": 1, "cluster": "fake"})
        if self.headers.get("Authorization") != f"Bearer {self.fake.secret}":
            self._refuse(401, "unauthorized", "The token is not known here.")
        handler = getattr(self, f"_{self.command.lower()}_{words[0]}", self._get_nothing)
        handler(words[1:], query, body)

    def _get_nothing(self, words: list[str], query: Record, body: bytes) -> None:
        self._refuse(404, "not_found", f"No such address: {self.path}.")

    def _get_status(self, words: list[str], query: Record, body: bytes) -> None:
        self._answer(
            200,
            {
                "version": "0.1.0",
                "cluster": "fake",
                "started_at": at(0),
                "jobs": {"queued": 1},
                "volunteers": {"free": len(self.fake.volunteers)},
                "store": {
                    "engine": "memory",
                    "size": 2048,
                    "problem": "",
                    "stalled": "It is full.",
                },
                "you": {"user": "ann", "role": "user"},
            },
        )

    def _get_volunteers(self, words: list[str], query: Record, body: bytes) -> None:
        self._answer(200, {"volunteers": self.fake.volunteers})

    def _post_volunteers(self, words: list[str], query: Record, body: bytes) -> None:
        name, verb = words
        for each in self.fake.volunteers:
            if each["volunteer"] == name:
                stays = each["state"] == "gone" or (each["state"] == "busy" and verb != "resume")
                state = {"drain": "drained", "quarantine": "quarantined", "resume": "free"}[verb]
                each |= {"state": each["state"] if stays else state, "then": state}
                each["reason"] = json.loads(body).get("reason", "") if verb != "resume" else ""
                self._answer(200, {"volunteer": each})
        self._refuse(404, "not_found", f"There is no volunteer {name!r}.")

    def _get_audit(self, words: list[str], query: Record, body: bytes) -> None:
        wanted = [e for e in self.fake.audit if query.get("who", e["who"]) == e["who"]]
        self._answer(200, {"entries": wanted[-int(query["limit"]) :]})

    def _get_console(self, words: list[str], query: Record, body: bytes) -> None:
        if self.fake.console is None:
            self._refuse(404, "not_found", "This manager has no console.")
        self._answer(200, self.fake.console)

    def _head_blobs(self, words: list[str], query: Record, body: bytes) -> None:
        if words[0] in self.fake.whole:
            self._answer(200, {})
        held = len(self.fake.blobs.get(words[0], b""))
        self._answer(404, {}, {"X-Syndicate-Held": str(held)})

    def _post_tokens(self, words: list[str], query: Record, body: bytes) -> None:
        asked = json.loads(body)
        until = None if asked["expires_in"] is None else at(asked["expires_in"])
        made = {"secret": "syn_x_y", "id": "x", "expires_at": until}
        self._answer(201, {**made, "role": asked["role"], "user": asked["user"]})

    def _post_jobs(self, words: list[str], query: Record, body: bytes) -> None:
        given = json.loads(body)
        if words[1:] == ["faults", "heal"]:
            self._heal(int(words[0]), given.get("id"))
        if words:
            self._cancel(int(words[0]))
        if query.get("dry_run"):
            names = [each["volunteer"] for each in self.fake.volunteers]
            enough = len(names) >= given["spec"].get("machines", 1)
            self._answer(200, {"matching": names, "enough": enough, "reason": "So it is."})
        if given["spec"]["sha256"] not in self.fake.whole | {"ab" * 32}:
            self._refuse(404, "not_found", "The source is not here.")
        if given["no_wait"] and len(self.fake.volunteers) < given["spec"].get("machines", 1):
            self._refuse(409, "would_wait", "The job would wait.")
        status, record = self.fake.submit(given)
        self._answer(status, {"job": record})

    def _heal(self, number: int, which: str | None) -> None:
        faults = self.fake.faults.get(number, [])
        ended = [
            each for each in faults if each["healed_at"] is None and which in (None, each["id"])
        ]
        for each in ended:
            each |= {"state": "healed", "healed_at": at(9)}
        self._answer(200, {"healed": [each["id"] for each in ended]})

    def _cancel(self, number: int) -> None:
        record = self._find(str(number))
        if record["state"] == "finished":
            self._refuse(409, "conflict", f"Job {number} is finished already.")
        record.update(finished("cancelled", reason="Cancelled by ann."))
        self._answer(200, {"job": record})

    def _find(self, name: str) -> Record:
        number = max(self.fake.jobs, default=0) if name == "latest" else int(name)
        if number not in self.fake.jobs:
            self._refuse(404, "not_found", f"There is no job {name}.")
        return self.fake.jobs[number]

    def _get_jobs(self, words: list[str], query: Record, body: bytes) -> None:
        if not words:
            jobs = [
                each
                for each in self.fake.jobs.values()
                if (query.get("all") or each["state"] != "finished")
                and query.get("user") in (None, each["user"])
            ]
            self._answer(200, {"jobs": jobs})
        record = self._find(words[0])
        number = record["job"]
        match words[1:]:
            case []:
                self._answer(200, {"job": record})
            case ["wait"]:
                self._wait(record, query)
            case ["events"]:
                self._events(number, query)
            case ["logs"]:
                self._logs(number, query)
            case ["files"]:
                files = self.fake.files.get(number, {})
                listed = [{"path": path, "size": len(data)} for path, data in files.items()]
                self._answer(200, {"files": listed})
            case ["faults"]:
                self._answer(200, {"faults": self.fake.faults.get(number, [])})
            case ["samples"]:
                rows = ["attempt,machine,t,op,ms,ok", *self.fake.samples.get(number, [])]
                self._stream([f"{row}\n".encode() for row in rows])
            case ["files", *path]:
                data = self.fake.files[number]["/".join(path)]
                self._stream([data[:1], data[1:]])

    def _wait(self, record: Record, query: Record) -> None:
        wanted = {"finished"} if query["until"] == "finished" else {"finished", "running"}
        deadline = time.monotonic() + float(query["timeout"])
        while not (reached := record["state"] in wanted) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._answer(200, {"job": record, "reached": reached})

    def _events(self, number: int, query: Record) -> None:
        after = int(self.headers.get("Last-Event-ID") or query.get("after", 0))
        events = [each for each in self.fake.events.get(number, []) if each["n"] > after]
        if "event-stream" not in self.headers.get("Accept", ""):
            self._answer(200, {"events": events})
        self._stream(
            [b": alive\n\n"]
            + [
                f"id: {each['n']}\nevent: {each['kind']}\ndata: {json.dumps(each)}\n\n".encode()
                for each in events
            ]
        )

    def _logs(self, number: int, query: Record) -> None:
        lines = [
            each
            for each in self.fake.lines.get(number, [])
            if query.get("machine") in (None, each["machine"])
            and query.get("stream") in (None, each["stream"])
        ]
        if "tail" in query:
            lines = lines[-int(query["tail"]) :]
        self._stream([json.dumps(each).encode() + b"\n" for each in lines])

    def _stream(self, parts: list[bytes]) -> None:
        if self._dry:
            raise _Answered
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, part in enumerate(parts):
            if self.fake.break_streams and number:
                self.fake.break_streams -= 1
                self._break()
                raise _Answered
            if part:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")
        raise _Answered

    def _refuse(self, status: int, code: str, message: str) -> None:
        told = {"code": code, "message": message, "details": {}}
        self._answer(status, {"error": told})

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        if not getattr(self, "_dry", False):
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
        raise _Answered


class _Answered(Exception):
    """The answer was sent; nothing is left to do."""


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[FakeManager]:
    """A fake manager for as long as it is needed."""
    manager = FakeManager(directory)
    try:
        yield manager
    finally:
        manager.close()
