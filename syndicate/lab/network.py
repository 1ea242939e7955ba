"""The network of a lab: a bridge, and one network namespace with one cable to it per host.

A bridge is also the claim on a lab's number: the kernel makes a second one of the same name for
nobody, it goes with a restart of the machine as everything else here does, and its alias says
whose it is. So there is no other record of who uses what, and none that can be wrong.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from syndicate.domain.errors import Conflict, Invalid, Unavailable
from syndicate.lab import lock, neighbours
from syndicate.lab.processes import NAMESPACES

#: As many labs can run side by side on one machine.
MOST_LABS = 200

#: Longest alias of a network interface.
_ALIAS = 255

#: Seconds in which a namespace without processes is gone.
_SOON = 0.5

_BRIDGE = re.compile(r"syn-(\d+)")
_MEMBER = re.compile(r"syn-(\d+)-")


@attrs.frozen
class Claim:
    """A lab's number, as its bridge tells it."""

    index: int
    #: Directory of the lab; None when its maker died before it could say.
    directory: Path | None
    #: The kernel's neighbour limits before the first lab changed them.
    limits: neighbours.Limits

    @property
    def bridge(self) -> str:
        """The bridge's name."""
        return f"syn-{self.index}"

    @property
    def prefix(self) -> str:
        """What the names of all its namespaces and cables begin with."""
        return f"syn-{self.index}-"


def claims() -> list[Claim]:
    """All labs of this machine, whoever's they are, and what has lost its bridge."""
    links = _ip_json("link", "show")
    found = {}
    for link in links:
        if name := _BRIDGE.fullmatch(link["ifname"]):
            limits, _, directory = link.get("ifalias", "").partition(" ")
            owner = Path(directory) if directory else None
            found[int(name[1])] = Claim(int(name[1]), owner, neighbours.parse(limits))
    for each in (*(link["ifname"] for link in links), *_all_namespaces()):
        if name := _MEMBER.match(each):
            found.setdefault(int(name[1]), Claim(int(name[1]), None, neighbours.current()))
    return list(found.values())


def claim(directory: Path, wanted: str | None) -> tuple[Claim, ipaddress.IPv4Network]:
    """Take a free number and a free network for a lab; call it under the machine's lock.

    :param wanted: the network to use, ``10.77.5.0/24``; None for the first that is free.
    :raises Conflict: the network wanted is in use, or all numbers are.
    :raises Invalid: what is wanted is no network for a lab.
    """
    others = claims()
    taken = {other.index for other in others}
    used = _networks_in_use()
    limits = others[0].limits if others else neighbours.current()
    alias = f"{neighbours.write(limits)} {directory}"
    if len(os.fsencode(alias)) > _ALIAS:
        raise Invalid(f"The path {directory} is too long for a lab; choose a shorter one.")
    fixed = _parse_network(wanted, used) if wanted else None
    for index in range(MOST_LABS):
        network = fixed or ipaddress.IPv4Network(f"10.77.{index}.0/24")
        if index not in taken and (fixed or not any(map(network.overlaps, used))):
            _ip("link", "add", f"syn-{index}", "type", "bridge", "mcast_snooping", "0")
            # Not by a batch, in which some characters of a path could not be written.
            _ip("link", "set", f"syn-{index}", "alias", alias)
            return Claim(index, directory, limits), network
    raise Conflict(
        "No network from 10.77.0.0/24 to 10.77.199.0/24 is free on this machine;"
        " give one with --net, or end some lab."
    )


def _parse_network(text: str, used: Sequence[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not a network such as '10.77.5.0/24': {error}.") from error
    if network.num_addresses < 8:
        raise Invalid(f"{network} has no room for a lab; give a network of at least /29.")
    if clash := next(filter(network.overlaps, used), None):
        raise Conflict(f"{network} overlaps {clash}, which this machine already uses.")
    return network


def _networks_in_use() -> list[ipaddress.IPv4Network]:
    routes = _ip_json("-4", "route", "show", "table", "all")
    return [
        ipaddress.IPv4Network(route["dst"], strict=False)
        for route in routes
        if route["dst"] != "default"
    ]


def build(found: Claim, network: ipaddress.IPv4Network, hosts: Iterable[tuple[str, str]]) -> None:
    """Make the namespaces and cables of a lab.

    :param hosts: name of the namespace, and address, of each.
    :raises Unavailable: the kernel would not.
    """
    bridge, mask = found.bridge, network.prefixlen
    lines = [
        f"addr add {network[1]}/{mask} dev {bridge}",
        f"link set {bridge} addrgenmode none up",
    ]
    hosts = list(hosts)
    for namespace, _ in hosts:
        lines += _cable(bridge, namespace)
    batch(lines)
    for namespace, address in hosts:
        batch(_inside(f"{address}/{mask}"), namespace)


def _cable(bridge: str, namespace: str) -> list[str]:
    return [
        f"netns add {namespace}",
        f"link add {namespace} type veth peer name eth0 netns {namespace}",
        f"link set {namespace} addrgenmode none master {bridge} up",
    ]


def _inside(address: str) -> list[str]:
    # No address of IPv6's own making: each host has exactly one beside the loopback's.
    return [
        "link set lo up",
        "link set eth0 addrgenmode none",
        f"addr add {address} dev eth0",
        "link set eth0 up",
    ]


def unmake(namespace: str) -> None:
    """Take one host's namespace and cable away, and wait until the kernel has done so."""
    batch([f"netns del {namespace}"], strict=False)
    (NAMESPACES / namespace).unlink(missing_ok=True)
    if namespace in interfaces():  # the kernel takes it away with the namespace, a little later
        batch([f"link del {namespace}"], strict=False)
    _await_gone(lambda name: name == namespace)


def make(bridge: str, namespace: str, address: str, hardware: str) -> None:
    """Make one host's namespace and cable.

    :param address: with the length of its network's prefix.
    :param hardware: the address of its network card; others may still know it by that.
    """
    batch(_cable(bridge, namespace))
    batch([f"link set eth0 address {hardware}", *_inside(address)], namespace)


def hardware_address(namespace: str) -> str:
    """The address of a host's network card."""
    found: str = _ip_json("-n", namespace, "link", "show", "eth0")[0]["address"]
    return found


def namespaces(found: Claim) -> list[str]:
    """The network namespaces of a lab that are there."""
    return sorted(name for name in _all_namespaces() if name.startswith(found.prefix))


def _all_namespaces() -> list[str]:
    return os.listdir(NAMESPACES) if NAMESPACES.is_dir() else []


def remove(found: Claim) -> None:
    """Take a lab's network away, whole or half-built, and wait until the kernel has done so."""
    names = namespaces(found)
    if names:
        batch([f"netns del {name}" for name in names], strict=False)
    for name in names:  # one that was being made when its maker died is a mere file
        (NAMESPACES / name).unlink(missing_ok=True)
    # The kernel takes the cables away with the namespaces, a little later and all at once; by name
    # it would do so one after another, and wait for all processors each time.
    cables = _left_after(_SOON, lambda name: name.startswith(found.prefix))
    # The bridge last: while it is there, nobody else takes the number.
    batch([f"link del {name}" for name in [*cables, found.bridge]], strict=False)
    _await_gone(lambda name: name.startswith(found.prefix) or name == found.bridge)


def _await_gone(is_meant: Callable[[str], bool]) -> None:
    if left := _left_after(10.0, is_meant):
        raise Unavailable(
            f"The kernel does not remove the network interfaces {', '.join(left)}."
            " Something may still use them; look for it, then run the command again."
        )


def _left_after(seconds: float, is_meant: Callable[[str], bool]) -> list[str]:
    """The interfaces of a kind that are still there after so many seconds, or none before that."""
    deadline = time.monotonic() + seconds
    while (left := list(filter(is_meant, interfaces()))) and time.monotonic() < deadline:
        time.sleep(0.005)
    return left


def interfaces() -> list[str]:
    """The names of this machine's network interfaces."""
    return [link["ifname"] for link in _ip_json("link", "show")]


def batch(lines: Sequence[str], namespace: str | None = None, *, strict: bool = True) -> None:
    """Run commands of `ip` in one process, which is many times faster than one process each.

    :raises Unavailable: one failed (unless not strict: then the others are run all the same).
    """
    inside = ["-n", namespace] if namespace else []
    force = [] if strict else ["-force"]
    _ip(*inside, *force, "-batch", "-", given="\n".join(lines) + "\n", strict=strict)


def _ip(*words: str, given: str = "", strict: bool = True) -> None:
    run = subprocess.run(
        ["ip", *words],
        input=given,
        text=True,
        capture_output=True,
        check=False,
        # Should we be killed, it goes on to the end of its input: until then the lab is locked.
        pass_fds=lock.held(),
    )
    if strict and run.returncode:
        raise Unavailable(
            f"The network of the lab could not be made: {' '.join(run.stderr.split())}"
        )


def _ip_json(*words: str) -> list[dict[str, Any]]:
    run = subprocess.run(["ip", "-j", *words], capture_output=True, text=True, check=False)
    if run.returncode:
        raise Unavailable(f"`ip {' '.join(words)}` failed: {run.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(run.stdout or "[]")
    return [entry for entry in found if entry]  # some versions print {} for what they skip
