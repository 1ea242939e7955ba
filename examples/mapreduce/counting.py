"""The counting itself: what a map task and a reduce task compute.

Master and slaves share this file. The master uses `index_of_all` for its own count, which the
result of the slaves must equal.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping

#: The lines of each file in which a word stands, once for each time:
#: ``{"def": {"bisect.py": [4, 21, 55, 73]}}``.
Index = dict[str, dict[str, list[int]]]

_WORD = re.compile(r"[^\W\d_]\w*")


def words_of(text: str) -> dict[str, list[int]]:
    """In which lines each word of a text stands; capitals do not count."""
    lines: dict[str, list[int]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        for word in _WORD.findall(line.lower()):
            lines.setdefault(word, []).append(number)
    return lines


def partition_of(word: str, partitions: int) -> int:
    """Which reduce task a word belongs to; the same on every machine, unlike ``hash``."""
    return zlib.crc32(word.encode()) % partitions


def map_files(files: Mapping[str, str], partitions: int) -> list[Index]:
    """Index some files; one part for each reduce task."""
    parts: list[Index] = [{} for _ in range(partitions)]
    for name, text in files.items():
        for word, lines in words_of(text).items():
            parts[partition_of(word, partitions)].setdefault(word, {})[name] = lines
    return parts


def reduce_parts(parts: Iterable[Index]) -> Index:
    """Join what the map tasks found for one partition."""
    joined: Index = {}
    for part in parts:
        for word, places in part.items():
            joined.setdefault(word, {}).update(places)
    return joined


def index_of_all(files: Mapping[str, str]) -> Index:
    """The whole index, made in one go and without partitions."""
    index: Index = {}
    for name, text in files.items():
        for word, lines in words_of(text).items():
            index.setdefault(word, {})[name] = lines
    return index


def totals(index: Index) -> dict[str, int]:
    """What is compared and shown of an index."""
    return {
        "words": sum(map(_count, index.values())),
        "distinct_words": len(index),
        "entries": sum(len(places) for places in index.values()),
    }


def top_words(index: Index, count: int) -> list[tuple[str, int]]:
    """The most frequent words and their numbers, the alphabet deciding between equals."""
    sums = ((word, _count(places)) for word, places in index.items())
    return sorted(sums, key=lambda pair: (-pair[1], pair[0]))[:count]


def _count(places: Mapping[str, list[int]]) -> int:
    return sum(map(len, places.values()))
