"""Bytes that come and go: blobs of users and volunteers, logs of machines."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.web.server import Request

from syndicate.api.exchange import data_of, number_of
from syndicate.blobs.serve import Upload, send_blob
from syndicate.domain.errors import Forbidden, Invalid
from syndicate.manager.service import Manager


@attrs.frozen
class Transfers:
    """The routes of bytes."""

    _manager: Manager

    async def get_blob(self, request: Request, who: str, sha256: str) -> Any:
        """``GET`` and ``HEAD /v1/blobs/<sha256>``."""
        return await send_blob(request, self._manager.blobs, sha256)

    async def put_blob(self, request: Request, who: str, sha256: str) -> Any:
        """``PUT /v1/blobs/<sha256>``: its body has come already, see `syndicate.api.site`."""
        upload = getattr(request, "sink", None)
        if not isinstance(upload, Upload):
            raise Invalid("A blob is named by 64 lower-case hexadecimal digits, and has a body.")
        size = await upload.finish()
        request.setResponseCode(201 if upload.new else 200)
        return {"sha256": sha256, "size": size}

    async def append_log(
        self, request: Request, volunteer: str, number: str, attempt: str, machine: str
    ) -> Any:
        """``PUT /v1/logs/<job>/<attempt>/<machine>``: a piece of a machine's log."""
        if not (number.isdecimal() and attempt.isdecimal()) or not self._manager.carriage.owns(
            volunteer, int(number), int(attempt), machine
        ):
            raise Forbidden(f"{volunteer} is not {machine} of attempt {attempt} of job {number}.")
        offset = int(number_of(request, b"offset", 0.0))
        length = self._manager.logs.append(
            int(number), int(attempt), machine, offset, data_of(request)
        )
        self._manager.feed.publish(int(number))
        return {"length": length}
