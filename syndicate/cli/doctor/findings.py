"""What a check finds, and how one is carried out: within its time, and whatever comes of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import attrs

from syndicate.cli import exits
from syndicate.domain.errors import SyndicateError

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"

#: Seconds that one check may take.
DEADLINE = 8.0


@attrs.frozen
class Finding:
    """What one check has found."""

    #: What was looked at: ``url``, ``sandbox``.
    check: str
    #: ``ok``; ``warn``, when something works less well than it could; ``fail``, when what the
    #: check is for does not work; ``skipped``.
    result: str
    seen: str
    #: What to do about it; empty when there is nothing to do.
    advice: str = ""
    #: The exit code that a failure asks for.
    code: int = exits.FAILED

    def row(self, part: str) -> dict[str, Any]:
        """As it is shown, and as JSON has it.

        :param part: ``cluster`` or ``host``.
        """
        told = {name: getattr(self, name) for name in ("check", "result", "seen", "advice")}
        return {"part": part, **told}


def look(
    check: str, work: Callable[[], list[Finding]], deadline: float = DEADLINE
) -> list[Finding]:
    """Carry out a check. Nothing is raised: what goes wrong is found.

    :param deadline: seconds; what is not done then is left to itself, and ends with the process.
    """
    answers: queue.SimpleQueue[list[Finding]] = queue.SimpleQueue()
    # Not of a pool: at the end of the program those are waited for.
    threading.Thread(target=lambda: answers.put(attempt(check, work)), daemon=True).start()
    try:
        return answers.get(timeout=deadline)
    except queue.Empty:
        return [Finding(check, FAIL, f"not done within {deadline:g} s", code=exits.TIMEOUT)]


def attempt(check: str, work: Callable[[], list[Finding]]) -> list[Finding]:
    """Carry out a check that keeps its time, and cleans up when it is interrupted, by itself."""
    try:
        return work()
    except SyndicateError as error:
        return [failed(check, error)]
    except OSError as error:
        return [Finding(check, FAIL, str(error))]
    except Exception as error:  # noqa: BLE001 (a host may be broken in ways that nobody thought of)
        return [Finding(check, FAIL, f"{type(error).__name__}: {error}")]


def failed(check: str, error: SyndicateError) -> Finding:
    """An error of ours as a finding: what is wrong, and behind that what to do."""
    seen, _, advice = str(error).partition("\n")
    return Finding(check, FAIL, seen, " ".join(advice.split()), exits.of_error(error))
