"""A job with clients by hand: each machine a process with an address of its own on loopback, and
a door for the clients that really kills, revives, wipes and cuts.

It knows nothing of Syndicate but the JSON that a client's door speaks, so that an example is
proved by itself. A slave reaches its master through a cable, which can be cut: what is sent then
is held back, as the network would do that drops it and has it sent again after the heal.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.support.by_hand_door import open_doors
from tests.support.traces import MARK

Record = dict[str, Any]

#: The port of the master; addresses differ, so it may be the same in all runs.
PORT, MEETING = 7001, 7002


@attrs.define
class Cable:
    """Passes on what comes to one address to the same port of another, unless it is cut."""

    near: str
    far: str
    port: int
    _cut: bool = False
    _closed: bool = False
    _listener: socket.socket = attrs.field(init=False)
    _threads: list[threading.Thread] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._listener = socket.create_server((self.near, self.port), backlog=64)
        self._listener.settimeout(0.05)
        self._begin(self._let_in)

    def set_cut(self, cut: bool) -> None:
        """From the return on nothing passes; or all does again."""
        self._cut = cut

    def close(self) -> None:
        """End all that passes."""
        self._closed = True
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _begin(self, target: Any, *words: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=words, daemon=True))
        self._threads[-1].start()

    def _let_in(self) -> None:
        while not self._closed:
            if self._cut:
                time.sleep(0.005)
                continue
            with contextlib.suppress(TimeoutError):
                near, _ = self._listener.accept()
                self._begin(self._pass_on, near)

    def _pass_on(self, near: socket.socket) -> None:
        # Whatever breaks on one side ends both: that is what a cable has to say of errors.
        with near, contextlib.suppress(OSError):
            far = socket.create_connection((self.far, self.port), 1.0)
            with far:
                self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        other = {near: far, far: near}
        while not self._closed:
            for end in select.select([near, far], [], [], 0.05)[0]:
                data = end.recv(1 << 16)
                while self._cut and not self._closed:
                    time.sleep(0.005)
                if not data:
                    return
                other[end].sendall(data)


@attrs.define
class Machine:
    """One machine: a copy of its source, and the target that runs there."""

    name: str
    address: str
    source: Path
    disk: Path
    words: Sequence[str]
    environment: Mapping[str, str]
    #: All that its target has printed, over all its starts.
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def up(self) -> bool:
        """Whether its target runs."""
        return self.process is not None and self.process.poll() is None

    def wipe(self) -> None:
        """Make its disk what the source is."""
        shutil.rmtree(self.disk, ignore_errors=True)
        shutil.copytree(self.source, self.disk)

    def start(self) -> None:
        """Run its target."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["make", *self.words],
                cwd=self.disk,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End every process of it; returns when they are dead."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@attrs.define
class Job:
    """Master, slaves and clients, and the power over them that a door gives to the clients."""

    machines: dict[str, Machine]
    _cables: dict[str, Cable]
    #: What each client said with Finish.
    results: dict[str, Record] = attrs.field(factory=dict)
    samples: list[Record] = attrs.field(factory=list)
    marks: list[str] = attrs.field(factory=list)
    faults: list[Record] = attrs.field(factory=list)
    _cut: set[str] = attrs.field(factory=set)
    _lock: threading.RLock = attrs.field(factory=threading.RLock)

    def describe(self, me: str) -> Record:
        """What ``GET /v1/job`` says."""
        machines = [
            {
                "name": machine.name,
                "role": machine.name.partition("[")[0],
                "ip": machine.address,
                "up": machine.up,
                "cut": machine.name in self._cut,
            }
            for machine in self.machines.values()
        ]
        return {"job": 1, "attempt": 1, "seed": 7, "me": me, "machines": machines}

    def fault(self, kind: str, asked: Record, by: str) -> Record:
        """Do one fault; it is in force on return."""
        name = asked.get("machine") or asked["ip"]
        machine = next(m for m in self.machines.values() if name in (m.name, m.address))
        with self._lock:
            requested = time.time()
            match kind:
                case "kill":
                    machine.kill()
                case "revive":
                    if not asked.get("with_disk", True):
                        machine.wipe()
                    machine.start()
                case "disconnect" | "reconnect":
                    self._set_cut(machine.name, kind == "disconnect")
            record = {
                "id": f"f{len(self.faults) + 1}",
                "kind": kind,
                "machines": [machine.name],
                "state": "verified",
                "by": by,
                "requested_at": requested,
                "applied_at": time.time(),
                "verified_at": time.time(),
            }
            self.faults.append(record)
            return record

    def _set_cut(self, name: str, cut: bool) -> None:
        (self._cut.add if cut else self._cut.discard)(name)
        for slave, cable in self._cables.items():
            cable.set_cut(bool(self._cut & {slave, "master"}))

    def wait(self, patience: float) -> None:
        """Wait until each client has said Finish, or its process has ended."""
        deadline = time.monotonic() + patience
        clients = [m for m in self.machines.values() if m.name.startswith("client")]
        while any(m.up and m.name not in self.results for m in clients):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all clients were done in {patience:g} s: {self.results}")
            self.pause()

    def pause(self) -> None:
        """Let a moment pass."""
        time.sleep(0.02)

    def logs(self) -> str:
        """All that was printed, machine by machine."""
        return "\n".join(
            f"--- {machine.name}\n{machine.log.read_text(errors='replace')}"
            for machine in self.machines.values()
            if machine.log.exists()
        )


@attrs.frozen
class Plan:
    """What a job by hand is made of.

    :param place: an empty directory for the machines' disks and logs.
    :param library: a directory with the modules that clients find in their sandboxes.
    :param words: more words for ``make`` of master and slaves; `client_words` for that of clients.
    """

    place: Path
    source: Path
    client: Path
    library: Path
    machines: int = 3
    clients: int = 2
    words: tuple[str, ...] = ()
    client_words: tuple[str, ...] = ()

    def addresses(self) -> dict[str, str]:
        """All machines with their addresses: of this process alone, so that two runs of the
        tests may be side by side.
        """
        names = ["master", *(f"slave[{n}]" for n in range(self.machines - 1))]
        names += [f"client[{n}]" for n in range(self.clients)]
        mine = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}"
        return {name: f"{mine}.{10 + number}" for number, name in enumerate(names)}

    def machine(self, name: str, addresses: Mapping[str, str], master: str) -> Machine:
        """One machine, with nothing on its disk yet.

        :param master: the address by which it reaches the master.
        """
        client = name.startswith("client")
        slaves = ",".join(addresses[each] for each in addresses if each.startswith("slave"))
        role = name.partition("[")[0]
        own: dict[str, list[str]] = {
            "master": [*self.words, f"LISTEN={addresses[name]}"],
            "slave": [*self.words, f"MASTER={master}"],
            "client": [
                *self.client_words,
                *(f"MASTER={master}", f"SLAVES={slaves}"),
                *(f"LISTEN={addresses[name]}", f"MEETING={MEETING}"),
            ],
        }
        door = {"SYNDICATE_SOCKET": str(self.door(name)), "PYTHONPATH": str(self.library)}
        return Machine(
            name=name,
            address=addresses[name],
            source=self.client if client else self.source,
            disk=self._at(name) / "disk",
            log=self._at(name) / "log",
            words=(f"PORT={PORT}", *own[role], role),
            environment={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "HOME": "/",
                "SYNDICATE_JOB": "1",
                "SYNDICATE_ATTEMPT": "1",
                "SYNDICATE_SEED": "7",
                "SYNDICATE_MACHINE": name,
                "SYNDICATE_MACHINES": str(self.machines),
                "SYNDICATE_ADDRESS": addresses[name],
                # So that a daemon of it that outlives its test is found.
                **{key: value for key, value in os.environ.items() if key == MARK},
                **(door if client else {}),
            },
        )

    def door(self, name: str) -> Path:
        """The socket of a client."""
        return self._at(name) / "door"

    def _at(self, name: str) -> Path:
        return self.place / name.replace("[", "").replace("]", "")


@contextlib.contextmanager
def running(plan: Plan) -> Iterator[Job]:
    """The job, with all its targets started; when the block ends nothing of it runs."""
    addresses = plan.addresses()
    master = addresses["master"]
    near = master.rpartition(".")[0]
    slaves = [name for name in addresses if name.startswith("slave")]
    cables = {name: Cable(f"{near}.{100 + n}", master, PORT) for n, name in enumerate(slaves)}
    machines = {
        name: plan.machine(name, addresses, cables[name].near if name in cables else master)
        for name in addresses
    }
    job = Job(machines, cables)
    doors = {name: plan.door(name) for name in addresses if name.startswith("client")}
    try:
        with open_doors(job, doors):
            for machine in machines.values():
                machine.wipe()
                machine.start()
            yield job
    finally:
        for machine in machines.values():
            machine.kill()
        for cable in cables.values():
            cable.close()
