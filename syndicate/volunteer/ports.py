"""What is said of how jobs are kept from the daemons' ports, by which way that is done."""

from __future__ import annotations

import attrs

from syndicate.network.interface import GROUP, USER


@attrs.frozen
class Ports:
    """What is said of how jobs are kept from the daemons' ports."""

    enforced: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


#: By what `INetworkFaults.shut` has answered.
PORTS = {
    GROUP: Ports(("ports",)),
    USER: Ports(
        ("ports-by-user",),
        (
            "Jobs are kept from the ports of manager and volunteers by the users that they run as; "
            "a job that listens at such a port of this host is not reached from here. By control "
            "group it would be: mount those of version 2, and leave [network] match alone.",
        ),
    ),
    "": Ports(
        (),
        (
            "Jobs are not kept from the ports of manager and volunteers: neither by control group "
            "nor by user can anything be done to their packets here.",
        ),
    ),
}
