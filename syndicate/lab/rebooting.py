"""One host of a lab made anew while the others go on."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from syndicate.lab import leftovers, network
from syndicate.lab.processes import Spaces
from syndicate.lab.state import Description, Host


def reboot(directory: Path, description: Description, host: Host) -> None:
    """Kill all that runs on a host, and make its network anew; see `Lab.reboot`."""
    hardware = network.hardware_address(host.namespace)
    spaces = Spaces.named([host.namespace])
    leftovers.end_all(spaces)
    network.unmake(host.namespace)
    leftovers.end_all(spaces)  # nobody can enter any more, but somebody may just have entered
    if host.uids is not None:
        leftovers.clear_sandboxes({host.name: directory / host.name / "state"})
    length = ipaddress.IPv4Network(description.net).prefixlen
    network.make(description.bridge, host.namespace, f"{host.address}/{length}", hardware)
