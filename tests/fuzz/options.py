"""How a fuzzer is told what to do."""

from __future__ import annotations

import argparse

from twisted.logger import globalLogBeginner


def begin(what: str | None) -> argparse.Namespace:
    """Read the command line, and let nothing be logged: of what is thrown in, most is refused.

    :param what: what the fuzzer is for.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="add to the corpus what is new")
    parser.add_argument(
        "--daemon",
        action="store_true",
        help="fuzz a manager that runs by itself, through its ports and over TLS",
    )
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    return options
