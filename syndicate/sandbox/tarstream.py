"""The bytes of a tarball of unknown origin, decompressed under a cap.

Standard library only: it runs inside a launcher.
"""

from __future__ import annotations

import os
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Decompressor(Protocol):
        """What :mod:`bz2` and :mod:`lzma` offer."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


_CHUNK = 1 << 16
#: Memory that an xz archive may ask for: enough for what ``xz -9`` writes.
_XZ_MEMORY = 80 << 20
#: How far to read on behind the end of the archive, so that a checksum there is looked at.
_TRAILER = 1 << 20

_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd, which is not accepted"),
    (b"\x1f\x9d", "compressed with compress, which is not accepted"),
    (b"\x04\x22\x4d\x18", "compressed with lz4, which is not accepted"),
)

#: How to make a good one.
HOW = "Pack it with: tar czf source.tar.gz -C DIRECTORY-OF-THE-MAKEFILE ."


class Refused(Exception):
    """The tarball will not be taken; the message says why and what to do, for its user."""


def preload(source: int) -> None:
    """Import what will be needed to decompress this file, while modules can still be found."""
    start = os.pread(source, 6, 0)
    if start.startswith(_BZIP2):
        import bz2  # noqa: F401  (seldom needed)
    elif start.startswith(_XZ):
        import lzma  # noqa: F401  (seldom needed)


class _Inflate:
    """zlib's decompressor of gzip, in the shape of the two others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)
        self._rest = b""

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._rest and not self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._zlib.decompress(self._rest + data, max_length)
        self._rest = self._zlib.unconsumed_tail
        return out


class Stream:
    """The decompressed bytes, as they are asked for.

    :param source: a descriptor of the file, at its beginning.
    :param cap: how many bytes there may be.
    """

    def __init__(self, source: int, cap: int) -> None:
        self._source = source
        self._left = cap
        self._buffer = b""
        self._start = os.pread(source, 8, 0)
        for magic, what in _FOREIGN:
            if self._start.startswith(magic):
                raise Refused(f"This is {what}. {HOW}")
        self._decompressor = self._new_decompressor()

    def _new_decompressor(self) -> Decompressor | None:
        if self._start.startswith(_GZIP):
            return _Inflate()
        if self._start.startswith(_BZIP2):
            import bz2

            return bz2.BZ2Decompressor()
        if self._start.startswith(_XZ):
            import lzma

            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        return None

    def read(self, size: int) -> bytes:
        """That many bytes, or fewer at the end."""
        while len(self._buffer) < size and (more := self._more()):
            self._buffer += more
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def exactly(self, size: int) -> bytes:
        """That many bytes.

        :raises Refused: when the archive ends before.
        """
        data = self.read(size)
        if len(data) < size:
            raise Refused("The tarball is cut short: it ends in the middle. Pack or send it again.")
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """That many bytes, in pieces that fit into memory.

        :raises Refused: when the archive ends before.
        """
        while size:
            piece = self.exactly(min(size, _CHUNK))
            size -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read what follows the end of the archive, so that damage there is noticed."""
        left = _TRAILER
        while left > 0 and (piece := self.read(min(left, _CHUNK))):
            left -= len(piece)

    def _more(self) -> bytes:
        try:
            data = self._decompressed()
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise Refused(f"The tarball is damaged: {error}. Pack or send it again.") from error
        except Exception as error:
            if type(error).__name__ != "LZMAError":  # its module is imported where needed only
                raise
            raise Refused(f"The tarball's xz data is refused: {error}. Use gzip.") from error
        self._left -= len(data)
        if self._left < 0:
            raise Refused(
                "The tarball unpacks to more than a source may be: leave large files out."
            )
        return data

    def _decompressed(self) -> bytes:
        """Some more bytes; none at the end."""
        if self._decompressor is None:
            return os.read(self._source, _CHUNK)
        while True:
            rest = b""
            if self._decompressor.eof:  # a further stream may follow, as pigz and pbzip2 write
                rest = self._decompressor.unused_data or os.read(self._source, _CHUNK)
                if not rest.strip(b"\0"):
                    return b""
                self._decompressor = self._new_decompressor()
                assert self._decompressor is not None
            elif self._decompressor.needs_input:
                rest = os.read(self._source, _CHUNK)
                if not rest:
                    raise EOFError("its compressed data ends too soon")
            if data := self._decompressor.decompress(rest, _CHUNK):
                return data
