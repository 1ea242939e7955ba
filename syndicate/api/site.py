"""The manager's HTTPS site: who may send a body, and where it goes while it comes."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.web.http import Request as AnyRequest

from syndicate.api.access import Access
from syndicate.api.app import Api
from syndicate.api.exchange import BODY_CAP, refuse
from syndicate.blobs.interface import IBlobStore
from syndicate.blobs.serve import Gathered, begin_upload
from syndicate.blobs.streaming import Sink, StreamingRequest, StreamingSite
from syndicate.domain.errors import (
    Forbidden,
    Invalid,
    NotFound,
    StorageReadOnly,
    SyndicateError,
    Unauthorized,
)

_BLOB = re.compile(rb"/v1/blobs/([0-9a-f]{64})")


def make_site(reactor: Any, api: Api, access: Access, blobs: IBlobStore) -> StreamingSite:
    """The site that serves the API. Blobs are written as they come, after their sender has been
    let in; other bodies are small and gathered, of those whom we know alone.
    """

    def begin(request: StreamingRequest, length: int | None) -> Sink | Deferred[Sink] | None:
        # Klein logs a failure of its own for either.
        if not _is_text(unquote_to_bytes(request.path)):
            raise NotFound("No such address: it is no text in UTF-8.")
        if not _is_text(request.getRequestHostname()):
            raise Invalid("The header Host is no text in UTF-8.")
        found = _BLOB.fullmatch(request.path)
        if request.method != b"PUT" or found is None:
            if length == 0:
                return None
            access.check_known(request)
            return Gathered(BODY_CAP)
        sha256 = found[1].decode()
        who, volunteer = access.sender(request)

        async def admit(size: int) -> None:
            await access.admit(request, who, sha256, size, volunteer=volunteer)

        return Deferred.fromCoroutine(begin_upload(request, length, blobs, sha256, admit))

    def answer(request: StreamingRequest, error: SyndicateError) -> bytes:
        if isinstance(error, (Unauthorized, Forbidden)):
            api.auditing.refused(request, error)
        if isinstance(error, StorageReadOnly):
            api.doubt_store()
        return refuse(request, error)

    site = _QuietSite(api.resource(), begin, answer, reactor)
    site.displayTracebacks = False
    return site


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _QuietSite(StreamingSite):
    """Does not log every request: volunteers make many, and the events tell the rest."""

    def log(self, request: AnyRequest) -> None:
        """Say nothing."""
