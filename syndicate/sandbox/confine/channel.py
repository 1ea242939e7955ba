"""What a launcher reports, on descriptor 3: lines of plain words, then raw bytes if any.

======================  ========================================================================
``init <pid>``          the first process of the new namespace, as the host numbers it
``executed``            the program has been executed
``short <name> ...``    what the program had used up as it ended, if anything; comes before:
``ended code <n>``      the program itself has ended; likewise ``ended signal <n>``
``refused <sentence>``  the input breaks the rules
``failed <n> <text>``   the host could not do it; ``n`` is the errno or 0
``done <n> <n> <n>``    done; the numbers depend on the order, raw bytes follow up to the end
======================  ========================================================================
"""

from __future__ import annotations

import os

#: The descriptor that the daemon reads the reports from.
CHANNEL = 3


def say(*words: object, data: bytes = b"") -> None:
    """Send one report."""
    line = " ".join(str(word) for word in words)
    rest = memoryview(line.replace("\n", " ").encode("utf-8", "replace") + b"\n" + data)
    while rest:
        rest = rest[os.write(CHANNEL, rest) :]


def say_failed(error: BaseException) -> None:
    """Report that something could not be done on this host."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    say("failed", number or 0, text)
