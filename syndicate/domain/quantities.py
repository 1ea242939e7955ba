"""Sizes and spans of time as people write them: ``512M``, ``10m``."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: object) -> int:
    """Read a size such as ``'512M'``, ``'4G'`` or ``1024``.

    :returns: bytes; the letters are powers of 1024.
    :raises ValueError: for anything else, with a sentence for the user.
    """
    found = None if isinstance(text, bool) else _SIZE.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text!r} is not a size such as '512M' or '4G'")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def parse_span(text: object) -> float:
    """Read a span of time such as ``'30s'``, ``'10m'`` or ``2.5``.

    :returns: seconds.
    :raises ValueError: for anything else, with a sentence for the user.
    """
    found = None if isinstance(text, bool) else _SPAN.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text!r} is not a time such as '30s' or '10m'")
    return float(found[1]) * _SECONDS[found[2]]


def say_size(size: float) -> str:
    """Write bytes as people read them: ``say_size(52428800) == '50M'``."""
    for letter in ("", "K", "M", "G"):
        if size < 1024:
            return f"{size:.3g}{letter}" if size % 1 else f"{int(size)}{letter}"
        size /= 1024
    return f"{size:.3g}T"


def say_span(seconds: float) -> str:
    """Write a span as people read it: ``say_span(90) == '1m30s'``, ``say_span(0.05) == '50ms'``."""
    if 0 < abs(seconds) < 0.9995:
        return f"{seconds * 1000:.3g}ms"
    if seconds < 10:
        return f"{seconds:.3g}s"
    whole = round(seconds)
    parts = ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"))
    text = "".join(f"{count}{letter}" for count, letter in parts if count)
    return f"{text}{whole % 60}s" if whole % 60 or not text else text
