"""The form in which a machine's output is kept and sent: frames of bytes with their time.

One log holds both streams of one machine in the order in which they came out of the pipes. A
frame is a 13-byte head (time in microseconds since the epoch, stream, length; big endian) and
the bytes. A log is cut at any byte when it travels; only whole frames are decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs

_HEAD = struct.Struct(">QBI")

#: The stream that holds what a client measured, as JSON lines; 1 and 2 are what it printed.
SAMPLES = 3

#: Bytes of a frame beside its data.
HEAD_SIZE = _HEAD.size

#: Longest frame that is one: the largest are of samples, a fourth of it. What claims to be longer
#: was never written by a volunteer of ours.
FRAME_CAP = 4 << 20

#: The last moment that a log can tell of, in microseconds: near the end of the year 9999.
_LAST = 253_402_200_000_000_000

#: Longest line handed out in one piece, in bytes; a longer one comes as several, see `Line`.
LINE_CAP = 64 << 10


@attrs.frozen
class Frame:
    """A piece of output, as it came out of a pipe."""

    #: Seconds since the epoch, UTC, by the volunteer's clock.
    at: float
    #: 1 standard output, 2 standard error, `SAMPLES`.
    stream: int
    data: bytes


@attrs.frozen
class Line:
    """A line of output without its line end."""

    at: float
    stream: int
    data: bytes
    #: Whether the line goes on in the next `Line` of this stream.
    partial: bool = False


def encode(frame: Frame) -> bytes:
    """The stored form of a frame."""
    return _HEAD.pack(round(frame.at * 1e6), frame.stream, len(frame.data)) + frame.data


class Decoder:
    """Turns stored bytes, fed in any portions, back into frames.

    What is no log any more, by a frame that is longer than there can be, ends there: nothing of it
    is kept, and nothing that follows is a frame.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._broken = False

    def feed(self, data: bytes) -> list[Frame]:
        """Take more bytes; return the frames that are whole now."""
        frames: list[Frame] = []
        if self._broken:
            return frames
        self._held += data
        start = 0
        while len(self._held) - start >= HEAD_SIZE:
            at, stream, length = _HEAD.unpack_from(self._held, start)
            if length > FRAME_CAP:
                self._broken = True
                self._held.clear()
                return frames
            at = min(at, _LAST)
            end = start + HEAD_SIZE + length
            if len(self._held) < end:
                break
            frames.append(Frame(at / 1e6, stream, bytes(self._held[start + HEAD_SIZE : end])))
            start = end
        del self._held[:start]
        return frames


class LineSplitter:
    """Turns the frames of one machine into lines, a stream at a time."""

    def __init__(self) -> None:
        self._rest: dict[int, tuple[float, bytes]] = {}

    def feed(self, frame: Frame) -> Iterator[Line]:
        """Take a frame; yield the lines it completes. A line has the time of its first byte."""
        at, rest = self._rest.pop(frame.stream, (frame.at, b""))
        *lines, rest = (rest + frame.data).split(b"\n")
        for line in lines:
            yield from self._pieces(at, frame.stream, line, last=True)
            at = frame.at
        if len(rest) >= LINE_CAP:
            whole = len(rest) - len(rest) % LINE_CAP
            yield from self._pieces(at, frame.stream, rest[:whole], last=False)
            rest = rest[whole:]
        if rest:
            self._rest[frame.stream] = (at, rest)

    def flush(self) -> Iterator[Line]:
        """Yield what is left of lines that never ended."""
        for stream, (at, rest) in sorted(self._rest.items()):
            yield Line(at, stream, rest)
        self._rest.clear()

    @staticmethod
    def _pieces(at: float, stream: int, line: bytes, *, last: bool) -> Iterator[Line]:
        pieces = [line[i : i + LINE_CAP] for i in range(0, len(line), LINE_CAP)] or [b""]
        for number, piece in enumerate(pieces, 1):
            yield Line(at, stream, piece, partial=not (last and number == len(pieces)))
