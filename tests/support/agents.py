"""The other end of ``tests/system/jobs/probe``: machines of jobs that do what a test tells them."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.support.labs import JOBS, Running

_TALKER = Path(__file__).parent / "talker.py"

#: Job and machine.
Who = tuple[int, str]


@attrs.frozen
class Came:
    """One message of a probe that arrived."""

    way: str
    source: str
    target: str
    #: When the round of sending began that it was part of, and when it was read, by the
    #: monotonic clock of this machine.
    sent: float
    came: float


@attrs.define(eq=False)
class Log:
    """What the probes of one job told."""

    #: Names of the machines, by the numbers that messages bear.
    names: list[str] = attrs.field(factory=list)
    came: list[Came] = attrs.field(factory=list)
    #: When the rounds of each machine ended, by when they began.
    rounds: dict[str, dict[float, float]] = attrs.field(factory=dict)
    #: When the last message of each way, source and target was sent.
    last: dict[tuple[str, str, str], float] = attrs.field(factory=dict)

    def take(self, who: str, told: dict[str, Any]) -> None:
        """One round of a machine."""
        began, ended = told["sent"]
        self.rounds.setdefault(who, {})[began] = ended
        for way, number, sent, came in told["came"]:
            one = Came(way, self.names[number], who, sent, came)
            self.came.append(one)
            key = way, one.source, who
            self.last[key] = max(sent, self.last.get(key, 0.0))

    def forget(self) -> None:
        """Begin anew."""
        self.came, self.rounds = [], {}


@attrs.define(eq=False)
class _Agent:
    socket: socket.socket
    who: Who
    gone: bool = False


class Hub:
    """Where the agents of all jobs of a lab report to."""

    def __init__(self, address: str) -> None:
        self._listener = socket.create_server((address, 0))
        self.where = f"{address}:{self._listener.getsockname()[1]}"
        self._changed = threading.Condition()
        self._agents: dict[Who, _Agent] = {}
        self._answers: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._probing: dict[int, tuple[dict[str, str], float]] = {}
        self.logs: dict[int, Log] = {}
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def _begin(self, doing: Any, *words: Any) -> None:
        thread = threading.Thread(target=doing, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Hear no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for agent in self._agents.values():
                agent.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self._begin(self._listen, accepted)

    def _listen(self, accepted: socket.socket) -> None:
        agent: _Agent | None = None
        try:
            with accepted, accepted.makefile("rb") as lines:
                for line in lines:
                    told = json.loads(line)
                    with self._changed:
                        if "hello" in told:
                            agent = _Agent(accepted, (told["job"], told["hello"]))
                        elif "n" in told:
                            self._answers[told["n"]] = told["answer"]
                        elif agent is not None:
                            self.logs[agent.who[0]].take(agent.who[1], told)
                        self._changed.notify_all()
                    if agent is not None and "hello" in told:
                        self._welcome(agent)
        except (OSError, ValueError):
            pass
        finally:
            with self._changed:
                if agent is not None:
                    agent.gone = True
                    if self._agents.get(agent.who) is agent:
                        del self._agents[agent.who]
                self._changed.notify_all()

    def _welcome(self, agent: _Agent) -> None:
        """Whoever comes back goes on with what he did."""
        with self._changed:
            self._agents[agent.who] = agent
            job, name = agent.who
            if job in self._probing:
                self._send(agent, "probe", self._words(job, name))
            self._changed.notify_all()

    def _words(self, job: int, name: str) -> dict[str, Any]:
        where, rate = self._probing[job]
        names = self.logs[job].names
        peers = {str(names.index(n)): address for n, address in where.items() if n != name}
        return {"me": names.index(name), "peers": peers, "rate": rate}

    def _send(self, agent: _Agent, verb: str, words: dict[str, Any]) -> int:
        number = next(self._numbers)
        agent.socket.sendall(json.dumps([number, verb, words]).encode() + b"\n")
        return number

    def probe(self, job: int, where: dict[str, str], rate: float) -> Log:
        """Have all machines of a job send to each other from now on, when they are revived too.

        :param where: addresses by name.
        """
        with self._changed:
            self.logs[job] = Log(list(where))
            self._probing[job] = (where, rate)
            for name in where:
                self._send(self._agents[job, name], "probe", self._words(job, name))
        return self.logs[job]

    def there(self, job: int, names: Iterable[str], seconds: float = 30.0) -> None:
        """Wait until these machines are there."""
        wanted = {(job, name) for name in names}
        self._until(lambda: wanted <= self._agents.keys(), seconds, f"not all of {wanted} came")

    def knows(self, job: int, name: str) -> bool:
        """Whether a machine is connected now."""
        return (job, name) in self._agents

    def begin(self, job: int, name: str, verb: str, **words: Any) -> tuple[int, _Agent]:
        """Ask, and do not wait."""
        with self._changed:
            agent = self._agents[job, name]
            return self._send(agent, verb, words), agent

    def end(self, asked: tuple[int, _Agent], seconds: float = 60.0) -> Any:
        """The answer to what was asked; None when the machine has gone instead."""
        number, agent = asked
        told = f"{agent.who} does not answer"
        self._until(lambda: number in self._answers or agent.gone, seconds, told)
        return self._answers.pop(number, None)

    def ask(self, job: int, name: str, verb: str, **words: Any) -> Any:
        """Ask a machine, and wait for its answer."""
        return self.end(self.begin(job, name, verb, **words))

    def _until(self, true: Any, seconds: float, otherwise: str) -> None:
        with self._changed:
            assert self._changed.wait_for(true, seconds), otherwise

    def flowing(
        self, job: int, wanted: set[tuple[str, str, str]], since: float, seconds: float
    ) -> set[tuple[str, str, str]]:
        """Wait until by each way, source and target something came that was sent since a moment;
        gives those by which nothing did.
        """
        log, deadline = self.logs[job], time.monotonic() + seconds
        missing = wanted
        with self._changed:
            while missing := {key for key in missing if log.last.get(key, 0.0) < since}:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        return missing

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing new is noted within."""
        with self._changed:
            yield


@attrs.frozen
class AgentJob:
    """A job of agents that runs."""

    hub: Hub
    number: int
    #: Addresses and volunteers by machine.
    where: dict[str, str]
    hosts: dict[str, str]

    @property
    def machines(self) -> list[str]:
        """Master and slaves."""
        return [name for name in self.where if not name.startswith("client")]

    def ask(self, name: str, verb: str, **words: Any) -> Any:
        """Have a machine do something."""
        return self.hub.ask(self.number, name, verb, **words)

    def call(self, call: str, *words: Any, by: str = "client[0]", **more: Any) -> Any:
        """A call of a client's, from inside its sandbox; refused is answered with ``error``."""
        return self.ask(by, "fault", call=call, words=list(words), more=more)

    def there(self, *names: str) -> None:
        """Wait for machines, or for all."""
        self.hub.there(self.number, names or self.where)


def source(directory: Path) -> Path:
    """The agents' source, for masters, slaves and clients."""
    made = directory / "agents"
    if not made.exists():
        shutil.copytree(JOBS / "probe", made)
        shutil.copy(_TALKER, made)
    return made


def start(lab: Running, hub: Hub, machines: int, clients: int, *words: str) -> AgentJob:
    """Run a job of agents."""
    made = source(lab.directory)
    more = ("--client", str(made), "--clients", str(clients)) if clients else ()
    number = lab.submit(made, machines, "--set", f"env.HUB={hub.where}", *more, *words)
    lab.wait(number, "running")
    return found(lab, hub, number)


def found(lab: Running, hub: Hub, number: int) -> AgentJob:
    """A job of agents that runs already, once all its machines are there."""
    told = lab.job(number)["machines"]
    job = AgentJob(
        hub,
        number,
        {machine["machine"]: machine["address"] for machine in told},
        {machine["machine"]: machine["volunteer"] for machine in told},
    )
    job.there()
    return job
