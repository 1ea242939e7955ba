"""What a machine of a job can see: printed as JSON, for the tests to judge.

The slaves tell the master over TCP from which address they come, so that the addresses are those
of real packets.
"""

import itertools
import json
import os
import socket
import sys
import time

PORT = 4444


def addresses() -> list[str]:
    """The machine's own addresses that are not loopback, as the kernel lists them."""
    with open("/proc/net/fib_trie") as file:
        lines = file.read().split("\n")
    found = set()
    for before, line in itertools.pairwise(lines):
        if "host LOCAL" in line:
            found.add(before.split()[-1])
    return sorted(address for address in found if not address.startswith("127."))


def status(key: str) -> str:
    """A line of /proc/self/status."""
    with open("/proc/self/status") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith(key))


def facts(role: str) -> dict[str, object]:
    """What this machine sees."""
    return {
        "role": role,
        "machine": os.environ["SYNDICATE_MACHINE"],
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "root": sorted(os.listdir("/")),
        "cwd": os.getcwd(),
        "addresses": addresses(),
        "host": socket.gethostname(),
        "host_address": socket.gethostbyname(socket.gethostname()),
        "capabilities": status("CapEff"),
        "no_new_privs": status("NoNewPrivs"),
        "pids": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "shadow": os.path.exists("/etc/shadow"),
        "home_of_root": os.path.exists("/root"),
        "state": os.path.exists("/var/lib/syndicate"),
        "usr_is_read_only": bool(os.statvfs("/usr").f_flag & os.ST_RDONLY),
        "environment": dict(os.environ),
    }


def master() -> None:
    """Wait for every slave; tell where each came from."""
    seen = facts("master")
    wanted = int(os.environ["SYNDICATE_MACHINES"]) - 1
    with socket.create_server(("", PORT)) as server:
        callers = []
        for _ in range(wanted):
            connection, address = server.accept()
            with connection:
                callers.append([connection.recv(100).decode(), address[0]])
    seen["callers"] = sorted(callers)
    print(json.dumps(seen))


def slave(address: str) -> None:
    """Tell the master who we are."""
    for _ in range(200):
        try:
            with socket.create_connection((address, PORT), 5) as connection:
                connection.sendall(os.environ["SYNDICATE_MACHINE"].encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    print(json.dumps(facts("slave")))


if sys.argv[1] == "master":
    master()
else:
    slave(sys.argv[2])
