"""The rules for source tarballs, and reading one by them.

The rules hold in any directory, whoever reads: nothing is written outside, through a link, twice,
or over the caps. That they are kept is the first wall; that a launcher reads with them, shut into
the destination as the job's user, is the second. Standard library only.

What the machine itself has at ``/`` cannot come from a tarball: ``usr``, ``proc``, ``sys``,
``dev`` and ``tmp`` are refused as top names, whatever they are; ``bin``, ``sbin``, ``lib*`` and
``etc`` have to be directories, and are merged with the machine's own.
"""

from __future__ import annotations

from syndicate.sandbox.tarheaders import (
    BLOCK,
    DIRECTORY,
    FILE,
    HARD_LINK,
    SYMLINK,
    Member,
    members,
    padded,
    shown,
)
from syndicate.sandbox.tarstream import HOW, Refused, Stream, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Destination(Protocol):
        """Where the members go. All paths are relative and lead through directories only."""

        def make_directory(self, path: str) -> None: ...
        def set_mode(self, path: str, mode: int) -> None: ...
        def open_file(self, path: str, mode: int) -> None: ...
        def write(self, data: bytes) -> None: ...
        def close_file(self, mtime: float) -> None: ...
        def link_symbolically(self, path: str, target: str) -> None: ...
        def link(self, path: str, target: str) -> None: ...


__all__ = ["BLOCK", "Facts", "Refused", "preload", "read_source"]

RESERVED = frozenset({"usr", "proc", "sys", "dev", "tmp"})
MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"})
#: The names that make looks for, in its order.
MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
#: Bytes of the name of one file or directory, as Linux has it.
LONGEST_PART = 255
#: How much of the Makefile is kept for those who look into it.
_MAKEFILE_KEPT = 1 << 20


class Facts:
    """What was found: see `syndicate.sandbox.interface.SourceFacts`."""

    def __init__(self) -> None:
        self.members = 0
        self.unpacked = 0
        self.makefile = b""


def read_source(
    source: int, rules: Mapping[str, int], destination: Destination | None = None
) -> Facts:
    """Read a whole tarball, and unpack it if there is a destination (an empty directory).

    :param source: a descriptor of the tarball.
    :param rules: the fields of `syndicate.sandbox.interface.SourceRules`.
    :raises Refused: what is wrong with it and what to do about it.
    """
    # Beside the content each member has a header or two; names longer than usual take more.
    cap = rules["unpacked"] + rules["members"] * 4 * BLOCK + (1 << 20)
    stream = Stream(source, cap)
    reading = _Reading(rules, stream, destination)
    for member in members(stream):
        reading.take(member)
    reading.finish()
    return reading.facts


class _Reading:
    """One tarball being read: what was seen of it so far."""

    def __init__(
        self, rules: Mapping[str, int], stream: Stream, destination: Destination | None
    ) -> None:
        self.facts = Facts()
        self._rules = rules
        self._stream = stream
        self._destination = destination
        #: What is at each path.
        self._kinds: dict[str, str] = {"": DIRECTORY}
        self._makefiles: dict[str, bytes] = {}

    def take(self, member: Member) -> None:
        """Check a member by all rules, and only then let it be made."""
        self._count()
        path = self._path(member)
        if member.kind == DIRECTORY:
            self._take_directory(path, member)
            return
        if not path:
            raise Refused(f"The tarball's member {shown(member.name)} has no name. {HOW}")
        self._make_parents(path)
        if path in self._kinds:
            raise Refused(f"The tarball has {shown(path)} twice. {HOW}")
        self._kinds[path] = member.kind
        if member.kind == FILE:
            self._take_file(path, member)
        elif member.kind == SYMLINK:
            self._take_symlink(path, member)
        else:
            self._take_hard_link(path, member)

    def finish(self) -> None:
        """Look whether it is a source at all."""
        if not self.facts.members:
            raise Refused(f"The tarball is empty. {HOW}")
        for name in MAKEFILES:
            if self._kinds.get(name) == FILE:
                self.facts.makefile = self._makefiles[name]
                return
            if name in self._kinds:
                raise Refused(f"{name} is a {self._kinds[name]}, but has to be a regular file.")
        tops = {path.split("/")[0] for path in self._kinds if path and not _is_debris(path)}
        if len(tops) == 1:
            top = tops.pop()
            if any(self._kinds.get(f"{top}/{name}") == FILE for name in MAKEFILES):
                raise Refused(
                    f"The Makefile is in {top!r}, not at the top of the tarball. Pack what is "
                    f"inside of that directory: tar czf {top}.tar.gz -C {top} ."
                )
        raise Refused(f"The tarball has no Makefile at its top. {HOW}")

    def _count(self) -> None:
        self.facts.members += 1
        if self.facts.members > self._rules["members"]:
            raise Refused(
                f"The tarball has more than {self._rules['members']} files and directories. "
                "Leave out what the Makefile can make or fetch."
            )

    def _path(self, member: Member) -> str:
        """The member's path, without needless parts; empty for the top itself."""
        name = member.name
        for text in (name, member.link):
            if len(text.encode()) > self._rules["name"]:
                limit = self._rules["name"]
                raise Refused(f"A name in the tarball is over {limit} bytes: {shown(text)}")
        if name.startswith("/"):
            raise Refused(f"The tarball's member {shown(name)} has an absolute name. {HOW}")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Refused(f"The tarball's member {shown(name)} leads out of the source. {HOW}")
        if any(len(part.encode()) > LONGEST_PART for part in parts):
            raise Refused(
                f"The tarball's member {shown(name)} has a part of more than {LONGEST_PART} bytes, "
                "which no file can be called: rename it."
            )
        if len(parts) > self._rules["depth"]:
            limit = self._rules["depth"]
            raise Refused(f"The tarball's member {shown(name)} is over {limit} directories deep.")
        if parts and parts[0] in RESERVED:
            raise Refused(
                f"The tarball's member {shown(name)} is in {parts[0]!r}, which at the top of the "
                "source is the machine's own directory: rename it or leave it out."
            )
        if len(parts) == 1 and parts[0] in MERGED and member.kind != DIRECTORY:
            raise Refused(
                f"The tarball's member {shown(name)} is a {member.kind}, but at the top of the "
                "source that name is a directory of the machine: rename it."
            )
        return "/".join(parts)

    def _make_parents(self, path: str) -> None:
        """Make the directories that no member of their own has announced."""
        for index, letter in enumerate(path):
            if letter != "/":
                continue
            parent = path[:index]
            kind = self._kinds.get(parent)
            if kind is None:
                self._count()
                self._kinds[parent] = DIRECTORY
                if self._destination:
                    self._destination.make_directory(parent)
            elif kind != DIRECTORY:
                raise Refused(
                    f"In the tarball {shown(path)} lies below {shown(parent)}, a {kind}. {HOW}"
                )

    def _take_directory(self, path: str, member: Member) -> None:
        self._make_parents(path)
        if self._kinds.setdefault(path, DIRECTORY) != DIRECTORY:
            raise Refused(f"The tarball has {shown(path)} twice. {HOW}")
        if self._destination and path:
            self._destination.make_directory(path)
            self._destination.set_mode(path, member.mode & 0o777 | 0o700)

    def _take_file(self, path: str, member: Member) -> None:
        self.facts.unpacked += member.size
        if self.facts.unpacked > self._rules["unpacked"]:
            raise Refused(
                f"The tarball unpacks to more than {self._rules['unpacked'] >> 20} MiB (at "
                f"{shown(path)}). Leave out large files."
            )
        if self._destination:
            self._destination.open_file(path, member.mode & 0o777 | 0o600)
        kept = self._makefiles.setdefault(path, b"") if path in MAKEFILES else None
        left = member.size
        for piece in self._stream.pieces(padded(member.size)):
            data = piece[:left]
            left -= len(data)
            if self._destination:
                self._destination.write(data)
            if kept is not None and len(kept) < _MAKEFILE_KEPT:
                kept = (kept + data)[:_MAKEFILE_KEPT]
                self._makefiles[path] = kept
        if self._destination:
            self._destination.close_file(member.mtime)

    def _take_symlink(self, path: str, member: Member) -> None:
        depth = path.count("/")
        for part in member.link.split("/"):
            depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
            if depth < 0:
                break
        if depth < 0 or member.link.startswith("/") or not member.link:
            raise Refused(
                f"The tarball's member {shown(path)} is a link to {shown(member.link)}, outside "
                "the source. Leave it out, or pack what it leads to with tar --dereference."
            )
        if self._destination:
            self._destination.link_symbolically(path, member.link)

    def _take_hard_link(self, path: str, member: Member) -> None:
        target = "/".join(part for part in member.link.split("/") if part not in ("", "."))
        if member.link.startswith("/") or self._kinds.get(target) not in (FILE, HARD_LINK):
            raise Refused(
                f"The tarball's member {shown(path)} is a hard link to {shown(member.link)}, which "
                "is no file before it in the tarball. Pack with tar --hard-dereference."
            )
        if target == path:
            raise Refused(f"The tarball's member {shown(path)} is a hard link to itself. {HOW}")
        if self._destination:
            self._destination.link(path, target)


def _is_debris(path: str) -> bool:
    """Whether it is one of the files that macOS puts beside each file it packs."""
    return path.rsplit("/", 1)[-1].startswith("._")
