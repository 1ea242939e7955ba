"""Which names, addresses and user numbers the hosts of a lab have."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from syndicate.domain.errors import Invalid
from syndicate.lab import fittings, state
from syndicate.lab.state import Description, Host

#: User numbers of one volunteer's jobs, and where those of the first lab begin.
UIDS_EACH = 16
UIDS_FROM = 20000

#: The most volunteers of one lab, so that its user numbers are its own.
MOST_VOLUNTEERS = 250
_UIDS_OF_A_LAB = 4096


def lay_out(
    name: str,
    directory: Path,
    index: int,
    subnet: ipaddress.IPv4Network,
    volunteers: int,
    manager_on: str | None = None,
) -> Description:
    """Describe a lab that is to be built.

    :param index: its number among this machine's labs.
    :param manager_on: the volunteer whose host the manager shares; None for a host of its own.
    :raises Invalid: the network has no room for it, or there is no such volunteer.
    """
    if subnet.num_addresses < volunteers + 4:
        raise Invalid(f"{subnet} has no room for {volunteers} volunteers and a manager.")
    hosts = {}
    for number, host in enumerate(["manager", *(f"v{n + 1}" for n in range(volunteers))]):
        first = UIDS_FROM + index * _UIDS_OF_A_LAB + number * UIDS_EACH
        uids = (first, first + UIDS_EACH - 1) if number else None
        hosts[host] = Host(host, f"syn-{index}-{host}", str(subnet[number + 2]), uids)
    if manager_on is not None:
        if manager_on not in set(hosts) - {"manager"}:
            raise Invalid(
                f"The manager cannot run on {manager_on!r}: the volunteers are v1 to v{volunteers}."
            )
        shared = hosts[manager_on]
        hosts["manager"] = Host("manager", shared.namespace, shared.address)
    authority, token = fittings.client_files(directory)
    return Description(
        name=name,
        stage="building",
        index=index,
        net=str(subnet),
        gateway=str(subnet[1]),
        boot=state.this_boot(),
        url=f"https://{hosts['manager'].address}:{fittings.API_PORT}",
        authority=str(authority),
        token_file=str(token),
        hosts=hosts,
    )
