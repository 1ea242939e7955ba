"""Ports of the sandbox room: a place where one target of a job runs, confined.

Sequence: `ISandbox.prepare` unpacks a source, `IEnclosure.start` runs a program in it, which may
be killed and started again, `IEnclosure.collect` takes files out, `IEnclosure.destroy` removes
every trace and proves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from syndicate.domain.job import Limits

#: Receives ``(stream, data)``: stream 1 is standard output, 2 standard error.
Output = Callable[[int, bytes], None]


@attrs.frozen
class SourceRules:
    """Caps on what a source tarball may be."""

    #: Bytes of the files unpacked, members, bytes of a name, directories in depth.
    unpacked: int = 512 << 20
    members: int = 20_000
    name: int = 1024
    depth: int = 40


@attrs.frozen
class SourceFacts:
    """What the inspection of a source tarball found."""

    members: int
    #: Bytes of all files unpacked.
    unpacked: int
    #: The Makefile's text, at most 1 MiB of it.
    makefile: bytes


#: What is around a job beside its namespaces: ``seccomp``, by which it is refused system calls that
#: it does not need, and ``scope``, by which it cannot reach Unix sockets without a file.
WALLS = ("seccomp", "scope")


@attrs.frozen
class SandboxFacts:
    """What a sandbox can do on this host."""

    #: ``root``, ``user`` (user namespaces) or ``memory`` (no processes: for tests).
    mode: str
    #: Names of the limits enforced: a subset of the fields of `Limits`, e.g. ``("disk", "files",
    #: "memory", "output", "pids", "wall")``; and of the walls that there are, see `WALLS`.
    enforced: tuple[str, ...]
    #: Sentences on what is missing and how to get it.
    remarks: tuple[str, ...] = ()
    #: Whether runs can be paused.
    freezer: bool = False
    #: The first and the last user that runs have, and nobody else; None if they have none of their
    #: own.
    uids: tuple[int, int] | None = None


@attrs.frozen
class Plot:
    """What is to be enclosed: one machine of one attempt of a job."""

    #: Unique among what lives on the volunteer; file-name safe: ``17.2.slave-0``.
    key: str
    hostname: str
    #: Names and addresses for ``/etc/hosts``: the machine's own first.
    hosts: tuple[tuple[str, str], ...]
    #: The tarball on disk, its digest known to be right, and that digest.
    source: Path
    sha256: str
    limits: Limits
    #: Whether the run goes on while any process lives after the program itself has ended.
    linger: bool = False
    #: Directories of the host that the machine sees, read-only, and where: ``(host, inside)``.
    #: Sockets in them can be used.
    shares: tuple[tuple[Path, str], ...] = ()


@attrs.frozen
class Exit:
    """How a run ended. Exactly one of ``code``, ``signal``, ``problem`` is set."""

    code: int | None = None
    signal: int | None = None
    #: A fault of the host, not of the program: what could not be done.
    problem: str | None = None
    #: ``wall``, ``cpu``, ``memory`` or ``output`` where going over that limit ended it.
    limit: str | None = None
    #: Whether `IRun.kill` ended it.
    killed: bool = False
    #: Where it ended by itself: what of ``disk``, ``inodes``, ``pids`` and ``/dev/shm`` was used
    #: up, so that its own calls failed or were about to.
    short: tuple[str, ...] = ()


@attrs.frozen
class Collected:
    """What came of collecting a machine's files."""

    #: The tarball's size in bytes; 0, and no file, when nothing was kept.
    size: int = 0
    #: What was asked for and is not in it, and why, as phrases for people; the first ones, and how
    #: many more there are.
    left_out: tuple[str, ...] = ()


class ISourceInspector(Interface):
    """Looks into a tarball without unpacking it, in a confined child."""

    def inspect(path: Path) -> Deferred[SourceFacts]:
        """Read the whole tarball by the same rules as unpacking does.

        :raises InvalidSource: what is wrong with it and how to pack it right: not a tarball,
            empty, truncated, a bomb, names or links that escape, devices, no Makefile at its top.
        """

    def close() -> Deferred[None]:
        """End all children; the inspector cannot be used any more."""


class ISandbox(Interface):
    """Makes enclosures on this host."""

    def probe() -> Deferred[SandboxFacts]:
        """Find out what this host allows.

        :raises SandboxFailed: where jobs cannot be confined at all, with what to do.
        """

    def sweep() -> Deferred[int]:
        """Remove what a crashed predecessor left: processes, mounts, cgroups, directories.

        :returns: how many things were removed.
        :raises NotClean: for what could not be removed.
        """

    def prepare(plot: Plot) -> Deferred[IEnclosure]:
        """Unpack the source and lay out everything that a start needs.

        :raises InvalidSource: the tarball breaks the rules.
        :raises StorageFull: there is no room for the job's disk.
        :raises SandboxFailed: a fault of this host.
        """

    def close() -> Deferred[None]:
        """Destroy all enclosures and end all children."""


class IEnclosure(Interface):
    """One prepared place."""

    plot = Attribute("The `Plot` it was made for.")
    uid = Attribute("The user id, and group id, that its programs run as (int).")

    def start(argv: Sequence[str], env: Mapping[str, str], output: Output) -> Deferred[IRun]:
        """Run a program at the top of the source as the job's user, with just that environment
        (beside PATH, HOME, TMPDIR and LANG); fires once the program has been executed.

        :raises Conflict: while a run of this enclosure lives.
        :raises SandboxFailed: the program could not be enclosed or executed.
        """

    def collect(patterns: Sequence[str], destination: Path) -> Deferred[Collected]:
        """Write an uncompressed tarball of the regular files that match, as they are on the
        machine's disk, following no link. Only while nothing runs. What matches and is left out,
        and a pattern that nothing matches, are told.
        """

    def wipe() -> Deferred[None]:
        """Empty the disk, so that it is as the tarball made it. Only while nothing runs."""

    def written() -> Deferred[int]:
        """How many files and directories the machine has on its disk beside what the tarball
        made; found out by looking, not from what was done. Only while nothing runs.
        """

    def destroy() -> Deferred[None]:
        """Kill what runs and remove everything; may be called again.

        :raises NotClean: something is left: what, and where.
        """


class IRun(Interface):
    """One program running, with all its descendants."""

    def kill() -> Deferred[Exit]:
        """Kill every process of the run, however it hides; fires when none is left.

        Killing what has ended is no error: it fires with how it ended.
        """

    def processes() -> list[int]:
        """Numbers of the processes of the run that live, as the kernel lists them now; in the
        host's numbers. Independent of how they were started or killed.
        """

    def pause() -> Deferred[None]:
        """Freeze every process of the run; fires when all stand still. Killing what is frozen
        kills it. Pausing what is paused, or has ended, changes nothing.

        :raises SandboxFailed: there is no freezer on this host.
        """

    def resume() -> Deferred[None]:
        """Let go on what is paused."""

    def paused() -> bool:
        """Whether the kernel says that every process of the run stands still."""

    def wait() -> Deferred[Exit]:
        """Fires when no process of the run is left and all its output was delivered. May be
        called any number of times, before and after the end.
        """
