"""Asking before what cannot be undone: on a terminal alone, as a script has nobody to answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])


def yes_option(function: _Function) -> _Function:
    """``--yes``."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def asks(yes: bool) -> bool:
    """Whether there is somebody to ask, who wants to be."""
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str, yes: bool) -> bool:
    """Whether it is to be done: somebody at a terminal is asked, and all others have said so."""
    return not asks(yes) or click.confirm(question, err=True)
