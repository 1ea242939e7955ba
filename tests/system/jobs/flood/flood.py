"""Floods the door as a hostile client would, or asks calmly, and prints what it saw."""

import errno
import json
import os
import re
import socket
import threading
import time
from typing import Any

DOOR = os.environ["SYNDICATE_SOCKET"]
WHAT = os.environ["FLOOD"]
CALLS = 10_000
CONNECTIONS = 10_000


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def statuses(sock: socket.socket, sends: list[bytes]) -> dict[str, Any]:
    """Send all, and count the answers by status."""
    counts: dict[str, Any] = {}
    got, rest = 0, b""
    sender = threading.Thread(target=sock.sendall, args=(b"".join(sends),))
    sender.start()
    while got < len(sends):
        data = sock.recv(1 << 16)
        if not data:
            break
        rest += data
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if found := re.match(rb"HTTP/1.1 (\d+)", line):
                counts[found[1].decode()] = counts.get(found[1].decode(), 0) + 1
                got += 1
    sender.join()
    return counts


def connect() -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(DOOR)
    return made


def calls() -> dict[str, Any]:
    """Ten thousand tiny fault calls, as fast as they go."""
    one = request("POST", "/v1/faults/kill", b'{"machine": "slave[7]"}')
    with connect() as sock:
        return statuses(sock, [one] * CALLS)


def connections() -> dict[str, Any]:
    """Ten thousand connections, all held open."""
    held, refused = [], 0
    for _ in range(CONNECTIONS):
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(DOOR)
            held.append(made)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNREFUSED):
                raise
            refused += 1
            made.close()
    closed = 0
    time.sleep(1)
    for made in held:
        made.setblocking(False)
        try:
            closed += made.recv(1) == b""
        except BlockingIOError:
            pass
        except OSError:
            closed += 1
    for made in held:
        made.close()
    return {"held": len(held), "refused": refused, "closed": closed}


def calm() -> dict[str, Any]:
    """One call every twentieth of a second; the longest that one took."""
    longest, count, end = 0.0, 0, time.time() + float(os.environ["SECONDS"])
    with connect() as sock:
        while time.time() < end:
            began = time.monotonic()
            counts = statuses(sock, [request("GET", "/v1/job")])
            longest = max(longest, time.monotonic() - began)
            assert counts == {"200": 1}, counts
            count += 1
            time.sleep(0.05)
    return {"longest": longest, "count": count}


began = time.monotonic()
told = {"calls": calls, "connections": connections, "calm": calm}[WHAT]()
told["took"] = time.monotonic() - began
if WHAT != "calm":
    # The door still serves: a second of rest, and then all is as ever.
    time.sleep(1.5)
    with connect() as sock:
        told["after"] = statuses(sock, [request("GET", "/v1/job")])
print(json.dumps(told), flush=True)
with connect() as sock:
    statuses(sock, [request("POST", "/v1/finish", b'{"passed": true}')])
