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
    while part:
        letters, rest = _set_of_letters(part)
        if letters:
            found += letters
        else:
            found += {"*": "[^/]*", "?": "[^/]"}.get(part[0]) or re.escape(part[0])
            rest = part[1:]
        part = rest
    return found


def _set_of_letters(part: str) -> tuple[str, str]:
    """The set that the pattern begins with, as an expression, and what follows it; both are empty
    if it begins with something else.
    """
    negation = "^" if part[1:2] in ("!", "^") else ""
    first = 1 + len(negation)
    end = part.find("]", first + 1)  # as the first letter of a set it is one of it
    if part[0] != "[" or end < 0:
        return "", ""
    letters = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[first:end])
    expression = f"(?!/)[{negation}{letters}]"
    try:
        re.compile(expression)
    except re.error:  # a range from a later letter to an earlier one
        return "", ""
    return expression, part[end + 1 :]
