"""The JSON API as a torture uses it: each request once, and what came of it told exactly."""

from __future__ import annotations

import http.client
import json
import ssl
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import attrs

from syndicate.lab.state import Description

#: Seconds to wait for an answer.
ANSWER = 6.0


class Away(Exception):
    """There was no answer: what became of the request is not known."""


@attrs.define
class Refused(Exception):
    """The manager has said no."""

    status: int
    code: str
    message: str
    #: Of a file that is not there whole: how many of its bytes are.
    held: int = 0

    @property
    def for_now(self) -> bool:
        """Whether the same request may be taken later."""
        return self.status in (
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.INSUFFICIENT_STORAGE,
            HTTPStatus.GATEWAY_TIMEOUT,
        )


class Door:
    """A way to the manager of a lab; for one thread."""

    def __init__(self, description: Description, token: str) -> None:
        where = urlsplit(description.url)
        assert where.hostname is not None
        assert where.port is not None
        self._address = where.hostname, where.port
        self._headers = {"Authorization": f"Bearer {token}"}
        self._context = ssl.create_default_context(cafile=description.authority)
        self._context.check_hostname = False  # the certificate must be of the lab's own authority
        self._kept: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        """Close what is open."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return json.loads(self.ask("GET", path))

    def post(self, path: str, body: object) -> Any:
        """Send JSON; gives what is answered."""
        return json.loads(self.ask("POST", path, json.dumps(body).encode()))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """One request.

        :raises Away: there was no answer.
        :raises Refused: it was an error.
        """
        try:
            connection = self._connection()
            connection.request(method, path, body=body, headers={**self._headers, **headers})
            answer = connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Away(f"{method} {path}: {error!r}") from error
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            refused = _refusal(answer.status, told)
            refused.held = int(answer.headers.get("X-Syndicate-Held", "0"))
            raise refused
        return told

    def send_and_go(self, path: str, body: object) -> None:
        """Send a request, and go away before it can be answered.

        :raises Away: it could not be sent.
        """
        try:
            connection = self._connection()
            connection.request("POST", path, json.dumps(body).encode(), self._headers)
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"POST {path}: {error!r}") from error
        finally:
            self.close()

    def upload(self, data: bytes, sha256: str) -> None:
        """Bring a file to the manager, if it has not got it.

        :raises Away: there was no answer.
        :raises Refused: it was an error.
        """
        path = f"/v1/blobs/{sha256}"
        try:
            self.ask("HEAD", path)
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            held = error.held
        else:
            return
        where = {"X-Syndicate-Offset": str(held), "X-Syndicate-Size": str(len(data))}
        self.ask("PUT", path, data[held:], **where)

    def file(self, job: int, path: str) -> bytes:
        """The bytes of a job's file."""
        return self.ask("GET", f"/v1/jobs/{job}/files/{quote(path)}")

    def events(self, job: int) -> list[dict[str, Any]]:
        """All events of a job."""
        found: list[dict[str, Any]] = []
        while more := self.get(f"/v1/jobs/{job}/events?after={len(found)}")["events"]:
            found += more
        return found

    def _connection(self) -> http.client.HTTPSConnection:
        if self._kept is None:
            host, port = self._address
            self._kept = http.client.HTTPSConnection(
                host, port, timeout=ANSWER, context=self._context
            )
        return self._kept


def _refusal(status: int, told: bytes) -> Refused:
    try:
        error = json.loads(told)["error"]
        return Refused(status, error["code"], error["message"])
    except (ValueError, KeyError, TypeError):
        return Refused(status, "", repr(told[:200]))
