"""HTTP whose requests do not end where they say, and what comes back on one connection.

`smuggled` are requests whose body, or whose end, can be told in two ways, with another request
hidden in it. Nobody may read the hidden one as a request; `canary` would make a token for `CANARY`.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from io import BytesIO
from random import Random

import attrs

from tests.fuzz.attacked import CANARY

#: Headers that tell how long a body is, and are none, or contradict each other: whoever gets them
#: must not take what follows for another request. ``%d`` is the length of what looks like a body.
MALFORMED = (
    "Content-Length: %d\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: %d",
    "Content-Length: %d\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: %d",
    "Content-Length: +%d",
    "Content-Length: -%d",
    "Content-Length: 0x%d",
    "Content-Length: %d.0",
    "Content-Length: %d_0",
    "Content-Length: %d, 0",
    "Content-Length: %d 0",
    "Content-Length: \xb2",
    "Content-Length:",
    "Content-Length: 1e1",
    "Content-Length: 99999999999999999999999999",
    "Content-Length : %d",
    "Content-Length: %d\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding\r\n: chunked",
)

#: Chunks that are none, each where the size of one should be.
CHUNKS = (
    *("0x0\r\n\r\n", "-0\r\n\r\n", "+0\r\n\r\n", " 0\r\n\r\n", "\r\n", ";\r\n\r\n", "g\r\n\r\n"),
    *("0_0\r\n\r\n", "1\r\nxx0\r\n\r\n", "1\r\nx0\r\n\r\n", "5\r\nab\r\n0\r\n\r\n", "0\n\n"),
    *("f" * 30 + "\r\n", "0" * 3000 + "\r\n\r\n", "0;" + "x" * 70000 + "\r\n\r\n"),
)


def post(path: str, body: object, *headers: str) -> bytes:
    """A request with a body in JSON."""
    data = json.dumps(body)
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", data]).encode()


def canary(secret: str) -> bytes:
    """A request to a manager that must not be read as one."""
    return post("/v1/tokens", {"role": "user", "user": CANARY}, f"Authorization: Bearer {secret}")


def smuggled(random: Random, hidden: bytes, starts: Sequence[str], *headers: str) -> bytes:
    """A request with another one hidden in it, or behind what is no end of it.

    :param starts: the method and the path that it may have.
    """
    head = "\r\n".join([f"{random.choice(starts)} HTTP/1.1", "Host: x", *headers, ""])
    match random.randrange(4):
        case 0:  # in a body, by a length that is right
            return f"{head}Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden
        case 1:  # in a chunk
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
            return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
        case 2:
            chunk = random.choice(CHUNKS).encode()
            return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + hidden
        case _:
            said = random.choice(MALFORMED)
            body = random.choice(("", "0\r\n\r\n", "x" * 5))
            header = said % len(body) if "%" in said else said
            return f"{head}{header}\r\n\r\n{body}".encode("latin-1") + hidden


def huge(random: Random) -> bytes:
    """A head that has no end, or nearly."""
    count = random.choice((10, 500, 3000, 20_000, 300_000))
    return random.choice(
        (
            b"GET /" + b"x" * count + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"y" * count + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (count // 6) + b"\r\n",
            b"GET / HTTP/1.1\r\nX: y\r\n" + b" z\r\n" * (count // 4) + b"\r\n",
            b"\r\n" * (count // 2) + b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n",
            b"G" * count,
            b"GET / HTTP/1." + b"1" * count + b"\r\n\r\n",
            b"GET  /  HTTP/1.1\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET / HTTP/0.9\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
            b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
            b"GET / HTTP/1.1\r\nX\x00: y\x00\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\n\r\n",
            b"GET http://x/v1/version HTTP/1.1\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\n\r\n",
            b"GET \xff\xfe HTTP/1.1\r\n\r\n",
        )
    )


def chunked(random: Random, request: bytes) -> bytes:
    """The same request, its body in chunks."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [each for each in head.split(b"\r\n") if not each.lower().startswith(b"content-length")]
    made = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""])
    while body:
        size = random.choice((1, 3, 16, 1000))
        extension = random.choice((b"", b"", b";a=b", b";" + b"x" * 50))
        made += b"%x%b\r\n%b\r\n" % (len(body[:size]), extension, body[:size])
        body = body[size:]
    return made + b"0\r\n" + random.choice((b"", b"", b"X: y\r\n")) + b"\r\n"


@attrs.frozen
class Reply:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Kept(BytesIO):
    """Stays open when the answers' reader has read one."""

    def makefile(self, mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass


def replies(data: bytes, methods: Sequence[str], ended: bool = False) -> list[Reply]:
    """The answers that have come whole, to requests with these methods.

    :param ended: the connection was closed, which ends an answer that does not tell its length.
    :raises http.client.HTTPException: what comes is no answer.
    """
    found: list[Reply] = []
    stream = _Kept(data)
    for method in methods:
        start = stream.tell()
        if b"\r\n\r\n" not in data[start:]:
            break
        response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
        except http.client.RemoteDisconnected:  # after a 100 that was not the last word
            break
        told = response.headers.get("Content-Length")
        endless = told is None and not response.chunked and method != "HEAD"
        try:
            body = response.read()
        except http.client.IncompleteRead:
            break
        if endless and not ended and response.status not in (204, 304):
            break
        found.append(Reply(response.status, response.headers, body))
    return found
