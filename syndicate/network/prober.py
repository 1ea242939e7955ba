"""The prober: a process in a guard's control group that tries whether datagrams leave.

Run as ``python -I -S prober.py <pid of the daemon> <its control group>``, with requests on its
standard input and answers on its standard output, one line of plain words each. It is started
ahead of need, gives up all rights, and needs nothing but the standard library.

It does not ask whoever cut the links. Each datagram carries a wish for a time stamp, and what
comes back is the kernel's own record of it: when it was handed to which network interface, and a
copy of the packet as it was then. A packet that leaves is recorded with the address it was sent to;
one that was turned back, with that of the loopback interface; one that was dropped, not at all.

======================================  =====================================================
``try <wait> {<address> <n> <size>}``   Send ``n`` datagrams of ``size`` bytes to each address, and
                                        wait up to ``wait`` seconds for their records. Answered
                                        with, for each, the fields of
                                        `syndicate.network.probe.Tally`.
``listen``                              Open a socket for each version of IP; answered with both
                                        ports.
``heard``                               Wait until a datagram from ourselves is heard on both;
                                        answered with the addresses that others came from.
======================================  =====================================================
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys
import time

#: Where nobody listens, and what comes is thrown away.
DISCARD = 9
#: Who a prober is when it has given up its rights: nobody.
_NOBODY = 65534
#: Seconds for a datagram that never left this host.
_PATIENCE = 1.0

_IP_PKTINFO = 8
_SO_TIMESTAMPING = 37
# Of packets handed to an interface; tell the time of each, its number, and where it went.
_STAMPS = (1 << 8) | (1 << 4) | (1 << 7) | (1 << 10)
#: So many records fit into the queue of a socket, whatever the size of the datagrams.
_AT_ONCE = 16

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


class _Trial:
    """Datagrams to one address."""

    def __init__(self, address: str, count: int, size: int) -> None:
        self.address, self._count, self._size = address, count, size
        self._sent = self._left = self._turned = self._error = self._interface = 0
        self._fastest = -1
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _STAMPS)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._packed = socket.inet_pton(family, address)
        self._began = 0.0

    def send(self) -> None:
        data = bytes(self._size)
        self._began = time.time()
        for number in range(self._count):
            try:
                self.socket.sendto(data, (self.address, DISCARD))
            except BlockingIOError:  # as many wait for their neighbour as the kernel holds
                return
            except OSError as error:
                self._error = error.errno or -1
                return
            self._sent += 1
            if number % _AT_ONCE == _AT_ONCE - 1:
                self.collect()

    @property
    def waits(self) -> bool:
        return self._left + self._turned < self._sent

    def collect(self) -> None:
        """Take the records that are there."""
        while True:
            try:
                _, records, _, _ = self.socket.recvmsg(
                    64, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            self._count_one({(level, kind): data for level, kind, data in records})

    def _count_one(self, record: dict[tuple[int, int], bytes]) -> None:
        if data := record.get((socket.IPPROTO_IP, _IP_PKTINFO)):
            interface, target = struct.unpack("=i4x4s", data)
        elif data := record.get((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)):
            target, interface = struct.unpack("=16si", data)
        else:
            return
        if target != self._packed:
            self._turned += 1
            return
        self._left += 1
        self._interface = interface
        if stamp := record.get((socket.SOL_SOCKET, _SO_TIMESTAMPING)):
            seconds, nanoseconds = struct.unpack_from("=qq", stamp)
            took = max(0, int((seconds + nanoseconds / 1e9 - self._began) * 1e6))
            self._fastest = took if self._fastest < 0 else min(took, self._fastest)

    def tally(self) -> tuple[str, int, int, int, int, int, int]:
        return (
            self.address,
            self._sent,
            self._left,
            self._turned,
            self._error,
            self._interface,
            self._fastest,
        )


def attempt(words: list[str]) -> str:
    """Carry out ``try``."""
    deadline = time.monotonic() + float(words[0])
    trials = [
        _Trial(words[at], int(words[at + 1]), int(words[at + 2])) for at in range(1, len(words), 3)
    ]
    for trial in trials:
        trial.send()
    while True:
        for trial in trials:
            trial.collect()
        waiting = [trial for trial in trials if trial.waits]
        left = deadline - time.monotonic()
        if not waiting or left <= 0:
            break
        poll = select.poll()
        for trial in waiting:
            poll.register(trial.socket, 0)  # of errors it tells in any case
        poll.poll(left * 1000)
    answer = " ".join(str(word) for trial in trials for word in trial.tally())
    for trial in trials:
        trial.socket.close()
    return answer


class _Ears:
    """Sockets that wait for datagrams."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def listen(self) -> str:
        self.close()
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                opened = socket.socket(family, socket.SOCK_DGRAM)
            except OSError:  # a kernel without it
                continue
            self._open.append(opened)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind((address, 0))
            opened.settimeout(_PATIENCE)
        return " ".join(str(opened.getsockname()[1]) for opened in self._open)

    def heard(self) -> str:
        found = []
        if not self._open:
            sys.exit("asked what was heard, before it listened")
        try:
            for opened in self._open:
                while True:
                    source = opened.recvfrom(64)[1][0]
                    if source in ("127.0.0.1", "::1"):
                        break
                    found.append(source)
        except TimeoutError:
            found.append("timeout")
        self.close()
        return " ".join(found)

    def close(self) -> None:
        for opened in self._open:
            opened.close()
        self._open.clear()


def confine(parent: int, group: str) -> None:
    """Join the group, become nobody for good, and end with our parent."""
    with open(os.path.join(group, "cgroup.procs"), "w") as file:
        file.write("0")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    libc = ctypes.CDLL(None, use_errno=True)
    # The last one is undone by every change of user, so it comes last.
    for option, value in (
        (_PR_SET_NO_NEW_PRIVS, 1),
        (_PR_SET_DUMPABLE, 0),
        (_PR_SET_PDEATHSIG, 9),
    ):
        if libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))):
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    if os.getppid() != parent:
        sys.exit("the daemon is gone")


def main() -> None:
    """Answer requests until there are no more."""
    confine(int(sys.argv[1]), sys.argv[2])
    ears = _Ears()
    for line in sys.stdin.buffer:
        verb, *words = line.decode().split()
        if verb == "try":
            answer = attempt(words)
        elif verb == "listen":
            answer = ears.listen()
        else:
            answer = ears.heard()
        os.write(1, answer.encode() + b"\n")
    os._exit(0)  # at once: somebody waits for it


if __name__ == "__main__":
    main()
