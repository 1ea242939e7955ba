"""What is said on a connection to the manager: one function for each kind of request.

They run in threads, and may raise any of `BROKEN` beside errors of ours.
"""

from __future__ import annotations

import http.client
import json
from typing import BinaryIO
from urllib.parse import quote

from syndicate.blobs.connections import Connection, read_all, refusal
from syndicate.blobs.interface import IBlobWriter
from syndicate.domain.errors import Invalid

#: Bytes moved at a time: few enough to stay in a processor's cache between decrypting, hashing
#: and writing.
PORTION = 256 << 10

#: What can happen to a connection.
BROKEN = (OSError, http.client.HTTPException)


def receive_blob(
    connection: Connection, token: str, sha256: str, size: int, writer: IBlobWriter
) -> None:
    """Bring in what a writer lacks of a blob.

    :raises NotFound: the manager has no such blob.
    :raises StorageFull: there is no room here.
    """
    headers = _headers(token)
    if writer.offset:
        headers["Range"] = f"bytes={writer.offset}-"
    connection.request("GET", _blob(sha256), headers=headers)
    response = connection.getresponse()
    if response.status != (206 if writer.offset else 200):
        raise refusal(response.status, read_all(response))
    if response.length != size - writer.offset:
        raise Invalid(f"The manager's blob {sha256[:12]}… does not have {size} bytes.")
    portion = memoryview(bytearray(PORTION))
    while writer.offset < size:
        count = response.readinto(portion)
        if not count:
            raise ConnectionError("the answer ended early")
        writer.write(portion[:count])


def held_at_manager(connection: Connection, token: str, sha256: str) -> int | None:
    """How much of a blob the manager has; None when that is all of it."""
    connection.request("HEAD", _blob(sha256), headers=_headers(token))
    response = connection.getresponse()
    body = read_all(response)
    if response.status == 200:
        return None
    held = response.headers.get("X-Syndicate-Held")
    if response.status != 404 or held is None:
        raise refusal(response.status, body)
    return int(held)


def send_blob(
    connection: Connection, token: str, sha256: str, size: int, file: BinaryIO, offset: int
) -> None:
    """Bring the rest of a blob to the manager.

    :raises SyndicateError: what the manager answered, before the end perhaps.
    """
    connection.putrequest("PUT", _blob(sha256))
    for name, value in {
        **_headers(token),
        "Content-Length": str(size - offset),
        "X-Syndicate-Offset": str(offset),
        "X-Syndicate-Size": str(size),
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        _send_rest(connection, size, file, offset)
    except OSError:
        # Perhaps the manager said why it listens no more.
        response = connection.getresponse()
    else:
        response = connection.getresponse()
    body = read_all(response)
    if response.status not in (200, 201):
        raise refusal(response.status, body)


def _send_rest(connection: Connection, size: int, file: BinaryIO, offset: int) -> None:
    file.seek(offset)
    buffer = bytearray(PORTION)
    portion = memoryview(buffer)
    while offset < size:
        count = file.readinto(portion[: size - offset])  # type: ignore[attr-defined]
        if not count:
            raise Invalid(f"A file has become shorter than {size} bytes while it was sent.")
        connection.send(portion[:count])
        offset += count


def send_log(
    connection: Connection, token: str, log: tuple[int, int, str], offset: int, data: bytes
) -> int:
    """Bring a portion of a log to the manager; returns the length it has there now.

    :raises Conflict: ``details["length"]`` is where it should have begun at the latest.
    """
    job, attempt, machine = log
    connection.request(
        "PUT",
        f"/v1/logs/{job}/{attempt}/{quote(machine, safe='')}?offset={offset}",
        body=data,
        headers=_headers(token),
    )
    response = connection.getresponse()
    body = read_all(response)
    if response.status != 200:
        raise refusal(response.status, body)
    try:
        return int(json.loads(body)["length"])
    except (ValueError, KeyError, TypeError) as error:
        raise http.client.HTTPException(f"no known answer to a log: {body[:80]!r}") from error


def _blob(sha256: str) -> str:
    return f"/v1/blobs/{sha256}"


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
