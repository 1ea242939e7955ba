"""The words of a console: what can be asked, at a Python prompt or as ``ssh host word``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from syndicate.console.tables import Shown, Table, Text, fitted
from syndicate.domain.errors import Forbidden, Invalid

#: The two roles: who evaluates Python and steers, and who only looks.
OPERATOR, VIEWER = "operator", "viewer"


@attrs.frozen
class Visitor:
    """Who is at a console."""

    #: The person's name, which is that of the file with the keys.
    name: str
    role: str
    #: The fingerprint of the key, as ``ssh-keygen -l`` shows it.
    key: str = ""
    address: str = ""


@attrs.frozen(repr=False)
class Word(Shown):
    """Something that can be asked for.

    At a Python prompt it is called, or, if it needs nothing more, just named.

    :param do: its answer: a value that shows itself, or a Deferred of one. Arguments may come as
        texts.
    :param steers: whether it is for operators alone.
    """

    name: str
    do: Callable[..., Any]
    steers: bool = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Do it."""
        return self.do(*args, **options)

    @property
    def usage(self) -> str:
        """As it is typed: ``job(number)``."""
        signature = inspect.signature(self.do)
        shown = [
            name if each.default is inspect.Parameter.empty else f"{name}={each.default!r}"
            for name, each in signature.parameters.items()
            if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        return f"{self.name}({', '.join(shown)})"

    @property
    def tells(self) -> str:
        """What it does, in a line."""
        return (inspect.getdoc(self.do) or "").partition("\n")[0]

    @property
    def plain(self) -> bool:
        """Whether it looks, and needs nothing more."""
        needed = inspect.signature(self.do).parameters.values()
        return not self.steers and all(
            each.default is not inspect.Parameter.empty for each in needed
        )

    def fit(self, width: int | None) -> str:
        """Its answer, if it needs nothing more; else how it is used."""
        return fitted(self.do() if self.plain else Text(f"{self.usage}: {self.tells}"), width)

    def __getitem__(self, at: Any) -> Any:
        return self.do()[at]

    def __iter__(self) -> Any:
        return iter(self.do())


Words = Mapping[str, Word]


def help_for(words: Words, visitor: Visitor) -> Table[Word]:
    """All words that a visitor may use."""
    mine = [word for word in words.values() if visitor.role == OPERATOR or not word.steers]
    return Table(mine, lambda word: {"word": word.usage, "does": word.tells})


def run_line(words: Words, visitor: Visitor, line: str) -> Any:
    """Do what a line of plain words says: ``job 17``, ``drain v1 new kernel``.

    No part of it is ever evaluated.

    :returns: a value that shows itself, or a Deferred of one.
    :raises Invalid: there is no such word, or it needs something else.
    :raises Forbidden: it is not for this visitor.
    """
    name, *arguments = line.split() or [""]
    word = words.get(name.removesuffix("()"))
    if word is None:
        raise Invalid(f"There is no word {name!r} here; 'help' lists them.")
    if word.steers and visitor.role != OPERATOR:
        raise Forbidden(f"{name!r} is for operators.")
    signature = inspect.signature(word.do)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in signature.parameters.values()):
        pairs = [each.partition("=") for each in arguments if "=" in each]
        options = {key: value for key, _, value in pairs}
        arguments = [each for each in arguments if "=" not in each]
    else:
        options = {}
        room = len(signature.parameters)
        if room and len(arguments) > room:
            # The last one is a text, such as a reason.
            arguments = [*arguments[: room - 1], " ".join(arguments[room - 1 :])]
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise Invalid(f"{word.usage}: {error}.") from None
    return word.do(*arguments, **options)


def shown(value: Any, width: int | None = None) -> str:
    """An answer as text, in lines of so many characters; None where nothing has to fit."""
    return "" if value is None else fitted(Text(value) if type(value) is str else value, width)
