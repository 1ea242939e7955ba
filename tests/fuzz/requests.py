"""Requests of the JSON API that hypothesis makes up: right, wrong, or strange."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import attrs
from hypothesis import strategies as st

APP = Path(__file__).parents[2] / "syndicate/api/app.py"

ROLES = ("user", "staff", "operator", "volunteer")


@functools.cache
def routes() -> list[tuple[str, str]]:
    """Methods and paths that are served."""
    found = re.findall(r'"(GET|POST|PUT)", "(/v1/[^"]+)"', APP.read_text())
    logs = "/v1/logs/<number>/<attempt>/<machine>"
    return [
        *found,
        *((method, "/v1/blobs/<sha256>") for method in ("GET", "HEAD", "PUT")),
        ("POST", "/v1/certificates"),
        ("PUT", logs),
        ("GET", "/v1/version"),
    ]


NAMES = frozenset(part for _, path in routes() for part in path.split("/") if "<" not in part)


@attrs.frozen
class Asked:
    """One request."""

    method: str
    path: str
    #: A role, ``session``, or a secret that is none; empty for no header at all.
    who: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def encoded(self, secrets: dict[str, str]) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: x"]
        if self.who:
            lines.append(f"Authorization: Bearer {secrets.get(self.who, self.who)}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not any(
            name.lower() in ("content-length", "transfer-encoding") for name, _ in self.headers
        ):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=30),
        st.sampled_from(["1", "10m", "1G", "ann", "v1", "master", "kill", "user", "x" * 5000]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=10,
)

#: Bodies that are right, or nearly, by the end of the path.
GOOD: dict[str, list[dict[str, Any]]] = {
    "jobs": [
        {
            "submission": "fuzzer-0001",
            "no_wait": False,
            "spec": {
                "name": "a job",
                "sha256": hashlib.sha256(b"source").hexdigest(),
                "size": 6,
                "machines": 1,
                "limits": {"wall": "10m", "memory": "1G"},
                "outputs": ["*.txt"],
                "env": {"A": "b"},
                "resources": {"cores": 1},
                "clients": 0,
            },
        }
    ],
    "tokens": [{"role": "user", "user": "x", "expires_in": 60, "host": None}],
    "certificates": [{"name": "v7", "request": "-----BEGIN CERTIFICATE REQUEST-----"}],
    "faults": [{"machine": "master", "for": "5s", "with_disk": True, "groups": [["master"]]}],
    "volunteers": [{"reason": "because"}],
}


@st.composite
def near(draw: st.DrawFn, value: Any) -> Any:
    """A value like another one, here and there something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(PLAIN)
    if isinstance(value, dict):
        made = {key: draw(near(each)) for key, each in value.items()}
        if made and draw(st.integers(0, 5)) == 0:
            del made[draw(st.sampled_from(sorted(made)))]
        if draw(st.integers(0, 5)) == 0:
            made[draw(st.text(max_size=10))] = draw(PLAIN)
        return made
    if isinstance(value, list):
        return [draw(near(each)) for each in value]
    return value


SEGMENTS = st.one_of(
    st.sampled_from(
        [
            *(
                "1",
                "2",
                "latest",
                "0",
                "-1",
                "17",
                "99999999999999999999",
                "1e3",
                "%00",
                "..",
                "%2e",
            ),
            *("v1", "master", "slave%5B0%5D", "kill", "heal", "partition", "%ff", "a%2Fb", ""),
            *(
                "attempt-1/master.out",
                "attempt-1/master/outputs.tar",
                "attempt-9/x",
                "../../ca.key",
            ),
            *(hashlib.sha256(b"source").hexdigest(), "0" * 64, "f" * 63, "A" * 64, "x" * 3000),
        ]
    ),
    st.text("abc/.%0123[]?&=;:@~'\"", max_size=20),
)
QUERIES = st.sampled_from(
    [
        *(
            "",
            "",
            "",
            "?all=1",
            "?state=queued,running",
            "?state=nonsense",
            "?limit=0",
            "?limit=-1",
        ),
        *(
            "?limit=1e400",
            "?limit=nan",
            "?dry_run=1",
            "?after=0",
            "?after=-5",
            "?after=x",
            "?offset=0",
        ),
        *("?follow=1", "?tail=5", "?tail=1e11", "?until=finished&timeout=0", "?timeout=inf"),
        *("?machine=master&stream=out", "?machine=%00", "?since=1e300", "?attempt=1", "?attempt=9"),
        *(
            "?offset=999999999999",
            "?kind=person&who=ann",
            "?kind=none",
            "?a=%ff%fe",
            "?&&=&=;",
            "?x",
        ),
    ]
)
HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(("Accept", "text/event-stream"), ("Last-Event-ID", "3"), ("Last-Event-ID", "x")),
                *(("Range", "bytes=0-"), ("Range", "bytes=99-"), ("Range", "bytes=-")),
                *(("X-Syndicate-Offset", "0"), ("X-Syndicate-Offset", "-1")),
                *(("X-Syndicate-Size", "6"), ("X-Syndicate-Size", "999999999999999999")),
                *(("Idempotency-Key", "k"), ("Idempotency-Key", "k" * 5000)),
                *(("Content-Length", "0"), ("Content-Length", "5"), ("Content-Length", "x")),
                *(("Content-Length", "99999999999999999999"), ("Transfer-Encoding", "chunked")),
                *(
                    ("Expect", "100-continue"),
                    ("Content-Encoding", "gzip"),
                    ("Connection", "close"),
                ),
                *(("Authorization", "Basic eDp5"), ("Authorization", "Bearer"), ("Upgrade", "h2c")),
            ]
        ),
        st.tuples(
            st.text("abcXY-", min_size=1, max_size=10),
            st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40),
        ),
    ),
    max_size=3,
).map(tuple)


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    """A request that may mean something, or not."""
    method, path = draw(st.sampled_from(routes()))
    parts = path.strip("/").split("/")
    for at, part in enumerate(parts):
        if part.startswith("<") or draw(st.integers(0, 30)) == 0:
            parts[at] = draw(SEGMENTS)
    if draw(st.integers(0, 15)) == 0:
        method = draw(
            st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "X"])
        )
    who = draw(
        st.sampled_from([*ROLES, "session", "wrong", "", "\udcff", "syn_" + "x" * 43, "staff"])
    )
    kind = next((word for word in reversed(parts) if word in GOOD), "")
    if draw(st.integers(0, 6)) == 0:
        body = draw(st.binary(max_size=60))
    elif kind and draw(st.integers(0, 6)):
        body = json.dumps(draw(near(draw(st.sampled_from(GOOD[kind]))))).encode()
    else:
        body = json.dumps(draw(PLAIN)).encode()
    if draw(st.integers(0, 40)) == 0:
        body = draw(st.sampled_from([b"[" * 5000, b"{" * 5000, b'{"a":' * 2000]))
    path = "/" + "/".join(parts) + draw(QUERIES)
    return Asked(method, re.sub(r"[\s\x00-\x20]", "+", path), who, body, draw(HEADERS))
