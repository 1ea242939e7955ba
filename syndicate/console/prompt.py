"""What a person types: evaluated for operators, taken as plain words for viewers.

Both work on a terminal and without one (``ssh -T``, a pipe). Every line goes to the audit log
before anything is done about it.
"""

from __future__ import annotations

import inspect
import re
import rlcompleter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.conch.manhole import ManholeInterpreter
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from syndicate.console.tables import Shown, fitted
from syndicate.console.words import OPERATOR, VIEWER, Visitor, Words, help_for, run_line, shown
from syndicate.domain.errors import SyndicateError

#: Writes text to the person; the second says whether it comes unasked, between two lines.
Say = Callable[[str, bool], None]
#: Records a line in the audit log.
Typed = Callable[[str], None]
#: Tells how many characters a line of the terminal has; None if there is no terminal.
Width = Callable[[], int | None]

_LAST_NAME = re.compile(r"[\w.]*$")

BANNER = {
    OPERATOR: (
        "This is the Python of the running {daemon}: what takes long stops it, time.sleep too.\n"
        "help() lists the words; do(coroutine) runs one; every line is recorded.\n"
    ),
    VIEWER: "You may look at the {daemon}: 'help' lists the words; every line is recorded.\n",
}


class Interpreter(ManholeInterpreter):
    """Python, where a coroutine is run as soon as it is shown."""

    def __init__(self, handler: PythonLines, namespace: dict[str, Any], width: Width) -> None:
        super().__init__(handler, namespace)
        self._width = width

    def displayhook(self, obj: Any) -> None:
        """Show a value; run it if it is a coroutine."""
        if inspect.iscoroutine(obj):
            obj = Deferred.fromCoroutine(obj)
        if isinstance(obj, Shown):
            self.locals["_"] = obj
            self.write(fitted(obj, self._width()))
            return
        if not isinstance(obj, Deferred) or not hasattr(obj, "result"):
            super().displayhook(obj)
            return
        self.locals["_"] = obj
        obj.addCallbacks(
            lambda value: self._now(shown(value, self._width()), value), self._failed_now
        )

    def _now(self, text: str, value: Any) -> Any:
        self.write(text)
        return value

    def _failed_now(self, failure: Failure) -> None:
        # Shown is heard: it is not logged as unhandled besides.
        self.write(f"Failed: {failure.getErrorMessage()}")

    def showsyntaxerror(self, filename: str | None = None, **options: Any) -> None:
        """Show what is wrong, and what to do instead of ``await``."""
        super().showsyntaxerror(filename, **options)
        if "await" in "".join(part.decode("utf-8", "replace") for part in self.buffer):
            self.write("There is no await at the prompt; say do(…) to run a coroutine.\n")

    def _cbDisplayDeferred(self, result: Any, k: int, obj: Any) -> Any:
        if result is None:
            self.write(f"Deferred #{k} is done.", True)
        else:
            self.write(f"Deferred #{k}:\n{shown(result, self._width())}", True)
        del self._pendingDeferreds[id(obj)]
        return result

    def _ebDisplayDeferred(self, failure: Failure, k: int, obj: Any) -> None:
        self.write(f"Deferred #{k} failed: {failure.getErrorMessage()}", True)
        del self._pendingDeferreds[id(obj)]


@attrs.define(eq=False)
class PythonLines:
    """An operator's lines."""

    visitor: Visitor
    words: Words
    _say: Say
    _typed: Typed
    _width: Width
    namespace: dict[str, Any] = attrs.field(init=False)
    _interpreter: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Python's own would close the daemon's standard input besides.
        leaving = {"exit": _leave, "quit": _leave}
        self.namespace = {"__name__": "console", "__doc__": None, **leaving, **self.words}
        self._interpreter = Interpreter(self, self.namespace, self._width)

    def push(self, line: bytes) -> bool:
        """Take a line; tells whether more are needed to make sense of it.

        :raises EOFError: the person wants to leave.
        """
        text = line.decode("utf-8", "replace")
        self._typed(text)
        if text.strip() in ("exit", "quit") and not self._interpreter.buffer:
            raise EOFError
        try:
            return bool(self._interpreter.push(text.encode()))
        except SystemExit:
            # It is the person who leaves, not the daemon.
            raise EOFError from None

    @property
    def busy(self) -> bool:
        """Whether something that was shown is still to come."""
        return bool(self._interpreter._pendingDeferreds)

    def reset(self) -> None:
        """Forget the lines that made no sense yet."""
        self._interpreter.resetBuffer()

    def complete(self, text: str) -> tuple[str, list[str]]:
        """The last name of what was typed, and what it could become."""
        found = _LAST_NAME.search(text)
        name = found[0] if found else ""
        completer = rlcompleter.Completer(self.namespace)
        matches: list[str] = []
        while name and (match := completer.complete(name, len(matches))) is not None:
            # Words need no parentheses, and for the rest one has to know the arguments.
            matches.append(match.rstrip("()"))
        return name, matches

    def addOutput(self, data: str, isAsync: bool | None = None) -> None:
        """What the interpreter writes; named by its makers."""
        self._say(data, bool(isAsync))


@attrs.define(eq=False)
class VerbLines:
    """A viewer's lines: words of a fixed list, and never Python."""

    visitor: Visitor
    words: Words
    _say: Say
    _typed: Typed
    _width: Width
    _waiting: int = 0

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._waiting > 0

    def push(self, line: bytes) -> bool:
        """Take a line; it never needs another one.

        :raises EOFError: the person wants to leave.
        """
        text = line.decode("utf-8", "replace").strip()
        if text:
            self._typed(text)
            self._answer(text)
        return False

    def _answer(self, text: str) -> None:
        if text in ("exit", "quit"):
            raise EOFError
        try:
            answer = run_line(self.words, self.visitor, text)
        except SyndicateError as error:
            self._say(f"{error}\n", False)
            return
        if isinstance(answer, Deferred):
            self._waiting += 1
            answer.addCallbacks(self._shown, Failure.getErrorMessage).addCallback(self._later)
        else:
            self._say(f"{self._shown(answer)}\n", False)

    def _shown(self, answer: Any) -> str:
        return shown(answer, self._width())

    def _later(self, text: str) -> None:
        self._waiting -= 1
        self._say(f"{text}\n", True)

    def reset(self) -> None:
        """No line is kept."""

    def complete(self, text: str) -> tuple[str, list[str]]:
        """The word that was begun, and what it could become."""
        mine = [word.name for word in help_for(self.words, self.visitor)]
        return text, [name for name in mine if " " not in text and name.startswith(text)]


Lines = PythonLines | VerbLines


def lines_for(visitor: Visitor, words: Words, say: Say, typed: Typed, width: Width) -> Lines:
    """What takes a visitor's lines."""
    kind = PythonLines if visitor.role == OPERATOR else VerbLines
    return kind(visitor, words, say, typed, width)


def _leave(code: object = None) -> None:
    raise SystemExit
