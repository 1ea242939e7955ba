"""For benchmark clients in Python: hurt your own job, measure, and say how it went.

Nothing but the standard library of Python 3.8 or later is needed, and no other file of ours: it
can be copied into a client's source. In the sandbox of a client it is there already::

    import syndicate.client as sc

    c = sc.connect()
    a, b = c.slaves
    fault = c.kill(b)                      # over when every process of b is dead
    c.revive(b, with_disk=False)
    with c.disconnected(a):                # reconnected at the end, after an exception too
        with c.timed("put"):
            put("k", 1)                    # one sample; they are sent in batches
    c.finish(passed=True, score=97)

Everything may be called from several threads at once. Every call that fails raises a
`SyndicateError` with a ``code``.
"""

# That this is one file, and longer than others of ours, is its purpose. It speaks HTTP by itself
# because importing http.client takes longer than all that it is needed for.

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
import weakref
from collections import deque

# Not from typing, whose import takes its time too; type checkers believe the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Any

    _Dict = dict[str, Any]
else:
    _Dict = dict

#: Where the door is said to be; set in the sandbox of every client.
SOCKET_VARIABLE = "SYNDICATE_SOCKET"
#: Seconds that a call waits for its answer. A fault may have to wait for a machine's start.
TIMEOUT = 150.0
#: Pauses, in seconds, before a call is made again whose connection broke.
PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)
#: Connections of one client at once; the door serves 64.
MOST_CONNECTIONS = 32
#: Seconds without a word after which a stream of events is asked for anew; the door says
#: something every 15 s.
SILENCE = 45.0

#: Samples gather for so many seconds before they are sent, and so many go at once.
GATHER = 0.2
BATCH = 2000
#: Samples that are kept while the door is slow; then whoever measures has to wait.
MOST_SAMPLES = 100_000


class SyndicateError(Exception):
    """What was asked was not done; ``code`` says why in one stable word, ``message`` in a
    sentence, ``details`` for programs.
    """

    code = "error"

    def __init__(self, message: str, code: str | None = None, details: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.details: dict[str, Any] = details if isinstance(details, dict) else {}


class NoDoor(SyndicateError):
    """There is no door, or nobody answers behind it: this is no benchmark client of a job."""

    code = "no_door"


class Invalid(SyndicateError):
    """A call that cannot be understood; nothing was done."""

    code = "invalid"


class TooLarge(Invalid):
    """More than the door takes at once."""

    code = "too_large"


class NotFound(SyndicateError):
    """There is no such thing."""

    code = "not_found"


class NotYours(NotFound):
    """The machine is none of this client's job."""

    code = "not_yours"


class Forbidden(SyndicateError):
    """A client may not do this."""

    code = "forbidden"


class Revoked(Forbidden):
    """The attempt is over, this client has finished, or staff has taken its powers away."""

    code = "revoked"


class Conflict(SyndicateError):
    """It does not fit how things stand; look at the job again."""

    code = "conflict"


class AlreadyRunning(Conflict):
    """A machine that was to be revived runs."""

    code = "already_running"


class Unsupported(SyndicateError):
    """A fault that a machine of the job cannot do; ``c.job["unsupported"]`` says why."""

    code = "unsupported"


class Unavailable(SyndicateError):
    """Not now; try again later."""

    code = "unavailable"


class TooMany(Unavailable):
    """More calls in a second than the job allows its clients; ``details["retry_after"]`` says for
    how many seconds to wait.
    """

    code = "too_many"


class Timeout(SyndicateError):
    """No answer within the deadline; whether it was done is not known."""

    code = "timeout"


class Unknown(SyndicateError):
    """Whether it was done is not known: the answer was lost, with the manager or with a machine's
    volunteer. ``details["fault"]`` is what `Client.fault` can be asked by, later.
    """

    code = "unknown"


class SandboxFailed(SyndicateError):
    """The machine's host could not do it: no fault of the job's, nor of this client."""

    code = "sandbox_failed"


class Internal(SyndicateError):
    """A defect in Syndicate."""

    code = "internal"


def _tree(root: type[SyndicateError]) -> list[type[SyndicateError]]:
    return [root] + [found for child in root.__subclasses__() for found in _tree(child)]


_BY_CODE = {error.code: error for error in _tree(SyndicateError)}


def error_of(told: Any) -> SyndicateError:
    """The error that an answer tells of.

    :param told: what is under ``error`` in its body.
    """
    if not isinstance(told, dict) or not isinstance(told.get("code"), str):
        return Internal("The door answered with an error that is not one of ours.")
    code = told["code"]
    kind = _BY_CODE.get(code, SyndicateError)
    return kind(str(told.get("message", code)), code, told.get("details"))


class Machine(str):
    """A machine of the job: its name, with its ``role``, ``number`` and ``ip``."""

    role: str
    number: int
    ip: str

    @classmethod
    def of(cls, told: dict[str, Any]) -> Machine:
        """The machine that an answer tells of."""
        made = cls(told["name"])
        made.role, made.ip = told["role"], told["ip"]
        made.number = int("".join(filter(str.isdigit, made)) or 0)
        return made


class Fault(_Dict):
    """What became of a fault: the object of the answer; its keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def fault_body(machine: str | None, **values: Any) -> dict[str, Any]:
    """The body of a request for a fault, without what is None."""
    body = {key.rstrip("_"): value for key, value in values.items() if value is not None}
    if machine is not None:
        body["ip" if "." in machine or ":" in machine else "machine"] = str(machine)
    return body


def result_body(passed: bool, score: float | None, notes: str) -> dict[str, Any]:
    """The body of a finish, without what is not told."""
    body: dict[str, Any] = {"passed": passed}
    if score is not None:
        body["score"] = score
    if notes:
        body["notes"] = notes
    return body


def sample_line(op: str, ms: float, ok: bool, t: float | None) -> str:
    """A sample as it is sent.

    :raises ValueError: it is none that the door would take.
    """
    if not 0 < len(op) <= 100 or not op.isprintable():
        raise ValueError(f"an operation has a name of 1 to 100 printable characters, not {op!r}")
    if t is None:
        t = time.time() - ms / 1000
    if not (0 <= ms < 1e12 and abs(t) < 1e12):
        raise ValueError(f"{ms!r} ms at {t!r} is nothing that was measured")
    if '"' in op or "\\" in op:
        op = json.dumps(op, ensure_ascii=False)[1:-1]
    good = "true" if ok else "false"
    return f'{{"t": {t:.6f}, "op": "{op}", "ms": {ms:.4f}, "ok": {good}}}\n'


def socket_path(path: str | None, name: str = "http") -> str:
    """Where a socket of the door is.

    :param path: the directory of the door, or one of its sockets; None for what the environment
        says.
    :param name: of the socket that is wanted.
    :raises NoDoor: nobody says where.
    """
    path = path or os.environ.get(SOCKET_VARIABLE)
    if not path:
        raise NoDoor(
            f"{SOCKET_VARIABLE} is not set: only benchmark clients have a door, in their sandboxes."
        )
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    if name == "http" and directory != path:
        return path
    return os.path.join(directory, name)


class _Connection:
    """One connection to the door."""

    def __init__(self, path: str, timeout: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            self._file = self._socket.makefile("rb")
        except BaseException:
            self._socket.close()
            raise
        #: Whether another request may be made on it.
        self.kept = True

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, method: str, path: str, body: bytes, key: str) -> tuple[int, bytes]:
        """Make a request; gives the status and the body of the answer."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: door\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: {key}\r\n\r\n"
        )
        self._socket.sendall(head.encode("ascii") + body)
        status, headers = self._head()
        self.kept = headers.get(b"connection") != b"close"
        return status, self._body(headers)

    def follow(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The kinds and the data of server-sent events, until the stream ends.

        :raises SyndicateError: the door refuses.
        """
        # By the older HTTP an answer without a length ends with its connection, uncut.
        self._socket.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode("ascii"))
        status, headers = self._head()
        if status != 200:
            raise _refusal(status, self._body(headers))
        kind = ""
        for line in self._file:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        words = self._file.readline(65536).split(None, 2)
        if len(words) < 2 or not words[1].isdigit():
            raise ConnectionError("the door closed the connection")
        headers: dict[bytes, bytes] = {}
        while True:
            line = self._file.readline(65536)
            if not line.endswith(b"\n"):
                raise ConnectionError("the door closed the connection")
            name, _, value = line.partition(b":")
            if not value:
                return int(words[1]), headers
            headers[name.strip().lower()] = value.strip()

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        length = int(headers.get(b"content-length", b"0"))
        body = self._file.read(length)
        if len(body) < length:
            raise ConnectionError("the door closed the connection")
        return body


def _refusal(status: int, body: bytes) -> SyndicateError:
    try:
        return error_of(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return Internal(f"The door answered with status {status} and no word of ours.")


class Wire:
    """Requests to the door of one client, over connections that are kept.

    :param path: see `socket_path`.
    :param timeout: seconds that an answer may take.
    """

    def __init__(self, path: str | None = None, timeout: float = TIMEOUT) -> None:
        self.path = socket_path(path)
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def ask(
        self, method: str, path: str, body: bytes = b"", key: str | None = None
    ) -> tuple[int, bytes]:
        """Make a request; gives the status and the body of the answer, whatever they are.

        A request whose connection breaks is made again with the same key, by which the door knows
        that it is the same.

        :raises NoDoor: there is no answer to be had.
        :raises Timeout: it takes too long.
        """
        key = key or os.urandom(16).hex()
        with self._places:
            pauses = iter(PAUSES)
            while True:
                try:
                    return self._ask_once(method, path, body, key)
                except socket.timeout:
                    raise Timeout(
                        f"The door did not answer {path} within {self._timeout:g} s."
                    ) from None
                except OSError as error:
                    pause = next(pauses, None)
                    gone = isinstance(error, (FileNotFoundError, PermissionError))
                    if pause is None or gone:
                        raise NoDoor(
                            f"Nobody answers at {self.path}: {error.strerror or error}."
                        ) from error
                    time.sleep(pause)

    def post(self, path: str, value: Any, key: str | None = None) -> Any:
        """Send a value; gives that of the answer.

        :raises SyndicateError: the door refuses, or does not answer.
        """
        return self._value("POST", path, json.dumps(value).encode(), key)

    def get(self, path: str) -> Any:
        """The value at a path.

        :raises SyndicateError: the door refuses, or does not answer.
        """
        return self._value("GET", path, b"", None)

    def _value(self, method: str, path: str, body: bytes, key: str | None) -> Any:
        status, answer = self.ask(method, path, body, key)
        if status != 200:
            raise _refusal(status, answer)
        return json.loads(answer)

    def _ask_once(self, method: str, path: str, body: bytes, key: str) -> tuple[int, bytes]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(self.path, self._timeout)
        try:
            answer = connection.ask(method, path, body, key)
        except BaseException:
            connection.close()
            raise
        if connection.kept:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def follow(self, after: int) -> Iterator[dict[str, Any]]:
        """The job's events above a number, as they happen, until there can be no more.

        :raises SyndicateError: the door refuses, or does not answer.
        """
        pauses = iter(PAUSES)
        while True:
            try:
                connection = _Connection(self.path, SILENCE)
                with contextlib.closing(connection):
                    for kind, data in connection.follow(f"/v1/events?after={after}"):
                        if kind == "end":
                            return
                        after, pauses = data["n"], iter(PAUSES)
                        yield data
            except OSError as error:
                problem: object = error
            else:
                problem = "the stream broke off"
            pause = next(pauses, None)
            if pause is None:
                raise NoDoor(f"Nobody answers at {self.path}: {problem}.")
            time.sleep(pause)

    def forget(self) -> None:
        """Close what is idle; in a child process the parent's connections are not ours."""
        while self._idle:
            self._idle.pop().close()
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)


class Sampler:
    """Gathers samples and sends them in batches, from a thread of its own.

    :param send: brings a batch to the door, under a key.
    """

    def __init__(self, send: Callable[[bytes, str], object]) -> None:
        self._send = send
        self.forget()

    def forget(self) -> None:
        """Begin anew; in a child process the parent's samples are not ours."""
        # Appending and popping need no lock.
        self._lines: deque[str] = deque()
        self._unsent: list[tuple[bytes, str]] = []
        self._sending = threading.Lock()
        self._worker: tuple[threading.Thread, threading.Event] | None = None
        self._problem: SyndicateError | None = None

    def add(self, line: str) -> None:
        """Take a sample; waits while too many wait already."""
        self._lines.append(line)
        if self._worker is None:
            self._start()
        elif len(self._lines) > MOST_SAMPLES:
            self.flush()

    def flush(self) -> None:
        """Send what there is.

        :raises SyndicateError: it, or something earlier, could not be sent.
        """
        self._send_all()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def close(self) -> None:
        """Send what there is, and end the thread; a later sample starts another.

        :raises SyndicateError: it, or something earlier, could not be sent.
        """
        with self._sending:
            worker, self._worker = self._worker, None
        if worker is not None:
            thread, stop = worker
            stop.set()
            thread.join()
        self.flush()

    def _start(self) -> None:
        with self._sending:
            if self._worker is None:
                stop = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(stop,), name="syndicate-samples", daemon=True
                )
                thread.start()
                self._worker = thread, stop

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(GATHER):
            # What fails here is told by the next `flush`, which every client comes to.
            with contextlib.suppress(SyndicateError):
                self._send_all()

    def _send_all(self) -> None:
        with self._sending:
            while self._unsent or self._lines:
                if not self._unsent:
                    count = min(len(self._lines), BATCH)
                    batch = "".join(self._lines.popleft() for _ in range(count))
                    self._unsent.append((batch.encode(), os.urandom(16).hex()))
                try:
                    self._send(*self._unsent[0])
                except (NoDoor, Timeout, Unavailable):
                    raise  # and again the same batch, by the same key
                except SyndicateError as error:
                    self._problem = error
                del self._unsent[0]


class Timed:
    """Measures a block of code: a sample with the time it took, ``ok`` unless it raises or sets
    ``ok`` to False.
    """

    __slots__ = ("_began", "_op", "_sample", "_t", "ok")

    def __init__(self, sample: Callable[..., None], op: str) -> None:
        self._sample, self._op, self.ok = sample, op, True

    def __enter__(self) -> Timed:
        self._t, self._began = time.time(), time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ms = (time.perf_counter() - self._began) * 1000
        self._sample(self._op, ms, ok=self.ok and kind is None, t=self._t)


class Client:
    """One benchmark client's power over its own job; made by `connect`.

    Machines are named by what `slaves` and its like hold, by name (``slave[0]``, ``slave0``), or
    by address. ``for_`` is how long a fault lasts, such as ``"10s"`` or a number of seconds, until
    it heals by itself; without it, it lasts until it is undone or the attempt ends.

    A fault call returns when the fault is in force and was verified, with a `Fault`.
    """

    def __init__(self, path: str | None = None, timeout: float = TIMEOUT) -> None:
        self._wire = Wire(path, timeout)
        self._samples = Sampler(self._send_samples)
        told = self.job
        #: This client, as ``client[0]``; the seed of the job, for what should be repeatable.
        self.me: str = told["me"]
        self.seed: int = told["seed"]
        self._machines = [Machine.of(machine) for machine in told["machines"]]
        _clients.add(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # What there is.

    @property
    def job(self) -> dict[str, Any]:
        """The job as it stands now: ``job``, ``attempt``, ``seed``, ``me``, ``machines`` (for
        each ``name``, ``role``, ``ip``, ``up``, ``cut``), ``supported`` and ``unsupported``.
        """
        found: dict[str, Any] = self._wire.get("/v1/job")
        return found

    @property
    def master(self) -> Machine:
        """The master."""
        return self._of("master")[0]

    @property
    def slaves(self) -> list[Machine]:
        """The slaves, in order."""
        return self._of("slave")

    @property
    def clients(self) -> list[Machine]:
        """The benchmark clients, in order; this one is among them."""
        return self._of("client")

    def _of(self, role: str) -> list[Machine]:
        return [machine for machine in self._machines if machine.role == role]

    @property
    def faults(self) -> list[Fault]:
        """All faults of the attempt."""
        return [Fault(fault) for fault in self._wire.get("/v1/faults")["faults"]]

    def fault(self, which: Fault | str) -> Fault:
        """What became of one fault: by its id, such as ``f3``, or by what the error of a call
        whose answer was lost, `Unknown`, has in ``details["fault"]``.

        :raises NotFound: the job has none such: it was never asked for.
        """
        name = which["id"] if isinstance(which, Fault) else which
        return Fault(self._wire.get("/v1/faults/" + str(name)))

    def events(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The job's events, those that were and those to come; ends with the job.

        :param after: the number ``n`` of an event; those above it are wanted.
        """
        return self._wire.follow(after)

    # Faults.

    def _fault(self, kind: str, machine: str | None, **values: Any) -> Fault:
        return Fault(self._wire.post("/v1/faults/" + kind, fault_body(machine, **values)))

    def kill(self, machine: str, *, for_: str | float | None = None) -> Fault:
        """Kill every process of a machine; with ``for_`` it is revived then, its disk kept."""
        return self._fault("kill", machine, for_=for_)

    def revive(self, machine: str, *, with_disk: bool = True) -> Fault:
        """Start a killed machine's target again.

        :param with_disk: False empties its disk before: it is as the tarball made it.
        :raises AlreadyRunning: it runs.
        """
        return self._fault("revive", machine, with_disk=with_disk)

    def disconnect(self, machine: str, *, for_: str | float | None = None) -> Fault:
        """Cut a machine off from every master and slave, both ways."""
        return self._fault("disconnect", machine, for_=for_)

    def reconnect(self, machine: str) -> Fault:
        """Undo `disconnect`."""
        return self._fault("reconnect", machine)

    def pause(self, machine: str, *, for_: str | float | None = None) -> Fault:
        """Freeze every process of a machine."""
        return self._fault("pause", machine, for_=for_)

    def resume(self, machine: str) -> Fault:
        """Undo `pause`."""
        return self._fault("resume", machine)

    def partition(
        self,
        *groups: str | Sequence[str],
        shape: str = "split",
        one_way: bool = False,
        for_: str | float | None = None,
    ) -> Fault:
        """Let machines of different groups not reach each other.

        :param groups: each a machine or several.
        :param shape: ``split``; ``bridge``, where the third group is one machine that still
            reaches the other two; ``ring``, where each of one group reaches its two neighbours.
        :param one_way: only what earlier groups send to later ones is lost.
        """
        named = [[str(g)] if isinstance(g, str) else [str(m) for m in g] for g in groups]
        values = {"groups": named, "shape": shape, "one_way": one_way}
        return self._fault("partition", None, for_=for_, **values)

    def loss(self, machine: str, percent: float, *, for_: str | float | None = None) -> Fault:
        """Lose some percent of the packets that a machine sends."""
        return self._fault("loss", machine, percent=percent, for_=for_)

    def rate(self, machine: str, rate: str | float, *, for_: str | float | None = None) -> Fault:
        """Let a machine send only so many bytes per second, such as ``"100K"``."""
        return self._fault("rate", machine, rate=rate, for_=for_)

    def delay(self, machine: str, delay: str | float, *, for_: str | float | None = None) -> Fault:
        """Hold back what a machine sends, for such as ``"50ms"`` or a number of seconds."""
        return self._fault("delay", machine, delay=delay, for_=for_)

    def heal(self, fault: Fault | str | None = None) -> dict[str, Any]:
        """Undo one fault, or all: cuts are lifted, the paused go on, the killed are revived with
        their disks.

        :returns: ``{"healed": ["f3", …]}``.
        """
        if fault is None:
            path = "/v1/heal"
        else:
            path = f"/v1/faults/{fault['id'] if isinstance(fault, dict) else fault}/heal"
        healed: dict[str, Any] = self._wire.post(path, {})
        return healed

    # Faults for the time of a block.

    @contextlib.contextmanager
    def killed(self, machine: str, *, with_disk: bool = True) -> Iterator[Fault]:
        """A machine is dead within the block, and revived at its end."""
        fault = self.kill(machine)
        try:
            yield fault
        finally:
            with contextlib.suppress(AlreadyRunning):
                self.revive(machine, with_disk=with_disk)

    @contextlib.contextmanager
    def disconnected(self, machine: str) -> Iterator[Fault]:
        """A machine is cut off within the block."""
        fault = self.disconnect(machine)
        try:
            yield fault
        finally:
            self.reconnect(machine)

    @contextlib.contextmanager
    def paused(self, machine: str) -> Iterator[Fault]:
        """A machine is frozen within the block."""
        fault = self.pause(machine)
        try:
            yield fault
        finally:
            self.resume(machine)

    @contextlib.contextmanager
    def _healed(self, fault: Fault) -> Iterator[Fault]:
        try:
            yield fault
        finally:
            self.heal(fault)

    @contextlib.contextmanager
    def partitioned(
        self, *groups: str | Sequence[str], shape: str = "split", one_way: bool = False
    ) -> Iterator[Fault]:
        """The machines are partitioned within the block; see `partition`."""
        with self._healed(self.partition(*groups, shape=shape, one_way=one_way)) as fault:
            yield fault

    @contextlib.contextmanager
    def lossy(self, machine: str, percent: float) -> Iterator[Fault]:
        """A machine loses packets within the block; see `loss`."""
        with self._healed(self.loss(machine, percent)) as fault:
            yield fault

    @contextlib.contextmanager
    def throttled(self, machine: str, rate: str | float) -> Iterator[Fault]:
        """A machine sends slowly within the block; see `rate`."""
        with self._healed(self.rate(machine, rate)) as fault:
            yield fault

    @contextlib.contextmanager
    def delayed(self, machine: str, delay: str | float) -> Iterator[Fault]:
        """A machine sends late within the block; see `delay`."""
        with self._healed(self.delay(machine, delay)) as fault:
            yield fault

    # What was seen.

    def timed(self, op: str) -> Timed:
        """Measure a block: ``with c.timed("put") as it: it.ok = put("k", 1)``."""
        return Timed(self.sample, op)

    def sample(self, op: str, ms: float, *, ok: bool = True, t: float | None = None) -> None:
        """Note one measurement; it is sent soon, with others.

        :param op: what was done, in a word.
        :param ms: how long it took, in milliseconds.
        :param t: when it began, in seconds since the epoch; without it, it has ended just now.
        """
        self._samples.add(sample_line(op, ms, ok, t))

    def flush(self) -> None:
        """Send the samples that were noted so far."""
        self._samples.flush()

    def _send_samples(self, lines: bytes, key: str) -> None:
        status, answer = self._wire.ask("POST", "/v1/samples", lines, key)
        if status != 200:
            raise _refusal(status, answer)

    def mark(self, name: str) -> dict[str, Any]:
        """Note a moment, such as the begin of a phase, among the job's events."""
        marked: dict[str, Any] = self._wire.post("/v1/marks", {"name": name})
        return marked

    def finish(
        self, passed: bool = True, score: float | None = None, notes: str = ""
    ) -> dict[str, Any]:
        """The client is done. Samples are sent before; the first finish of a client counts."""
        self._samples.close()
        told = result_body(passed, score, notes)
        finished: dict[str, Any] = self._wire.post("/v1/finish", told)
        return finished

    def close(self) -> None:
        """Send the samples that are left, and close the connections; a later call opens others."""
        try:
            self._samples.close()
        finally:
            self._wire.forget()

    def _forked(self) -> None:
        self._samples.forget()
        self._wire.forget()


def connect(path: str | None = None, timeout: float = TIMEOUT) -> Client:
    """Knock on the door of this client.

    :param path: the door's directory or its socket; None for what ``SYNDICATE_SOCKET`` says.
    :param timeout: seconds that an answer may take.
    :raises NoDoor: this is no benchmark client, or there is nobody behind the door.
    """
    return Client(path, timeout)


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _at_exit() -> None:
    for client in list(_clients):
        try:
            client.close()
        except SyndicateError as error:
            sys.stderr.write(f"syndicate: samples were not sent: {error}\n")


def _after_fork() -> None:
    for client in list(_clients):
        client._forked()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
