"""Ports of the network room: which packets of a job's machine pass, and proof of it.

One `IGuard` stands for each machine of a job on its volunteer, from before the program starts
until the machine is given back. It touches the packets of that machine's processes and no
others: not those of other jobs, not the daemon's own.
"""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from syndicate.domain.fault import Links
from syndicate.mounts import mounts


@attrs.frozen
class NetworkFacts:
    """What can be done to packets on this host."""

    #: Values of `syndicate.domain.fault.Kind` that work here.
    supported: tuple[str, ...]
    #: ``(kind, sentence)``: why the others do not, and what would have to be there.
    unsupported: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Proof:
    """What a probe from inside the machine saw of one direction of one link."""

    address: str
    #: Whether a packet of the job's to that address could leave.
    passes: bool
    #: What was seen, in a few words.
    seen: str


#: By what the packets of jobs are told from those of others: the control group that a process was
#: in when it made its socket, or the user who made it.
GROUP, USER = "group", "user"


@attrs.frozen
class Doors:
    """The cluster's own ports, which jobs are kept from connecting to; all are of TCP."""

    #: Addresses and ports.
    closed: tuple[tuple[str, int], ...] = ()
    #: Ports of this host at any address of its own, unless a job listens there.
    own: tuple[int, ...] = ()
    #: Ports of every host.
    everywhere: tuple[int, ...] = ()
    #: Addresses and ports that jobs may connect to in spite of all that.
    open: tuple[tuple[str, int], ...] = ()
    #: The first and the last user that jobs run as, and nobody else; None if they have none.
    uids: tuple[int, int] | None = None


class INetworkFaults(Interface):
    """Makes guards on this host.

    A volunteer runs one job at a time, so one control group serves all its guards, one after
    another: the sandbox's launchers join it while they wait for their order (moving a process
    takes the kernel some ten milliseconds), and all that they start is in it.
    """

    group = Attribute(
        "Control group (Path, version 2) that every process of a job must be in before it opens "
        "a socket; made by `probe`. None where nothing can be guarded."
    )

    def probe() -> Deferred[NetworkFacts]:
        """Find out, by trying, what works here."""

    def sweep() -> Deferred[int]:
        """Remove what a crashed predecessor of this volunteer left: tables, groups, queues.

        :returns: how many things were removed.
        """

    def shut(doors: Doors) -> Deferred[str]:
        """Keep all jobs of this volunteer from connecting to these ports, until it is closed, in
        place of those it was told before; needs `probe`. Others, the daemon too, are not kept from
        anything.

        :returns: by what jobs are told from others: `GROUP`, or `USER` where that cannot be; empty
            where neither can be, and it is not in force.
        :raises Invalid: something is no address.
        :raises SandboxFailed: the kernel does not take it any more.
        """

    def guard(key: str, peers: tuple[str, ...]) -> Deferred[IGuard]:
        """Stand guard over a machine that is about to be prepared; everything passes at first.
        There is one guard at a time. Where nothing is supported it stands there in vain.

        :param key: unique on the volunteer: that of the sandbox's plot.
        :param peers: addresses of the attempt's other machines.
        :raises Conflict: one stands already.
        :raises SandboxFailed: a fault of this host.
        """

    def close() -> Deferred[None]:
        """Lift everything and end all children."""


class IGuard(Interface):
    """Over one machine's packets."""

    links = Attribute("What they meet now (`syndicate.domain.fault.Links`).")

    def apply(links: Links) -> Deferred[float]:
        """Make the packets meet just this, in one step; fires once it is in force.

        :returns: when it came into force, by the clock given to the implementation.
        :raises Unsupported: ``links`` has what this host does not support; says why.
        :raises Invalid: it has what is no address, or no amount.
        """

    def verify(links: Links) -> Deferred[tuple[Proof, ...]]:
        """Try, from inside the machine's group and not by asking the tool that applied it,
        whether a packet to each peer leaves; one proof for each peer.

        :raises Conflict: what was seen is not what ``links`` says; ``details["proofs"]`` tells,
            as a list of the fields of `Proof`.
        """

    def close() -> Deferred[None]:
        """Lift everything and prove that nothing of it is left; may be called again.

        :raises NotClean: something is left.
        """


def group_root() -> Path:
    """Where control groups of version 2 are mounted.

    :raises FileNotFoundError: nowhere.
    """
    for mount in mounts():
        if mount.kind == "cgroup2":
            return mount.point
    raise FileNotFoundError("no cgroup2 file system is mounted")
