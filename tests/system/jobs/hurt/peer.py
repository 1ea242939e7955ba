"""A machine that says every 50 ms to every other one that it is there, by UDP, and answers by TCP.

Run with the addresses of the others; prints what it hears, for people. What it hears is asked for
on TCP: one line of JSON with the seconds since each address was last heard.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time

PORT = 4455
heard: dict[str, float] = {}


def speak(peers: list[str]) -> None:
    """Send to everybody, for ever."""
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        for peer in peers:
            with contextlib.suppress(OSError):
                out.sendto(b"here", (peer, PORT))
        time.sleep(0.05)


def listen() -> None:
    """Note who is heard."""
    inward = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inward.bind(("", PORT))
    while True:
        _, address = inward.recvfrom(100)
        heard[address[0]] = time.monotonic()


def answer() -> None:
    """Tell who asks what was heard, and whether the disk is fresh."""
    fresh = not os.path.exists("been-here")
    with open("been-here", "w"):
        pass
    with socket.create_server(("", PORT)) as server:
        while True:
            connection, _ = server.accept()
            now = time.monotonic()
            told = {"heard": {a: now - at for a, at in heard.items()}, "fresh": fresh}
            with connection:
                connection.sendall(json.dumps(told).encode())


for task in (lambda: speak(sys.argv[1:]), listen):
    threading.Thread(target=task, daemon=True).start()
print("up", flush=True)
answer()
