"""Fuzzes both sockets of a client's door, on a volunteer of a lab of real daemons; needs root.

``python -m tests.fuzz.doors --minutes 15 --seed 1``: a job runs, and whoever can open its client's
sockets says what `tests.fuzz.campaign` throws at daemons. What comes is relayed to the manager,
and some of it hurts the job, as it may. The job is submitted again once it is over.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs

from syndicate.lab import Lab
from tests.fuzz import calls, campaign, framing, grammar, lines
from tests.fuzz.attacked import CANARY, DEADLINE
from tests.fuzz.framing import replies
from tests.fuzz.lines import ENDINGS, Line
from tests.fuzz.options import begin
from tests.fuzz.pb_daemon import judge
from tests.fuzz.watch import Watch
from tests.support.banana import GREETING, call
from tests.support.labs import Running, eventually

#: Connections of a batch, and of a crowd: fewer than a door serves at once.
SIZE = 150
CROWD = 40

#: What a client may ask for by HTTP, and bodies that are right; its Finish would end the job.
ASKED: dict[str, Any] = {
    "GET /v1/job": None,
    "GET /v1/faults": None,
    "GET /v1/faults?after=1": None,
    "GET /v1/faults/f1": None,
    "GET /v1/events": None,
    "GET /v1/events?after=3": None,
    "POST /v1/samples": {"kind": "x", "t": 1.5, "ok": True, "ms": 2},
    "POST /v1/marks": {"name": "here"},
    "POST /v1/heal": {"id": "f1"},
    "POST /v1/faults/kill": {"machine": "master", "with_disk": False},
    "POST /v1/faults/revive": {"machine": "master"},
    "POST /v1/faults/pause": {"machine": "master", "for": "1s"},
    "POST /v1/faults/resume": {"machine": "master"},
    "POST /v1/faults/disconnect": {"machine": "master"},
    "POST /v1/faults/partition": {"groups": [["master"], ["client[0]"]]},
    "POST /v1/faults/f1/heal": {},
}


@attrs.define(eq=False)
class Doors:
    """A lab with a job, and the door of its client."""

    running: Running
    watches: list[Watch] = attrs.field(init=False)
    job: int = 0
    place: Path = Path()
    #: Jobs that have run so far.
    jobs: int = 0

    def __attrs_post_init__(self) -> None:
        lab = self.running.lab

        def watch(name: str) -> Watch:
            state = lab.directory / name / "state"
            return Watch(name, lambda: int(lab.hosts[name].pid or 0), lab.log(name), state / "logs")

        self.watches = [watch(name) for name in lab.hosts]

    def submit(self) -> None:
        """Have a job run whose door is there."""
        source = self.running.source("master slave client:\n\t@exec sleep 100000\n")
        words = ("--client", str(source), "--set", "limits.wall=10h")
        self.job, self.jobs = self.running.submit(source, 1, *words), self.jobs + 1
        found = f"doors/{self.job}.*/http"
        self.place = eventually(lambda: list(self.running.lab.directory.rglob(found)))[0].parent
        eventually(lambda: self.running.job(self.job)["state"] == "running")

    def http(self) -> Line:
        """A connection to one of the sockets."""
        return Line(lines.unix(self.place / "http"))

    def pb(self) -> Line:
        """A connection to the other one."""
        return Line(lines.unix(self.place / "pb"))

    def check(self) -> Iterator[str]:
        """What is wrong with the daemons now."""
        for watch in self.watches:
            yield from watch.said()
        try:
            if self.running.job(self.job)["state"] != "running":
                eventually(self.running.all_free)
                self.submit()
            self._serves()
            states = {name: v["state"] for name, v in self.running.volunteers().items()}
            assert set(states.values()) <= {"free", "busy"}, states
        except Exception as error:  # noqa: BLE001  (whatever keeps it from serving others)
            yield f"they do not serve others: {error!r}"

    def _serves(self) -> None:
        def http() -> bool:
            line = self.http()
            line.say(b"GET /v1/job HTTP/1.1\r\nHost: x\r\n\r\n")
            said = line.hear(lambda heard: bool(replies(heard, ["GET"])), DEADLINE)
            line.end()
            return said.startswith(b"HTTP/1.1 200")

        def pb() -> bool:
            line = self.pb()
            line.say(GREETING + call(b"job", [b"None"]))
            said = line.hear(lambda heard: b'"job"' in heard, DEADLINE)
            line.end()
            return b'"job"' in said

        # Calls beyond the rate are refused for a while.
        eventually(http, DEADLINE)
        eventually(pb, DEADLINE)

    def holds(self) -> Iterator[str]:
        """What was smuggled in."""
        events = self.running.get(f"/v1/jobs/{self.job}/events")["events"]
        if any(CANARY in str(event) for event in events):
            yield "a request was smuggled in"

    def rest(self) -> None:
        """Nothing of it is held."""

    def restart(self) -> Iterator[str]:
        """The job's end, at which its volunteers must be clean."""
        self.running.run("cancel", str(self.job))
        self.running.wait(self.job)
        with contextlib.suppress(AssertionError):
            eventually(self.running.all_free)
        if not self.running.all_free():
            yield f"not all volunteers are free: {self.running.volunteers()}"
        for watch in self.watches:
            yield from watch.said()

    def held(self) -> str:
        """What there was; faults and events of a job are held by the manager, and are no leak."""
        job = f"/v1/jobs/{self.job}"
        faults = len(self.running.get(f"{job}/faults")["faults"])
        events = len(self.running.get(f"{job}/events")["events"])
        return f"{self.jobs} jobs; the last one had {faults} faults and {events} events"


@attrs.frozen
class Said:
    """Bytes on a connection to a door."""

    doors: Doors
    random: Random
    #: ``pb``, or ``http``.
    socket: str
    data: bytes

    @property
    def record(self) -> str:
        """See `tests.fuzz.campaign.Attempt`."""
        return json.dumps({"target": self.socket, "data": self.data.hex()})

    def __call__(self) -> str:
        """Say it."""
        line = self.doors.pb() if self.socket == "pb" else self.doors.http()
        line.say(self.data, self.random)
        if self.socket == "pb":
            line.hear()
        else:
            line.hear(lambda heard: bool(_answers(heard)))
        parted = line.over
        line.end(self.random.choice(ENDINGS))
        said = bytes(line.heard)
        if self.socket == "pb":
            return f"pb: {judge(said, parted)}"
        assert b"Traceback" not in said, said
        found = [reply.status for reply in _answers(said)]
        assert 500 not in found, said
        return f"http: {found[0] if found else 'nothing whole'}"


def _answers(said: bytes) -> list[framing.Reply]:
    try:
        return replies(said, ["GET"])
    except (http.client.HTTPException, ValueError):
        if said.startswith(b"HTTP/1."):  # the answer to another method than was meant
            return []
        raise


def batch(doors: Doors, seed: int, number: int) -> list[Said]:
    """What is said in a batch."""
    likes = {name: like for name, like in calls.CLIENT.items() if name != b"finish"}
    made = []
    for which in range(SIZE):
        random = Random(f"{seed}/{number}/{which}")
        if random.random() < 0.5:
            data, name = grammar.conversation(random, (b"root",), likes), "pb"
        else:
            data, name = _requests(random), "http"
        made.append(Said(doors, random, name, data))
    return made


def _requests(random: Random) -> bytes:
    chance = random.random()
    if chance < 0.15:
        hidden = framing.post("/v1/marks", {"name": CANARY})
        return framing.smuggled(random, hidden, list(ASKED))
    if chance < 0.3:
        return framing.huge(random)
    data = b"".join(_request(random) for _ in range(random.choice((1, 1, 2, 5))))
    return grammar.spoilt(random, data) if chance < 0.5 else data


def _request(random: Random) -> bytes:
    start = random.choice(list(ASKED))
    if random.random() < 0.1:
        start = start.replace(
            random.choice(("GET", "/v1", "1", "f")), random.choice(("PUT", "", "x"))
        )
    body = b"" if ASKED.get(start) is None else grammar.message(random, ASKED[start])
    head = f"{start} HTTP/1.1\r\nHost: x\r\n"
    if random.random() < 0.2:
        head += random.choice(HEADERS) + "\r\n"
    made = f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    return framing.chunked(random, made) if random.random() < 0.1 else made


HEADERS: Sequence[str] = (
    *("Idempotency-Key: k", "Idempotency-Key: \xff", "Idempotency-Key: " + "k" * 5000),
    *("Last-Event-ID: 1", "Last-Event-ID: -1", "Last-Event-ID: \xb2", "Last-Event-ID: " + "9" * 15),
    *("Accept: text/event-stream", "Expect: 100-continue", "Host: \xbf", "Connection: close"),
)


def main() -> int:
    """Fuzz until the time is over; the exit code tells whether anything was found."""
    options = begin(__doc__)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        Path(directory).chmod(0o755)
        lab = Lab("fuzz", Path(directory) / "state")
        lab.up(2)
        stack.callback(lab.down)
        doors = Doors(Running(lab, Path(directory)))
        doors.submit()

        def connect(random: Random) -> Line:
            line = random.choice((doors.http, doors.pb))()
            line.say(random.choice((b"", GREETING, b"GET /v1/events HTTP/1.1\r\n\r\n", b"GET")))
            return line

        def tried(seed: int, number: int) -> list[Said]:
            return batch(doors, seed, number)

        return campaign.fuzz(options, doors, tried, connect, lambda random: doors.http(), CROWD)


if __name__ == "__main__":
    sys.exit(main())
