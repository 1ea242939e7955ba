"""The members of a tar archive of unknown origin.

Our own reader, and not :mod:`tarfile`: that one reads headers of any size into memory and knows
sparse members, which declare one size and have another. This one knows what the tools of today
write (v7, ustar, pax, and GNU's long names and large numbers) and refuses the rest by name.
Standard library only: it runs inside a launcher.
"""

from __future__ import annotations

from syndicate.sandbox.tarstream import HOW, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from syndicate.sandbox.tarstream import Stream

BLOCK = 512
#: A pax header or a GNU long name may be this big.
LONGEST_HEADER = 1 << 16

#: Seconds from the epoch to either end of what a file system may know.
_END_OF_TIME = 1e18

FILE, DIRECTORY, SYMLINK, HARD_LINK = "file", "directory", "symbolic link", "hard link"
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIRECTORY, b"2": SYMLINK, b"1": HARD_LINK}
_REFUSED_KINDS = {
    b"3": "a device: leave it out",
    b"4": "a device: leave it out",
    b"6": "a named pipe: leave it out",
    b"S": "a sparse file: pack without --sparse",
    b"V": "a volume label: pack without --label",
    b"M": "a part of a file that another volume has: pack without --multi-volume",
    b"D": "a directory of an incremental backup: pack without --incremental",
}


class Member:
    """One member of an archive, as its headers declare it; only the name's bytes are checked."""

    __slots__ = ("kind", "link", "mode", "mtime", "name", "size")

    def __init__(self, name: str, kind: str, size: int, mode: int, mtime: float, link: str) -> None:
        self.name = name
        #: `FILE`, `DIRECTORY`, `SYMLINK` or `HARD_LINK`.
        self.kind = kind
        #: Bytes of content that follow in the stream, if it is a file.
        self.size = size
        self.mode = mode
        #: Seconds since the epoch.
        self.mtime = mtime
        self.link = link


def members(stream: Stream) -> Iterator[Member]:
    """Read the headers one after another.

    The caller has to read the content of each file, padded to whole blocks, before going on.

    :raises Refused: for what is no tar archive, or has members of a kind that no source needs.
    """
    special: dict[str, bytes] = {}
    first = True
    while True:
        header = stream.read(BLOCK)
        if not header.strip(b"\0"):  # two blocks of zeros end an archive, some writers save them
            stream.drain()
            return
        if len(header) < BLOCK or not _sums_up(header):
            if first:
                raise Refused(f"This is not a tarball. {HOW}")
            raise Refused("The tarball is damaged in the middle. Pack or send it again.")
        first = False
        kind = header[156:157]
        if kind in (b"x", b"g", b"L", b"K"):
            _take_special(kind, _long_header(stream, header), special)
            continue
        yield _member(header, kind, special)
        special = {}


def _sums_up(header: bytes) -> bool:
    """Whether the header's checksum is right, by either way of counting that was ever in use."""
    try:
        wanted = _number(header[148:156])
    except ValueError:
        return False
    counted = header[:148] + b" " * 8 + header[156:]
    high = sum(byte > 127 for byte in counted)
    return wanted in (sum(counted), sum(counted) - 256 * high)


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or binary where GNU tar needs more room.

    :raises ValueError: for anything else.
    """
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:  # a time before 1970
        return int.from_bytes(field, "big", signed=True)
    return int(field.rstrip(b"\0 ").lstrip(b" ") or b"0", 8)


def _long_header(stream: Stream, header: bytes) -> bytes:
    """The content of a header that describes the next member."""
    try:
        size = _number(header[124:136])
    except ValueError:
        size = -1
    if not 0 <= size <= LONGEST_HEADER:
        raise Refused(f"The tarball has a header of more than {LONGEST_HEADER >> 10} KiB. {HOW}")
    return stream.exactly(padded(size))[:size]


def padded(size: int) -> int:
    """The size in whole blocks."""
    return -(-size // BLOCK) * BLOCK


def _take_special(kind: bytes, content: bytes, special: dict[str, bytes]) -> None:
    """Keep what a header says of the next member: its name, link, size and time."""
    if kind == b"L":
        special["path"] = content.rstrip(b"\0")
    elif kind == b"K":
        special["linkpath"] = content.rstrip(b"\0")
    else:
        for key, value in _records(content):
            if key.startswith(b"GNU.sparse"):
                raise Refused("The tarball has a sparse file: pack without --sparse.")
            # What a global header says is for all members; none of it is of use here.
            if kind == b"x" and key in (b"path", b"linkpath", b"size", b"mtime"):
                special[key.decode()] = value


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a pax header, each ``LENGTH KEY=VALUE`` and a newline."""
    while content:
        length, _, _ = content.partition(b" ")
        if not (length.isdigit() and len(length) < 7 and 0 < int(length) <= len(content)):
            raise Refused(f"The tarball has a damaged header. {HOW}")
        record = content[len(length) + 1 : int(length)]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise Refused(f"The tarball has a damaged header. {HOW}")
        yield key, value[:-1]
        content = content[int(length) :]


def _member(header: bytes, kind: bytes, special: dict[str, bytes]) -> Member:
    short = header[:100].split(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
        short = prefix + b"/" + short
    name = _text(special.get("path", short))
    if kind not in _KINDS:
        what = _REFUSED_KINDS.get(kind, f"of the unknown kind {kind!r}: leave it out")
        raise Refused(f"The tarball's member {shown(name)} is {what}.")
    try:
        size = int(special["size"]) if "size" in special else _number(header[124:136])
        mtime = float(special["mtime"]) if "mtime" in special else _number(header[136:148])
        mode = _number(header[100:108])
    except ValueError:
        raise _damaged(name) from None
    if not abs(mtime) < _END_OF_TIME:  # nor is it nan
        raise _damaged(name)
    if size < 0:
        raise Refused(f"The tarball's member {shown(name)} has a negative size. {HOW}")
    what = _KINDS[kind]
    if what == FILE and name.endswith("/"):  # as v7 wrote directories
        what = DIRECTORY
    link = _text(special.get("linkpath", header[157:257].split(b"\0")[0]))
    return Member(name, what, size if what == FILE else 0, mode, mtime, link)


def _damaged(name: str) -> Refused:
    return Refused(f"The header of the tarball's member {shown(name)} is damaged. {HOW}")


def _text(name: bytes) -> str:
    """A name that can be shown and typed.

    :raises Refused: for bytes that are no UTF-8, and for control characters.
    """
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(
            f"The name {shown(name)} in the tarball is not UTF-8: rename that file."
        ) from None
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise Refused(
            f"The name {shown(text)} in the tarball has a control character: rename that file."
        )
    return text


def shown(name: str | bytes) -> str:
    """A name as messages show it: safe to print, and not too long."""
    return repr(name) if len(name) <= 100 else f"{name[:100]!r}…"
