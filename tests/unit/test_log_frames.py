"""The stored form of output."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from syndicate.domain.log import LINE_CAP, Decoder, Frame, Line, LineSplitter, encode

frames = st.lists(
    st.builds(Frame, st.integers(0, 10**10).map(float), st.sampled_from((1, 2)), st.binary()),
    max_size=20,
)


@given(frames, st.lists(st.integers(0, 300), max_size=20))
def test_frames_survive_being_cut_anywhere(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder, received = Decoder(), []
    for start, end in itertools.pairwise(edges):
        received += decoder.feed(data[start:end])
    assert received == sent


@given(frames)
def test_lines_hold_every_byte_of_each_stream(sent: list[Frame]) -> None:
    splitter = LineSplitter()
    lines = [line for frame in sent for line in splitter.feed(frame)]
    rest = list(splitter.flush())
    for stream in (1, 2):
        printed = b"".join(frame.data for frame in sent if frame.stream == stream)
        told = b"".join(
            line.data + (b"" if line.partial else b"\n") for line in lines if line.stream == stream
        )
        told += b"".join(line.data for line in rest if line.stream == stream)
        assert told == printed


def test_a_very_long_line_comes_in_pieces_of_bounded_size() -> None:
    splitter = LineSplitter()
    pieces: list[Line] = []
    for _ in range(10):
        pieces += splitter.feed(Frame(1.0, 1, b"x" * 100_000))
    pieces += splitter.feed(Frame(2.0, 1, b"\nnext\n"))
    assert all(len(piece.data) <= LINE_CAP for piece in pieces)
    assert sum(len(piece.data) for piece in pieces[:-1]) == 1_000_000
    assert pieces[-2].partial is False
    assert pieces[-1] == Line(2.0, 1, b"next")
