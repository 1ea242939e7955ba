"""What a volunteer tells a launcher to do: the shapes of the orders, for both ends.

An order is marshalled: both ends are the same interpreter, and the launcher saves the ten
milliseconds that importing :mod:`json` would cost each of them. What comes back from a launcher
may have been near hostile data, so it is read as plain text, see
`syndicate.sandbox.confine.channel`.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class Identity(TypedDict):
    """Who the work is done as."""

    #: ``root``: become ``uid``. ``user``: make a user namespace in which we are ``uid``.
    #: ``same``: change nothing (where neither is allowed).
    mode: Literal["root", "user", "same"]
    uid: int


class Place(TypedDict):
    """The root file system to build."""

    #: An empty directory of the host: the mount point.
    root: str
    #: Lower layers, the topmost first.
    lower: list[str]
    #: The directory holding, or to hold, ``upper``, ``work`` and ``tmp``; the mount point of
    #: ``image`` if there is one.
    disk: str
    image: str | None
    #: Whether to show ``/usr``, ``/dev`` and ``/proc``, and give an empty ``/tmp``.
    furnished: bool
    #: Directories of the host to be shown read-only, and where; mount points are in a layer.
    shares: list[tuple[str, str]]


class Walls(TypedDict):
    """Which walls of the kernel's are put around a program beside its namespaces; see
    `syndicate.sandbox.confine.privileges.wall_in`.
    """

    seccomp: bool
    scope: bool


class RunOrder(TypedDict):
    """Run a program in a place of its own."""

    action: Literal["run"]
    identity: Identity
    place: Place
    hostname: str
    walls: Walls
    #: By the names of the constants in :mod:`resource`, without ``RLIMIT_``.
    rlimits: dict[str, int]
    argv: list[str]
    env: dict[str, str]
    linger: bool


class CollectOrder(TypedDict):
    """Write files out of a place into a tarball on the host."""

    action: Literal["collect"]
    identity: Identity
    place: Place
    patterns: list[str]
    destination: str
    #: Bytes that the tarball may have.
    limit: int


class LookOrder(TypedDict):
    """Count what is on a disk, as it lies there; for an image only."""

    action: Literal["look"]
    identity: Identity
    place: Place


class ReadOrder(TypedDict):
    """Read a source tarball, and unpack it or just look."""

    action: Literal["unpack", "inspect"]
    identity: Identity
    source: str
    #: The directory to be shut into; for ``unpack`` also the one to fill.
    directory: str
    #: The fields of `syndicate.sandbox.interface.SourceRules`.
    rules: dict[str, int]
    #: Seconds of processor time, and bytes of memory, that it may take.
    cpu: int
    memory: int


Order = RunOrder | CollectOrder | LookOrder | ReadOrder
