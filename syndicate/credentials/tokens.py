"""Secrets: how they look, and how the manager knows one without keeping it.

The random part has 256 bits, so one pass of SHA-256 keeps it safe: slow hashes are for what
people make up themselves.
"""

from __future__ import annotations

import hashlib
import secrets

#: Lets tools that search code and logs for secrets recognise ours.
PREFIX = "syn_"

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_secret() -> str:
    """A secret that nobody else will ever have; letters and digits after its prefix."""
    return PREFIX + "".join(secrets.choice(_LETTERS) for _ in range(43))


def hash_secret(secret: str) -> str:
    """What is kept of a secret, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
