"""Glob patterns for the files that a job keeps. Standard library only."""

from __future__ import annotations

import re


def expression_of(pattern: str) -> str:
    """A glob as a regular expression for whole relative paths.

    ``*`` and ``?`` do not match ``/``, ``**`` is any number of directories, ``[…]`` is a set of
    letters as in a shell, and a pattern that matches a directory takes all that is in it.
    """
    expression = ""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    for part in parts:
        expression += "(?:[^/]+/)*" if part == "**" else _of_one_name(part) + "/"
    if parts and parts[-1] == "**":  # all files, not no name
        expression += "[^/]+/"
    return f"(?s:{expression[:-1]}(?:/.*)?)"


def _of_one_name(part: str) -> str:
    found = ""
    at = 0
    while at < len(part):
        end = part.find("]", at + 2)
        if part[at] == "[" and end > 0:
            inner = part[at + 1 : end]
            negation = "^" if inner[0] in "!^" and len(inner) > 1 else ""
            letters = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner[len(negation) :])
            found += f"[{negation}{letters}]" if letters else re.escape(part[at : end + 1])
            at = end + 1
        else:
            found += {"*": "[^/]*", "?": "[^/]"}.get(part[at]) or re.escape(part[at])
            at += 1
    return found
