"""The delayer: a process that holds packets back and then lets them go.

Run as ``python -I -S delayer.py <pid of the daemon> <name of its table>``, with requests on its
standard input and answers on its standard output, a line each. The kernel tells it of every packet
that bears one of our marks, and holds the packet, not its content, until it has an answer.

The rule for it is in a table that belongs to this process: should it die, the packets go their way
undelayed, and what waits is lost, as on any network. nftables' own way to a queue is used where the
kernel has it, and that of iptables where not.

====================================  =======================================================
``hold {<mark> <seconds>}``           Hold packets of these marks back so long from now on;
                                      answered with ``ok``.
====================================  =======================================================

It needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import os
import select
import struct
import sys
import time

# Last, so that nothing beside our package can shadow the standard library.
sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from syndicate.network import netlink

#: The marks that are ours, and the bits of a mark that tell so.
HELD, WHICH = 0x53598000, 0xFFFF8000
#: Packets that are held at most; more than that are lost.
_MOST = 100_000

_NOBODY = 65534
_CAP_NET_ADMIN = 12
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 1, 4, 8, 38

# Of nfnetlink_queue.h.
_PACKET, _VERDICT, _CONFIG = 0, 1, 2
_BIND, _COPY_META, _WHOLE = 1, 1, 4
_ACCEPT = 1
_BYPASS = 1


class Queue:
    """A queue of the kernel's, and what waits in it."""

    def __init__(self, table: str) -> None:
        self.socket = netlink.connect()
        self._number = self._claim()
        self._table = netlink.connect()
        self._lead(table)
        self.delays: dict[int, float] = {}
        self._held: list[tuple[float, int]] = []

    def _claim(self) -> int:
        """Take a number that nobody else has."""
        for _ in range(20):
            wanted = int.from_bytes(os.urandom(2), "big")
            with contextlib.suppress(PermissionError, FileExistsError):
                self._set(wanted, 1, struct.pack(">BxH", _BIND, 0))
                self._set(wanted, 2, struct.pack(">IB", 0, _COPY_META))
                self._set(wanted, 3, struct.pack(">I", _MOST))
                flags = struct.pack(">I", _WHOLE)
                self._set(wanted, 5, flags, netlink.attribute(4, flags))
                return wanted
        sys.exit("the kernel gives us no queue")

    def _set(self, number: int, kind: int, value: bytes, more: bytes = b"") -> None:
        body = netlink.attribute(kind, value) + more
        self.socket.send(netlink.message(netlink.QUEUE, _CONFIG, 4, body, number))
        netlink.acknowledged(self.socket, 1)

    def _lead(self, table: str) -> None:
        """Lead packets of our marks into the queue."""
        number = struct.pack(">H", self._number)
        one = struct.pack(">H", 1)
        native = netlink.expression(
            "queue",
            *(netlink.attribute(kind, value) for kind, value in enumerate((number, one, one), 1)),
        )
        info = struct.pack("=HHHxx", self._number, 1, _BYPASS)
        foreign = netlink.expression(
            "target", netlink.text(1, "NFQUEUE"), netlink.number(2, 3), netlink.attribute(3, info)
        )
        try:
            self._make(table, native)
        except OSError:
            self._make(table, foreign)

    def _make(self, table: str, queue: bytes) -> None:
        owner, output, before_tracking = 2, 3, -309
        hook = netlink.nest(4, netlink.number(1, output), netlink.number(2, before_tracking))
        mark, equal = 3, 0
        rule = (
            netlink.expression("meta", netlink.number(2, mark), netlink.number(1, 1)),
            netlink.expression(
                "bitwise",
                *(netlink.number(kind, value) for kind, value in ((1, 1), (2, 1), (3, 4))),
                _value(4, WHICH),
                _value(5, 0),
            ),
            netlink.expression(
                "cmp", netlink.number(1, 1), netlink.number(2, equal), _value(3, HELD)
            ),
            queue,
        )
        name = netlink.text(1, table)
        netlink.transact(
            self._table,
            (0, name + netlink.number(2, owner)),
            (3, name + netlink.text(3, "out") + hook + netlink.text(7, "filter")),
            (6, name + netlink.text(2, "out") + netlink.nest(4, *rule)),
        )

    def take(self) -> None:
        """Take note of packets that came in."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:  # there was no room for the note, and the packet is lost
            return
        now = time.monotonic()
        for kind, body in netlink.messages(data):
            if kind != netlink.QUEUE << 8 | _PACKET:
                continue
            parts = netlink.attributes(body)
            (packet,) = struct.unpack_from(">I", parts[1])
            (mark,) = struct.unpack(">I", parts.get(3, bytes(4)))
            heapq.heappush(self._held, (now + self.delays.get(mark, 0.0), packet))

    def release(self) -> float | None:
        """Let go what has waited long enough; gives the seconds until there is more to do."""
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, packet = heapq.heappop(self._held)
            verdict = netlink.attribute(2, struct.pack(">II", _ACCEPT, packet))
            body = verdict + netlink.number(3, 0)
            self.socket.send(netlink.message(netlink.QUEUE, _VERDICT, 0, body, self._number))
        return self._held[0][0] - now if self._held else None


def _value(kind: int, value: int) -> bytes:
    # As it lies in memory: a mark is a number of this host.
    return netlink.nest(kind, netlink.attribute(1, struct.pack("=I", value)))


def confine(parent: int) -> None:
    """Become nobody, with no right but that to use the packet filter; end with our parent."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option: int, value: int) -> None:
        if libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))):
            raise OSError(ctypes.get_errno(), f"prctl {option}")

    prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    only = 1 << _CAP_NET_ADMIN
    if libc.capset(header, (ctypes.c_uint32 * 6)(only, only, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 0)
    prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        sys.exit("the daemon is gone")


def main() -> None:
    """Hold packets back until there are no more requests to come."""
    confine(int(sys.argv[1]))
    queue = Queue(sys.argv[2])
    heard = b""
    while True:
        left = queue.release()
        ready, _, _ = select.select([0, queue.socket.fileno()], [], [], left)
        if queue.socket.fileno() in ready:
            queue.take()
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                os._exit(0)  # at once: somebody waits for it
            heard += data
            while b"\n" in heard:
                line, _, heard = heard.partition(b"\n")
                words = line.decode().split()[1:]
                queue.delays = {
                    int(mark): float(seconds)
                    for mark, seconds in zip(words[::2], words[1::2], strict=True)
                }
                os.write(1, b"ok\n")


if __name__ == "__main__":
    main()
