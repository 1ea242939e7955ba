"""Ports of the blobs room: content-addressed files, and machines' logs.

Bytes never travel on Perspective Broker; these ports sit behind the HTTPS doors of the manager
(`syndicate.api`) and before them on the volunteers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


class IBlobWriter(Interface):
    """Takes the bytes of one blob, in order, from one thread at a time."""

    offset = Attribute("Bytes held so far, those of an earlier broken try included (int).")

    def write(data: bytes | memoryview) -> None:
        """Append; hashed as it comes.

        :raises TooLarge: more than announced or allowed.
        :raises StorageFull: no room left.
        """

    def finish() -> Deferred[int]:
        """Check the digest, make it durable, and show it to readers; fires with the size.

        :raises Invalid: the bytes are not those of the digest; they are forgotten.
        :raises StorageFull: no room left.
        """

    def abandon() -> None:
        """Stop here; what is held stays for a later try to go on from. May be called again."""


class IBlobStore(Interface):
    """Files by the SHA-256 of what is in them (64 lower-case hexadecimal digits)."""

    def size(sha256: str) -> int | None:
        """The blob's size in bytes, or None when it is not held whole."""

    def held(sha256: str) -> int:
        """How many bytes of it an unfinished write has left; 0 when none, or it is whole."""

    def write(sha256: str, size: int) -> IBlobWriter:
        """Begin or go on to write a blob of ``size`` bytes.

        :raises TooLarge: ``size`` is over the store's limit for one blob.
        :raises StorageFull: the disk has no room for it.
        :raises Conflict: another writer has it in hand.
        """

    def open(sha256: str) -> BinaryIO:
        """The blob's bytes; the caller closes it. It counts as a use for the sweep.

        :raises NotFound: it is not held.
        """

    def path(sha256: str) -> Path:
        """Where the blob lies, for readers that need a path. It counts as a use.

        :raises NotFound: it is not held.
        """

    def delete(sha256: str) -> Deferred[None]:
        """Forget it at once; no error if it is not held. Open readers go on. Fires when its room
        is free.
        """

    def list() -> list[str]:
        """The digests of all blobs held whole."""

    def used(sha256: str) -> float | None:
        """When it was used last, in epoch seconds; None when it is not held whole."""

    def total() -> Deferred[int]:
        """Bytes of all blobs and of unfinished writes."""

    def free() -> int:
        """Bytes that the disk has left, beyond those that are reserved for others; 0 at least.

        :raises Unavailable: the disk cannot be asked.
        """

    def sweep(
        keep: Callable[[], frozenset[str]], capacity: int, since: float | None = None
    ) -> Deferred[Sequence[str]]:
        """Delete the least recently used blobs until at most ``capacity`` bytes are held, and
        unfinished writes that are in nobody's hand for a day.

        It may take long, and holds nobody up. Spared is what was used since it began.

        :param keep: the digests to be spared; asked for again and again while it sweeps.
        :param since: what was used at or after this time, in epoch seconds, is spared too.
        :returns: the digests deleted.
        """

    def close() -> Deferred[None]:
        """End what goes on in threads; fires when it has ended. A sweep may have come half way."""


class IBlobTransfer(Interface):
    """A volunteer's side of the manager's HTTPS door. It keeps its connections."""

    def download(sha256: str, size: int, store: IBlobStore) -> Deferred[Path]:
        """Bring a blob into ``store`` unless it is there; resumes, retries broken connections,
        and checks the digest while it streams. Two calls for one blob are one download.

        :raises NotFound: the manager has no such blob.
        :raises VolunteerLost: the manager could not be reached within the deadline.
        :raises StorageFull: there is no room here.
        """

    def upload(path: Path, sha256: str) -> Deferred[None]:
        """Bring a file to the manager's blobs; skipped when it is there; resumes."""

    def append_log(job: int, attempt: int, machine: str, offset: int, data: bytes) -> Deferred[int]:
        """Send bytes of a machine's log that begin at ``offset``; fires with the manager's
        length of it afterwards. Sending what is there already changes nothing.
        """

    def close() -> Deferred[None]:
        """Break off what is under way and close all connections."""


class ILogStore(Interface):
    """The logs of machines: append-only files of frames (`syndicate.domain.log`)."""

    def append(job: int, attempt: int, machine: str, offset: int, data: bytes) -> int:
        """Write bytes at ``offset``; what is held already is passed over.

        :returns: the log's length afterwards.
        :raises Conflict: ``offset`` is beyond the end; ``details["length"]`` says where it is.
        :raises TooLarge: over the cap for one log.
        :raises StorageFull: no room left.
        """

    def sync(job: int, attempt: int, machine: str) -> Deferred[None]:
        """Bring what is held of a log to the disk; fires once it would survive a power cut.

        :raises Unavailable: the disk failed.
        """

    def length(job: int, attempt: int, machine: str) -> int:
        """Bytes held; 0 when there is none."""

    def read(job: int, attempt: int, machine: str, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes from ``offset``."""

    def list(job: int) -> list[tuple[int, str]]:
        """``(attempt, machine)`` of all logs of a job, in order."""

    def delete(job: int) -> Deferred[None]:
        """Remove all logs of a job; nothing may be appended to them before it fires."""
