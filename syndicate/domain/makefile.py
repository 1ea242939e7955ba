"""Which targets a Makefile names, found without running any of it."""

from __future__ import annotations

import re

import attrs

#: What makes the list of explicit targets doubtful: text that can bring in further rules.
_DOUBTFUL = re.compile(
    r"^\s*(-?include|sinclude|load)\b|\$[({]\s*(eval|call|foreach|file|guile)\b|^\s*define\b"
    r"|^\s*\.RECIPEPREFIX\b|^\s*\.DEFAULT\b"
    # A line that begins with a reference may be a rule once it is expanded.
    r"|^ *\$[^$]",
    re.MULTILINE,
)
#: What stands for several names, or for one that is found when make runs.
_PATTERN = re.compile(r"[$%*?\[~]")
#: Bytes of a Makefile that are looked at; of a longer one the rest is not known.
LONGEST = 1 << 20
_RULE = re.compile(r"^(?P<targets>[^\t:=#][^:=#]*?)\s*&?::?(?![:=])")


@attrs.frozen
class Targets:
    """What was found."""

    names: frozenset[str]
    #: False when the file may have more targets than can be seen.
    certain: bool


def targets(text: bytes) -> Targets:
    """Read a Makefile's explicit targets.

    Includes, ``eval``, variables or patterns in the place of a target make it uncertain, and so
    does a text as long as one that was cut off.
    """
    # As make does, a mark at the beginning that tells the encoding is passed over.
    source = text.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    source = re.sub(r"\\\n[ \t]*", " ", source)
    certain = len(text) < LONGEST and not _DOUBTFUL.search(source)
    names: set[str] = set()
    for line in source.split("\n"):
        if found := _RULE.match(line):
            words = found["targets"].split()
            names.update(words)
            certain = certain and not any(map(_PATTERN.search, words))
    return Targets(frozenset(names), certain)


def missing(text: bytes, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the wanted targets that a Makefile surely does not have."""
    found = targets(text)
    if not found.certain:
        return ()
    return tuple(name for name in wanted if name not in found.names)
