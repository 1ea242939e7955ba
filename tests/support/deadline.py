"""No test waits for ever.

pytest-twisted runs every test, coroutine or plain function, inside the reactor, where a Deferred
that never fires stops the whole run, and pytest-timeout's signal is swallowed by the reactor's
main loop. So there are three fences, each behind the one before:

* what a test awaits is cancelled when its time is over;
* what blocks the reactor by then is interrupted by a signal;
* what cannot be stopped at all takes the whole run with it, after a dump of all stacks.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import psutil
import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

#: Seconds a test may run, without a ``deadline`` of its own.
DEADLINE = 10.0

#: Seconds past the deadline after which the reactor must be blocked, or it would have noticed.
BLOCKED = 1.0


def deadline_of(item: pytest.Item) -> float:
    """The seconds that a test may take."""
    mark = item.get_closest_marker("deadline")
    return float(mark.args[0]) if mark else DEADLINE


def with_deadline(test: Callable[..., Any], seconds: float) -> Callable[..., Deferred[Any]]:
    """The same test, made to fail when its time is over."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> Deferred[Any]:
        # Here and not above: pytest-twisted chooses which reactor is installed.
        from twisted.internet import reactor as installed

        reactor: Any = installed
        # Not `addTimeout`, which waits for ever for a test that survives being cancelled.
        outcome: Deferred[Any] = Deferred()

        def expire() -> None:
            message = f"still waiting when its deadline of {seconds:g} s was over"
            outcome.errback(Failure(pytest.fail.Exception(message, pytrace=False)))
            running.cancel()

        def finish(result: Any) -> None:
            if timer.active():
                timer.cancel()
                outcome.callback(result)

        def disarm(result: Any) -> Any:
            alarm.close()
            return result

        alarm = contextlib.ExitStack()
        alarm.enter_context(_alarm(seconds))
        outcome.addBoth(disarm)
        timer = reactor.callLater(seconds, expire)
        running = maybeDeferred(test, *args, **kwargs)
        running.addBoth(finish)
        return outcome

    return run


@contextlib.contextmanager
def _alarm(deadline: float) -> Iterator[None]:
    """Interrupt what blocks the reactor past the deadline; only the main thread can be."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> NoReturn:
        pytest.fail(f"blocks the reactor, and its deadline of {deadline:g} s is over")

    previous = signal.signal(signal.SIGALRM, interrupt)
    # Again and again, should it catch what it is interrupted with and go on.
    signal.setitimer(signal.ITIMER_REAL, deadline + BLOCKED, BLOCKED)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def watchdog(name: str, seconds: float, stderr: int) -> Iterator[None]:
    """End this whole process when the block takes too long, and say where it hangs."""

    def bite() -> None:
        os.write(stderr, f"\n{name} cannot be stopped; after {seconds:g} s it is here:\n".encode())
        faulthandler.dump_traceback(stderr)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(pytest.ExitCode.INTERNAL_ERROR)

    dog = threading.Timer(seconds, bite)
    dog.daemon = True
    dog.start()
    try:
        yield
    finally:
        dog.cancel()
