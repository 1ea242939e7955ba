"""A line that is edited on a terminal: UTF-8, history, completion; and lines without a terminal."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.manhole import CTRL_A, CTRL_C, CTRL_D, CTRL_E, CTRL_L
from twisted.conch.recvline import HistoricRecvLine
from twisted.internet.protocol import Protocol

from syndicate.console.prompt import Lines

#: Bytes of the longest line, and lines of history.
LONGEST_LINE = 64 << 10
HISTORY = 1000


class Terminal(HistoricRecvLine):
    """Edits a line at a time, and gives it away.

    :param lines: makes what takes the lines, given what writes to this terminal.
    """

    def __init__(self, lines: Any, banner: str, prompts: tuple[bytes, bytes]) -> None:
        super().__init__()
        self._make_lines, self._banner, self.ps = lines, banner, prompts
        self._half = b""

    def connectionMade(self) -> None:
        """The terminal is there."""
        self._lines: Lines = self._make_lines(self.say)
        super().connectionMade()
        self.keyHandlers |= {
            CTRL_C: self.handle_INT,
            CTRL_D: self.handle_EOF,
            CTRL_L: self.handle_FF,
            CTRL_A: self.handle_HOME,
            CTRL_E: self.handle_END,
        }

    def initializeScreen(self) -> None:
        """Greet, below what is on the screen already."""
        self.setInsertMode()
        self.terminal.write(self._banner.encode())
        self.terminal.write(self.ps[0])

    def terminalSize(self, width: int, height: int) -> None:
        """Only noted: what is on the screen stays there."""
        self.width, self.height = width, height

    def keystrokeReceived(self, keyID: Any, modifier: Any) -> None:
        """A key, or one byte of a character in UTF-8."""
        if not isinstance(keyID, bytes) or keyID < b"\x80":
            self._half = b""
            super().keystrokeReceived(keyID, modifier)
            return
        self._half += keyID
        try:
            self._half.decode()
        except UnicodeDecodeError:
            if len(self._half) >= 4:
                self._half = b""
            return
        character, self._half = self._half, b""
        self.characterReceived(character, False)

    def characterReceived(self, ch: bytes, moreCharactersComing: bool) -> None:
        """A whole character; a line does not grow for ever."""
        if ch and len(self.lineBuffer) < LONGEST_LINE:
            super().characterReceived(ch, moreCharactersComing)

    def _deliverBuffer(self, buf: Any) -> None:
        # A line of the history, or what stood here before something was written in between.
        text = b"".join(buf) if isinstance(buf, list) else buf
        for character in text.decode("utf-8", "replace"):
            self.characterReceived(character.encode(), False)

    def handle_INT(self) -> None:
        """Ctrl-C: give up the line, not the session."""
        self.pn, self.lineBuffer, self.lineBufferIndex = 0, [], 0
        self._lines.reset()
        self.terminal.write(b"^C\n" + self.ps[0])

    def handle_EOF(self) -> None:
        """Ctrl-D: leave, unless there is something on the line."""
        if self.lineBuffer:
            self.terminal.write(b"\a")
        else:
            self.terminal.write(b"\n")
            self.terminal.loseConnection()

    def handle_FF(self) -> None:
        """Ctrl-L: an empty screen."""
        self.terminal.eraseDisplay()
        self.terminal.cursorHome()
        self.drawInputLine()

    def handle_TAB(self) -> None:
        """Complete the name that was begun, or show what it could become."""
        before = b"".join(self.lineBuffer[: self.lineBufferIndex]).decode("utf-8", "replace")
        name, matches = self._lines.complete(before)
        if not before.strip():
            for _ in range(4):
                self.characterReceived(b" ", False)
            return
        grown = _common(matches)[len(name) :]
        for character in grown:
            self.characterReceived(character.encode(), False)
        if not grown and len(matches) > 1:
            self.say("  ".join(matches) + "\n", True)

    def say(self, text: str, unasked: bool) -> None:
        """Write something; unasked, it goes above the line that is being edited."""
        if not unasked:
            self.terminal.write(text.encode())
            return
        self.terminal.write(b"\r\x1b[K" + text.encode())
        if not text.endswith("\n"):
            self.terminal.write(b"\n")
        self.terminal.write(self.ps[self.pn] + b"".join(self.lineBuffer))
        if behind := len(self.lineBuffer) - self.lineBufferIndex:
            self.terminal.cursorBackward(behind)

    def lineReceived(self, line: bytes) -> None:
        """A line is whole."""
        del self.historyLines[:-HISTORY]
        self.historyPosition = min(self.historyPosition, len(self.historyLines))
        try:
            self.pn = int(self._lines.push(line))
        except EOFError:
            self.terminal.loseConnection()
            return
        if not self.terminal.lastWrite.endswith((b"\n", b"\x1bE")):
            self.terminal.write(b"\n")
        self.terminal.write(self.ps[self.pn])


def _common(texts: list[str]) -> str:
    """What all of them begin with."""
    first, last = min(texts, default=""), max(texts, default="")
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(one for one, _ in same)


class Terminals(ServerProtocol):
    """The wire of a terminal."""

    transport: Any

    def loseConnection(self) -> None:
        """Leave, with what is on the screen left there."""
        self.transport.loseConnection()


class Plain(Protocol):
    """Lines without a terminal: no prompt, no echo, no escape sequences."""

    transport: Any

    def __init__(self, lines: Any) -> None:
        self.lines: Lines = lines(self.say)
        self._rest = b""
        self._whole = True
        self._left = False

    def dataReceived(self, data: bytes) -> None:
        """Some bytes of lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._push(line.rstrip(b"\r"))
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
            self.say("That line is too long.\n", False)

    def ended(self) -> None:
        """No more comes."""
        rest, self._rest = self._rest, b""
        if rest:
            self._push(rest)
        # An open block ends as it does in a file.
        self._push(b"")

    def _push(self, line: bytes) -> None:
        if self._left:
            return
        try:
            self.lines.push(line)
        except EOFError:
            self._left = True
            self.transport.loseConnection()
        if not self._whole:
            self.say("\n", False)

    def say(self, text: str, unasked: bool) -> None:
        """Write something; what comes unasked is on lines of its own."""
        if unasked and not text.endswith("\n"):
            text += "\n"
        if text:
            self._whole = text.endswith("\n")
            self.transport.write(text.encode())
