"""One machine of a job that does what a test tells it, and probes its links.

Run with the address and port of the test, to which it connects; all that is said there is lines
of JSON. ``[number, verb, words]`` is answered with ``{"n": number, "answer": …}``. Verbs are the
methods of `Machine` and those of `talker.Talker`.

While it probes it sends to every peer, so many times a second, a datagram and a message on a
connection that it keeps; each bears when it was sent, by the clock that all hosts of a lab share.
What came in, and when a round of sending began and ended, goes to the test with the next round:
``{"came": [[way, from, sent, came], …], "sent": [began, ended]}``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import selectors
import socket
import struct
import sys
import termios
import threading
import time
from typing import Any

from talker import Talker, named  # type: ignore[import-not-found]

PROBE = 4455
SERVICE = 4456
MESSAGE = struct.Struct("!Id")
#: Seconds after which a connection that does not come about, or on which nothing was
#: acknowledged, is made anew.
STALLED = 0.7


class Hub:
    """The connection to the test."""

    def __init__(self, where: str) -> None:
        host, port = where.split(":")
        self._socket = socket.create_connection((host, int(port)), 30)
        self._socket.settimeout(None)
        self._lock = threading.Lock()

    def say(self, told: dict[str, Any]) -> None:
        with self._lock:
            self._socket.sendall(json.dumps(told).encode() + b"\n")

    def lines(self) -> Any:
        return self._socket.makefile("rb")


class Outward:
    """The connection that we keep to one peer."""

    def __init__(self, address: str, source: bytes) -> None:
        self._address, self._source = address, source
        self._socket: socket.socket | None = None
        self._connected = False
        self._rest = b""
        self._moved = 0.0

    def send(self, now: float) -> None:
        """One more message, if there is room for it."""
        if self._socket is None:
            self._dial(now)
            return
        try:
            if not self._connected:
                if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._drop()
                    return
                try:
                    self._socket.getpeername()
                except OSError:
                    self._drop_if_stalled(now)
                    return
                self._connected, self._moved = True, now
            self._rest = self._rest or MESSAGE.pack(int.from_bytes(self._source, "big"), now)
            self._rest = self._rest[self._socket.send(self._rest) :]
            with contextlib.suppress(BlockingIOError):
                if self._socket.recv(64) == b"":
                    self._drop()
                    return
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
            return
        waiting = fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4))
        if int.from_bytes(waiting, sys.byteorder) <= 4 * MESSAGE.size:
            self._moved = now
        self._drop_if_stalled(now)

    def _dial(self, now: float) -> None:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # It goes at once when it is closed, and leaves no port behind that waits.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket, self._connected, self._rest, self._moved = made, False, b"", now
        if made.connect_ex((self._address, PROBE)) not in (0, errno.EINPROGRESS):
            self._drop()

    def _drop_if_stalled(self, now: float) -> None:
        if now - self._moved > STALLED:
            self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Prober:
    """Sends and listens, in a thread of its own."""

    def __init__(self, hub: Hub, me: int, peers: dict[int, str], rate: float) -> None:
        self._hub, self._me, self._peers, self._pause = hub, me, peers, 1 / rate
        self._ears = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._ears.bind(("", PROBE))
        self._ears.setblocking(False)
        self._listener = socket.create_server(("", PROBE))
        self._listener.setblocking(False)
        self._out = {n: Outward(address, me.to_bytes(4, "big")) for n, address in peers.items()}
        self._came: list[tuple[str, int, float, float]] = []
        self._halves: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._ears, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def run(self) -> None:
        due = time.monotonic()
        while True:
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                self._take(key.fileobj)
            if time.monotonic() < due:
                continue
            due = max(due + self._pause, time.monotonic() - self._pause)
            began = time.monotonic()
            datagram = MESSAGE.pack(self._me, began)
            for number, address in self._peers.items():
                with contextlib.suppress(OSError):
                    self._ears.sendto(datagram, (address, PROBE))
                self._out[number].send(began)
            came, self._came = self._came, []
            self._hub.say({"came": came, "sent": [began, time.monotonic()]})

    def _take(self, ready: Any) -> None:
        if ready is self._listener:
            with contextlib.suppress(OSError):
                accepted, _ = self._listener.accept()
                accepted.setblocking(False)
                self._halves[accepted] = b""
                self._selector.register(accepted, selectors.EVENT_READ)
        elif ready is self._ears:
            with contextlib.suppress(OSError):
                while True:
                    self._note("udp", self._ears.recv(64))
        else:
            self._read(ready)

    def _read(self, accepted: socket.socket) -> None:
        try:
            data = accepted.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(accepted)
            del self._halves[accepted]
            accepted.close()
            return
        data = self._halves[accepted] + data
        whole = len(data) // MESSAGE.size * MESSAGE.size
        for at in range(0, whole, MESSAGE.size):
            self._note("tcp", data[at : at + MESSAGE.size])
        self._halves[accepted] = data[whole:]

    def _note(self, way: str, message: bytes) -> None:
        source, sent = MESSAGE.unpack(message)
        self._came.append((way, source, sent, time.monotonic()))


class Machine:
    """What a test can ask for."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.talker = Talker()
        self.talker.serve(SERVICE)
        self._client: Any = None

    def probe(self, me: int, peers: dict[str, str], rate: float) -> str:
        """Send to all peers from now on."""
        by_number = {int(number): address for number, address in peers.items()}
        prober = Prober(self._hub, me, by_number, rate)
        threading.Thread(target=prober.run, daemon=True).start()
        return "ok"

    def acquaint(self, peers: list[str]) -> str:
        """Have a connection to each of these addresses."""
        answers = [self.talker.connect("old " + peer, peer, SERVICE, 10.0) for peer in peers]
        return "ok" if set(answers) <= {"ok"} else f"{answers}"

    def reach(self, ways: list[tuple[str, str]], patience: float) -> list[bool]:
        """Whether there are answers from peers by these ways, tried all at once.

        :param ways: ``old`` (a connection that was there), ``new``, ``udp`` or ``icmp``, and the
            address.
        """
        found = [False] * len(ways)

        def attempt(at: int, way: str, peer: str) -> None:
            found[at] = self._reach(way, peer, patience) == "ok"

        threads = [
            threading.Thread(target=attempt, args=(at, way, peer))
            for at, (way, peer) in enumerate(ways)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def _reach(self, way: str, peer: str, patience: float) -> Any:
        if way == "old":
            known = "old " + peer in self.talker.connections
            return self.talker.say("old " + peer, patience) if known else "none"
        if way == "new":
            made = self.talker.connect("new " + peer, peer, SERVICE, patience)
            if made != "ok":
                return made
            said = self.talker.say("new " + peer, patience)
            self.talker.hang_up("new " + peer)
            return said
        if way == "udp":
            return self.talker.datagram(peer, SERVICE, patience)
        return self.talker.ping(peer, patience)

    def fault(self, call: str, words: list[Any], more: dict[str, Any]) -> Any:
        """Call the library for clients; an error is answered with its code."""
        import syndicate.client as sc

        if self._client is None:
            self._client = sc.connect()
        try:
            answer = getattr(self._client, call)
            return answer(*words, **more) if callable(answer) else answer
        except sc.SyndicateError as error:
            return {"error": error.code, "message": error.message}

    def fresh(self) -> bool:
        """Whether this was not asked on this disk before."""
        there = os.path.exists("been-here")
        with open("been-here", "w"):
            pass
        return not there

    def children(self, script: str) -> str:
        """Run a shell script that may leave whatever processes it likes."""
        with os.popen(script) as shell:
            return shell.read()

    def exit(self, code: int) -> None:
        """End by itself."""
        os._exit(code)


def main() -> None:
    hub = Hub(sys.argv[1])
    machine = Machine(hub)
    hub.say({"hello": os.environ["SYNDICATE_MACHINE"], "job": int(os.environ["SYNDICATE_JOB"])})

    def carry_out(number: int, verb: str, words: dict[str, Any]) -> None:
        doing = getattr(machine, verb, None) or getattr(machine.talker, verb)
        try:
            answer = doing(**words)
        except OSError as error:
            answer = {"error": named(error)}
        hub.say({"n": number, "answer": answer})

    for line in hub.lines():
        threading.Thread(target=carry_out, args=json.loads(line), daemon=True).start()


main()
