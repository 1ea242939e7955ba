"""Port of the client room: what stands behind the door inside a client's sandbox.

Everything is plain: JSON objects go in and come out. Who has reached the door is known to it;
what may be asked is decided by the manager alone.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface


class IHandle(Interface):
    """One client's power over its own job. All Deferreds may fail with a `SyndicateError`."""

    def job() -> Deferred[dict[str, Any]]:
        """Job, attempt, seed, this client's name, the machines, and what is supported."""

    def fault(kind: str, arguments: dict[str, Any], token: str | None) -> Deferred[dict[str, Any]]:
        """Do a fault; fires once it is in force and verified.

        :param kind: a value of `syndicate.domain.fault.Kind`.
        :param arguments: the body of the request, such as ``{"machine": "slave[0]"}``.
        :param token: the same one again is the same fault (``Idempotency-Key``).
        """

    def faults(after: int | None = None) -> Deferred[dict[str, Any]]:
        """All faults of the attempt: ``{"faults": [...], "more": False}``.

        :param after: only those with numbers above this, and of these as many as one message of
            the wire surely carries; ``more`` tells whether there are others.
        """

    def show(which: str) -> Deferred[dict[str, Any]]:
        """One fault, and what became of it.

        :param which: its id, such as ``f3``, or the key that it was asked for with.
        :raises NotFound: the job has none such.
        """

    def finish(result: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """The client is done: ``passed``, ``score`` and ``notes``, all optional."""

    def mark(name: str) -> Deferred[dict[str, Any]]:
        """Note a moment, such as the begin of a phase, in the job's events."""

    def samples(lines: bytes) -> Deferred[dict[str, Any]]:
        """Keep measurements, JSON lines of ``t``, ``op``, ``ms``, ``ok``; fires with
        ``{"accepted": n}`` once they are safe on the volunteer.

        :raises Invalid: a line is no sample; none of the lines is kept.
        """

    def events(after: int) -> Deferred[list[dict[str, Any]]]:
        """Events of the job with numbers above ``after``; waits until there is one."""
