"""A step that is done once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Once(Generic[T]):
    """Runs a coroutine; everyone who asks gets a Deferred of their own that fires as it ends."""

    def __init__(self, doing: Coroutine[Any, Any, T]) -> None:
        self.over = False
        self._result: Any = None
        self._followers: list[Deferred[T]] = []
        self._doing = Deferred.fromCoroutine(doing)
        self._doing.addBoth(self._done)

    @property
    def result(self) -> T | None:
        """What the step gave; None while it goes on, or if it failed."""
        return None if not self.over or isinstance(self._result, Failure) else self._result

    @property
    def failed(self) -> bool:
        """Whether the step is over and has failed."""
        return self.over and isinstance(self._result, Failure)

    def follow(self) -> Deferred[T]:
        """Fires with the result, or fails with the failure, of the step."""
        mine: Deferred[T] = Deferred()
        if self.over:
            mine.callback(self._result)
        else:
            self._followers.append(mine)
        return mine

    def settled(self) -> Deferred[None]:
        """Fires when the step is over, however it ended."""
        return self.follow().addBoth(lambda _: None)

    def cancel(self) -> None:
        """Break the step off; followers see the cancellation."""
        self._doing.cancel()

    def _done(self, result: Any) -> None:
        self.over, self._result = True, result
        followers, self._followers = self._followers, []
        for follower in followers:
            if not follower.called:
                follower.callback(result)
