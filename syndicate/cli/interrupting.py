"""Ctrl-C while a job runs for us: the first asks whether it is meant, the second cancels."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from syndicate.cli.session import Session
from syndicate.domain.errors import Conflict, SyndicateError


@contextlib.contextmanager
def cancelled_by_two(session: Session, job: int) -> Iterator[None]:
    """Cancel the job at the second Ctrl-C, and go on watching how it ends; a third one leaves."""
    presses = 0
    connection = session.connection.another()

    def cancel() -> None:
        try:
            connection.post(f"/v1/jobs/{job}/cancel", {})
        except Conflict:
            pass  # it ended by itself meanwhile
        except SyndicateError as error:
            session.say(f"Job {job} is not cancelled: {error}")
        finally:
            connection.close()

    def press(signum: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            session.say(f"\nPress Ctrl-C again to cancel job {job}.")
        elif presses == 2:
            session.say(f"\nCancelling job {job}.")
            # Not here: whatever was interrupted may be in the midst of an answer.
            threading.Thread(target=cancel, daemon=True).start()
        else:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
