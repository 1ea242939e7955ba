"""A program of a job: talks over the network as it is told, by lines of JSON on standard input.

Run as ``python -I -S talker.py GROUP UID``: it joins the control group (unless that is ``-``) and
becomes that user before it opens a socket. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import sys
import threading
import time
from typing import Any

ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def named(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    return errno.errorcode.get(error.errno or 0, str(error))


class Talker:
    def __init__(self) -> None:
        self.connections: dict[str, socket.socket] = {}
        self.received: dict[str, int] = {"tcp": 0, "udp": 0}
        self.beats: list[float] = []
        self.sniffed: list[str] = []
        self.pulsing = False

    # Serving.

    def serve(self, port: int) -> str:
        """Echo streams and datagrams."""
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        datagrams.bind(("::", port))
        threading.Thread(target=self._answer, args=(datagrams,), daemon=True).start()
        return "ok"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=self._echo, args=(accepted,), daemon=True).start()

    def _echo(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), accepted:
            while data := accepted.recv(1 << 16):
                self.received["tcp"] += len(data)
                if not data.startswith(b"!"):  # which asks for no answer
                    accepted.sendall(data)

    def _answer(self, datagrams: socket.socket) -> None:
        while True:
            data, source = datagrams.recvfrom(1 << 16)
            self.received["udp"] += len(data)
            if not data.startswith(b"!"):
                with contextlib.suppress(OSError):
                    datagrams.sendto(data, source)

    def count(self) -> dict[str, int]:
        return self.received

    # Streams.

    def connect(
        self, name: str, address: str, port: int, patience: float = 0.4, source: int = 0
    ) -> str:
        made = socket.socket(family(address), socket.SOCK_STREAM)
        made.settimeout(patience)
        try:
            if source:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(("", source))
            made.connect((address, port))
        except OSError as error:
            made.close()
            return named(error)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[name] = made
        return "ok"

    def say(self, name: str, patience: float = 0.4) -> str:
        """Say something new, and wait for its echo."""
        made = self.connections[name]
        made.settimeout(patience)
        word = os.urandom(8).hex().encode()
        heard = b""
        try:
            made.sendall(word)
            while not heard.endswith(word):
                more = made.recv(1 << 16)
                if not more:
                    return "closed"
                heard += more
        except OSError as error:
            return named(error)
        return "ok"

    def push(self, name: str, size: int) -> int:
        """Say something long that needs no answer; gives how much the kernel took."""
        made = self.connections[name]
        made.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < size:
                sent += made.send(b"!" * min(size - sent, 1 << 16))
        return sent

    def pour(self, name: str, seconds: float) -> int:
        """Say as much as goes for some time."""
        made = self.connections[name]
        made.settimeout(seconds)
        until = time.monotonic() + seconds
        sent = 0
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until:
                sent += made.send(b"!" * 8192)
        return sent

    def hang_up(self, name: str) -> str:
        self.connections.pop(name).close()
        return "ok"

    def pulse(self, name: str) -> str:
        """Say something every two milliseconds from now on, and note when echoes come."""
        made = self.connections[name]
        made.setblocking(False)
        self.pulsing, self.beats = True, []
        threading.Thread(target=self._pulse, args=(made,), daemon=True).start()
        return "ok"

    def _pulse(self, made: socket.socket) -> None:
        while self.pulsing:
            with contextlib.suppress(OSError):
                made.send(b"x")
            with contextlib.suppress(OSError):
                if made.recv(1 << 16):
                    self.beats.append(time.monotonic())
            time.sleep(0.002)

    def beaten(self) -> list[float]:
        beats, self.beats = self.beats, []
        return beats

    # Datagrams.

    def datagram(self, address: str, port: int, patience: float = 0.4) -> str:
        """Send one, and wait for its echo."""
        with socket.socket(family(address), socket.SOCK_DGRAM) as made:
            made.settimeout(patience)
            try:
                made.connect((address, port))
                made.send(b"hello")
                made.recv(64)
            except OSError as error:
                return named(error)
        return "ok"

    def shout(self, address: str, port: int) -> str:
        with socket.socket(family(address), socket.SOCK_DGRAM) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try:
                made.sendto(b"!hello", (address, port))
            except OSError as error:
                return named(error)
        return "ok"

    def flood(self, address: str, port: int, size: int, seconds: float, pause: float) -> int:
        """Send datagrams for some time; gives how many."""
        sent = 0
        with socket.socket(family(address), socket.SOCK_DGRAM) as made:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                made.sendto(b"!" * size, (address, port))
                sent += 1
                time.sleep(pause)
        return sent

    def ping(self, address: str, patience: float = 0.4) -> str:
        kind = family(address)
        protocol = socket.IPPROTO_ICMPV6 if kind == socket.AF_INET6 else socket.IPPROTO_ICMP
        with socket.socket(kind, socket.SOCK_DGRAM, protocol) as made:
            made.settimeout(patience)
            try:
                made.sendto(struct.pack(">BBHHH", ECHO_REQUEST[kind], 0, 0, 0, 1), (address, 0))  # type: ignore[index]
                made.recv(64)
            except OSError as error:
                return named(error)
        return "ok"

    # Watching.

    def sniff(self, address: str) -> str:
        """Note from now on every packet of IP that comes from an address."""
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        wire.bind(("eth0", 0x0800))
        source = socket.inet_aton(address)
        threading.Thread(target=self._sniff, args=(wire, source), daemon=True).start()
        return "ok"

    def _sniff(self, wire: socket.socket, source: bytes) -> None:
        while True:
            data = wire.recv(1 << 16)
            if data[12:16] == source:
                head = (data[0] & 15) * 4
                ports = struct.unpack_from(">HH", data, head)
                flags = f" flags {data[head + 13]:#x}" if data[9] == 6 else ""
                self.sniffed.append(f"protocol {data[9]} ports {ports}{flags}")

    def seen(self) -> list[str]:
        seen, self.sniffed = self.sniffed, []
        return seen


def main() -> None:
    group, uid = sys.argv[1], int(sys.argv[2])
    if group != "-":
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write("0")
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    talker = Talker()
    for line in sys.stdin:
        verb, words = json.loads(line)
        answer: Any = getattr(talker, verb)(**words)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
