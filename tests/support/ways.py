"""The ways to a client's door, all with the same words, so that they are held to the same
promises.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from syndicate.client import pb, sync
from syndicate.client.kit import lay_out
from tests.support.sandboxes import the_reactor

T = TypeVar("T")


class Refused(Exception):
    """The door refused; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Way(Protocol):
    """What a client does, however it goes about it. The values are those of the JSON."""

    async def job(self) -> Any: ...
    async def fault(self, kind: str, machine: str | None, **values: Any) -> Any: ...
    async def faults(self) -> Any: ...
    async def show(self, fault: str) -> Any: ...
    async def heal(self, fault: str | None) -> Any: ...
    async def finish(self, **result: Any) -> Any: ...
    async def mark(self, name: str) -> Any: ...
    async def sample(self, op: str, ms: float, *, ok: bool) -> None: ...
    async def events(self, after: int) -> list[Any]: ...
    async def close(self) -> None: ...


def apart(function: Callable[..., T], *arguments: Any, **values: Any) -> Deferred[T]:
    """Do what blocks in a thread."""
    return deferToThread(function, *arguments, **values)


class UnixConnection(http.client.HTTPConnection):
    """HTTP as any program has it, over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("door", timeout=20)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


@attrs.define(eq=False)
class HttpWay:
    """Plain HTTP."""

    connection: UnixConnection

    @classmethod
    async def to(cls, directory: Path) -> HttpWay:
        return cls(UnixConnection(directory / "http"))

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        self.connection.request(method, path, data)
        response = self.connection.getresponse()
        value = json.loads(response.read())
        if response.status != 200:
            raise Refused(value["error"]["code"], value["error"]["message"])
        return value

    async def job(self) -> Any:
        return await apart(self._ask, "GET", "/v1/job")

    async def fault(self, kind: str, machine: str | None, **values: Any) -> Any:
        body = {key.rstrip("_"): value for key, value in values.items()}
        if machine is not None:
            body["ip" if machine[0].isdigit() else "machine"] = machine
        return await apart(self._ask, "POST", f"/v1/faults/{kind}", body)

    async def faults(self) -> Any:
        return await apart(self._ask, "GET", "/v1/faults")

    async def show(self, fault: str) -> Any:
        return await apart(self._ask, "GET", f"/v1/faults/{fault}")

    async def heal(self, fault: str | None) -> Any:
        path = "/v1/heal" if fault is None else f"/v1/faults/{fault}/heal"
        return await apart(self._ask, "POST", path)

    async def finish(self, **result: Any) -> Any:
        return await apart(self._ask, "POST", "/v1/finish", result or None)

    async def mark(self, name: str) -> Any:
        return await apart(self._ask, "POST", "/v1/marks", {"name": name})

    async def sample(self, op: str, ms: float, *, ok: bool) -> None:
        line = json.dumps({"t": 1.5, "op": op, "ms": ms, "ok": ok}).encode()
        await apart(self._ask, "POST", "/v1/samples", line)

    async def events(self, after: int) -> list[Any]:
        return await apart(self._follow, after)

    def _follow(self, after: int) -> list[Any]:
        self.connection.request("GET", "/v1/events", headers={"Last-Event-ID": str(after)})
        response = self.connection.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream"
        found = []
        for block in response.read().decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
            if "id" in fields:
                event = json.loads(fields["data"])
                assert (fields["id"], fields["event"]) == (str(event["n"]), event["kind"])
                found.append(event)
        return found

    async def close(self) -> None:
        self.connection.close()


def _told(error: sync.SyndicateError) -> Refused:
    # That it is one of the classes, and not only one that carries the code, is part of it.
    assert type(error).code == error.code, error
    return Refused(error.code, error.message)


@attrs.define(eq=False)
class SyncWay:
    """The library that blocks."""

    client: sync.Client

    @classmethod
    async def to(cls, directory: Path) -> SyncWay:
        return cls(await apart(sync.connect, str(directory / "http")))

    async def _do(self, function: Callable[[], Any]) -> Any:
        try:
            return await apart(function)
        except sync.SyndicateError as error:
            raise _told(error) from error

    async def job(self) -> Any:
        return await self._do(lambda: self.client.job)

    async def fault(self, kind: str, machine: str | None, **values: Any) -> Any:
        groups = values.pop("groups", ())
        amount = [values.pop(key) for key in ("percent", "rate", "delay") if key in values]
        words = [machine] if machine is not None else groups
        return await self._do(lambda: getattr(self.client, kind)(*words, *amount, **values))

    async def faults(self) -> Any:
        return {"faults": await self._do(lambda: self.client.faults)}

    async def show(self, fault: str) -> Any:
        return await self._do(lambda: self.client.fault(fault))

    async def heal(self, fault: str | None) -> Any:
        return await self._do(lambda: self.client.heal(fault))

    async def finish(self, **result: Any) -> Any:
        return await self._do(lambda: self.client.finish(**result))

    async def mark(self, name: str) -> Any:
        return await self._do(lambda: self.client.mark(name))

    async def sample(self, op: str, ms: float, *, ok: bool) -> None:
        self.client.sample(op, ms, ok=ok)
        await self._do(self.client.flush)

    async def events(self, after: int) -> list[Any]:
        found: list[Any] = await self._do(lambda: list(self.client.events(after)))
        return found

    async def close(self) -> None:
        await apart(self.client.close)


@attrs.define(eq=False)
class PbWay:
    """The library for Twisted."""

    client: pb.Client

    @classmethod
    async def to(cls, directory: Path) -> PbWay:
        return cls(await pb.connect(the_reactor(), str(directory)))

    async def _do(self, doing: Any) -> Any:
        try:
            return await doing
        except sync.SyndicateError as error:
            raise _told(error) from error

    async def job(self) -> Any:
        return await self._do(self.client.job)

    async def fault(self, kind: str, machine: str | None, **values: Any) -> Any:
        groups = values.pop("groups", ())
        amount = [values.pop(key) for key in ("percent", "rate", "delay") if key in values]
        words = [machine] if machine is not None else groups
        return await self._do(getattr(self.client, kind)(*words, *amount, **values))

    async def faults(self) -> Any:
        return {"faults": await self._do(self.client.faults)}

    async def show(self, fault: str) -> Any:
        return await self._do(self.client.fault(fault))

    async def heal(self, fault: str | None) -> Any:
        return await self._do(self.client.heal(fault))

    async def finish(self, **result: Any) -> Any:
        return await self._do(self.client.finish(**result))

    async def mark(self, name: str) -> Any:
        return await self._do(self.client.mark(name))

    async def sample(self, op: str, ms: float, *, ok: bool) -> None:
        self.client.sample(op, ms, ok=ok)
        await self._do(self.client.flush())

    async def events(self, after: int) -> list[Any]:
        return [event async for event in self.client.events(after)]

    async def close(self) -> None:
        await self.client.close()


@attrs.define(eq=False)
class ShellWay:
    """The command, as it lies in a sandbox."""

    socket: Path
    kit: Path

    @classmethod
    async def to(cls, directory: Path) -> ShellWay:
        kit = directory.with_name(f"{directory.name}-kit")
        kit.mkdir()
        lay_out(kit)
        return cls(directory / "http", kit)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it with these words."""
        return subprocess.run(
            [str(self.kit / "bin/syndicate-fault"), *words],
            env={**os.environ, "SYNDICATE_SOCKET": str(self.socket)},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    async def _do(self, *words: str) -> Any:
        ended = await apart(self.run, "-o", "json", *words)
        if ended.returncode:
            assert ended.returncode == 1, ended.stderr
            error = json.loads(ended.stdout)["error"]
            assert f"{error['code']}: {error['message']}" in ended.stderr
            raise Refused(error["code"], error["message"])
        return json.loads(ended.stdout)

    async def job(self) -> Any:
        return await self._do("job")

    async def fault(self, kind: str, machine: str | None, **values: Any) -> Any:
        words = [",".join(group) for group in values.pop("groups", ())]
        words += [str(values.pop(key)) for key in ("percent", "rate", "delay") if key in values]
        words += [machine] if machine is not None else []
        options = []
        if not values.pop("with_disk", True):
            options.append("--no-disk")
        if values.pop("one_way", False):
            options.append("--one-way")
        for key, value in values.items():
            options += [f"--{key.rstrip('_')}", str(value)]
        return await self._do(kind, *words, *options)

    async def faults(self) -> Any:
        return await self._do("faults")

    async def show(self, fault: str) -> Any:
        return await self._do("show", fault)

    async def heal(self, fault: str | None) -> Any:
        return await self._do("heal", *([] if fault is None else [fault]))

    async def finish(self, **result: Any) -> Any:
        words = [] if result.pop("passed", True) else ["--failed"]
        return await self._do(
            "finish", *words, *(f"--{key}={value}" for key, value in result.items())
        )

    async def mark(self, name: str) -> Any:
        return await self._do("mark", name)

    async def sample(self, op: str, ms: float, *, ok: bool) -> None:
        await self._do("sample", op, str(ms), *([] if ok else ["--failed"]))

    async def events(self, after: int) -> list[Any]:
        ended = await apart(self.run, "-o", "json", "events", "--after", str(after))
        assert ended.returncode == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    async def close(self) -> None:
        """Nothing is kept."""


WAYS: dict[str, Any] = {"http": HttpWay, "sync": SyncWay, "pb": PbWay, "shell": ShellWay}
