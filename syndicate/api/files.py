"""The files that a job leaves: its machines' output, and the outputs it asked to keep."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs

from syndicate.api.logs import STREAMS
from syndicate.blobs.interface import IBlobStore, ILogStore
from syndicate.domain.errors import NotFound
from syndicate.domain.log import Decoder

#: Bytes read at a time.
CHUNK = 256 << 10


@attrs.frozen
class JobFiles:
    """Finds them by their path: ``attempt-1/slave[0].out``, ``attempt-1/slave[0]/outputs.tar``."""

    _logs: ILogStore
    _blobs: IBlobStore

    def listing(self, number: int, events: list[Any]) -> list[dict[str, Any]]:
        """All files of a job. Output has no size until it is read: it is kept in frames.

        :param events: the job's stored events.
        """
        found: list[dict[str, Any]] = [
            {"path": f"attempt-{attempt}/{machine}.{stream}", "size": None}
            for attempt, machine in self._logs.list(number)
            for stream in STREAMS.values()
        ]
        found += [
            {"path": path, "size": self._blobs.size(sha256)}
            for path, sha256 in sorted(_outputs(events).items())
            if self._blobs.size(sha256) is not None
        ]
        return found

    def find(self, number: int, events: list[Any], path: str) -> Generator[bytes]:
        """The pieces of one file.

        :raises NotFound: there is none such.
        """
        sha256 = _outputs(events).get(path)
        if sha256 is not None:
            return self._blob(sha256)
        for attempt, machine in self._logs.list(number):
            for stream, name in STREAMS.items():
                if path == f"attempt-{attempt}/{machine}.{name}":
                    return self._output(number, attempt, machine, stream)
        raise NotFound(f"Job {number} has no file {path!r}.")

    def _blob(self, sha256: str) -> Generator[bytes]:
        with self._blobs.open(sha256) as file:
            while piece := file.read(CHUNK):
                yield piece

    def _output(self, number: int, attempt: int, machine: str, stream: int) -> Generator[bytes]:
        decoder, offset = Decoder(), 0
        while data := self._logs.read(number, attempt, machine, offset, CHUNK):
            offset += len(data)
            piece = b"".join(f.data for f in decoder.feed(data) if f.stream == stream)
            if piece:
                yield piece


def _outputs(events: list[Any]) -> dict[str, str]:
    """The digest of each machine's outputs, by path."""
    return {
        f"attempt-{event['attempt']}/{event['details']['machine']}/outputs.tar": event["details"][
            "outputs"
        ]
        for event in events
        if event["details"].get("outputs")
    }
