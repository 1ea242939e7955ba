"""The lock file is good for every Python that is supported, not only for the one that made it."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

LOCK = Path(__file__).parents[2] / "requirements.lock"

#: Debian 12's own, the oldest that is supported.
OLDEST = "3.11.2"


def test_every_locked_version_can_be_installed_on_the_oldest_python() -> None:
    names = re.findall(r"(?m)^([A-Za-z0-9._-]+)==", LOCK.read_text("utf-8"))
    assert len(names) > 30
    refused = {}
    for name in names:
        try:
            wanted = metadata.metadata(name)["Requires-Python"] or ""
        except metadata.PackageNotFoundError:
            continue  # It is for another system or Python.
        if not SpecifierSet(wanted).contains(OLDEST):
            refused[name] = wanted
    assert not refused
