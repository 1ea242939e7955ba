"""For benchmark clients that are Twisted programs: as `syndicate.client.sync`, but nothing blocks.

::

    from syndicate.client.pb import connect

    async def main(reactor):
        c = await connect(reactor)
        fault = await c.kill(c.slaves[1])
        async with c.disconnected(c.slaves[0]):
            with c.timed("put"):
                await put("k", 1)
        await c.finish(passed=True)

Every method gives a Deferred that fails with the errors of `syndicate.client.sync`. Beside Twisted
and that file nothing is needed. What crosses is JSON in bytes, so that Perspective Broker never
has to make an object out of what a peer says.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from errno import EACCES, ENOENT
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.spread import pb

from syndicate.client import sync
from syndicate.client.sync import Fault, Machine

log = Logger()

#: Samples that go at once: Perspective Broker takes no string of more than 640 KiB.
BATCH = 1000


class Refusal(pb.Error, pb.Copyable, pb.RemoteCopy):
    """An error on its way: its code, its message, and details as JSON.

    Perspective Broker restores attributes of such an object, never its ``args``.
    """

    code = "internal"
    message = ""
    details = "{}"

    def __init__(self, code: str, message: str, details: str) -> None:
        super().__init__(code, message)
        self.code, self.message, self.details = code, message, details

    def getTypeToCopy(self) -> bytes:
        """Its name on the wire; both ends know it by that."""
        return b"syndicate.client.Refusal"

    def getStateToCopy(self) -> dict[str, str]:
        """Only the three fields cross."""
        return {"code": self.code, "message": self.message, "details": self.details}

    def setCopyableState(self, state: dict[str, object]) -> None:
        """Take the three fields, as text, whatever the peer sent."""
        for name in ("code", "message", "details"):
            setattr(self, name, str(state.get(name, "")))


pb.setUnjellyableForClass("syndicate.client.Refusal", Refusal)


class Wire:
    """Calls through the door, over one connection that is made again when it breaks."""

    def __init__(self, reactor: Any, path: str | None, timeout: float) -> None:
        self.path = sync.socket_path(path, "pb")
        self.reactor = reactor
        self._timeout = timeout
        self._root: Any = None
        self._connecting = DeferredLock()

    async def call(self, verb: str, *arguments: Any, token: str | None = None) -> Any:
        """Call a remote method; gives the value that it answers with.

        A call whose connection breaks is made again with the same token, by which the door knows
        that it is the same.

        :raises SyndicateError: the door refuses, or does not answer.
        """
        token = token or os.urandom(16).hex()
        for pause in (*sync.PAUSES, None):
            try:
                root = await self._connected()
                called = root.callRemote(verb, *arguments, token)
                return json.loads(await called.addTimeout(self._timeout, self.reactor))
            except Refusal as error:
                raise _error_of(error) from None
            except TimeoutError:
                raise sync.Timeout(
                    f"The door did not answer {verb} within {self._timeout:g} s."
                ) from None
            except (
                ConnectError,
                ConnectionClosed,
                pb.PBConnectionLost,
                pb.DeadReferenceError,
            ) as error:
                self._root = None
                if pause is None or getattr(error, "osError", None) in (ENOENT, EACCES):
                    raise sync.NoDoor(f"Nobody answers at {self.path}: {error}") from error
                await deferLater(self.reactor, pause)
        raise AssertionError("the last pause is none")

    async def _connected(self) -> Any:
        """The door's root object."""
        await self._connecting.acquire()
        try:
            if self._root is None or self._root.broker.disconnected:
                factory = pb.PBClientFactory()
                factory.noisy = False
                endpoint = UNIXClientEndpoint(self.reactor, self.path)
                broker = await endpoint.connect(factory)
                found = factory.getRootObject()
                # Of a connection that is lost by now the factory would never hear.
                broker.notifyOnDisconnect(lambda: _fail(found))
                self._root = await found.addTimeout(self._timeout, self.reactor)
            return self._root
        finally:
            self._connecting.release()

    async def close(self) -> None:
        """End the connection."""
        root, self._root = self._root, None
        if root is not None and not root.broker.disconnected:
            lost: Deferred[None] = Deferred()
            root.broker.notifyOnDisconnect(lambda: lost.callback(None))
            root.broker.transport.loseConnection()
            await lost


def _fail(waiting: Deferred[Any]) -> None:
    if not waiting.called:
        waiting.errback(pb.PBConnectionLost("the door closed the connection"))


def _error_of(refusal: Refusal) -> sync.SyndicateError:
    try:
        details = json.loads(refusal.details)
    except ValueError:
        details = None
    told = {"code": refusal.code, "message": refusal.message, "details": details}
    return sync.error_of(told)


class Sampler:
    """Gathers samples and sends them in batches."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lines: deque[str] = deque()
        self._unsent: list[tuple[bytes, str]] = []
        self._sending = DeferredLock()
        self._due: Any = None
        self._problem: sync.SyndicateError | None = None

    def add(self, line: str) -> None:
        """Take a sample.

        :raises Unavailable: too many wait already.
        """
        if len(self._lines) >= sync.MOST_SAMPLES:
            raise sync.Unavailable(
                "Too many samples wait to be sent; await c.flush() now and then."
            )
        self._lines.append(line)
        if self._due is None:
            self._due = self._wire.reactor.callLater(sync.GATHER, self._send_soon)

    def _send_soon(self) -> None:
        self._due = None
        # What fails here is told by the next `flush`, which every client comes to.
        Deferred.fromCoroutine(self._send_all()).addErrback(
            lambda failure: failure.trap(sync.SyndicateError) and None
        )

    async def flush(self) -> None:
        """Send what there is.

        :raises SyndicateError: it, or something earlier, could not be sent.
        """
        if self._due is not None:
            self._due.cancel()
            self._due = None
        await self._send_all()
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    async def _send_all(self) -> None:
        await self._sending.acquire()
        try:
            while self._unsent or self._lines:
                await self._send_some()
        finally:
            self._sending.release()

    async def _send_some(self) -> None:
        if not self._unsent:
            count = min(len(self._lines), BATCH)
            batch = "".join(self._lines.popleft() for _ in range(count)).encode()
            self._unsent.append((batch, os.urandom(16).hex()))
        lines, token = self._unsent[0]
        try:
            await self._wire.call("samples", lines, token=token)
        except (sync.NoDoor, sync.Timeout, sync.Unavailable):
            raise  # and again the same batch, by the same token
        except sync.SyndicateError as error:
            self._problem = error
        del self._unsent[0]


class Client:
    """One benchmark client's power over its own job; made by `connect`.

    Its names, and what they mean, are those of `syndicate.client.sync.Client`. What that gives
    each of these gives by a Deferred, `master`, `slaves`, `clients`, `me` and `seed` excepted.
    """

    def __init__(self, wire: Wire, told: dict[str, Any]) -> None:
        self._wire = wire
        self._samples = Sampler(wire)
        self.me: str = told["me"]
        self.seed: int = told["seed"]
        self._machines = [Machine.of(machine) for machine in told["machines"]]
        # What nobody has closed by then would leave its samples unsent.
        self._at_exit: Any = wire.reactor.addSystemEventTrigger("before", "shutdown", self._end)

    # What there is.

    @property
    def job(self) -> Deferred[dict[str, Any]]:
        """The job as it stands now."""
        return self._call("job")

    @property
    def master(self) -> Machine:
        """The master."""
        return self._of("master")[0]

    @property
    def slaves(self) -> list[Machine]:
        """The slaves, in order."""
        return self._of("slave")

    @property
    def clients(self) -> list[Machine]:
        """The benchmark clients, in order; this one is among them."""
        return self._of("client")

    def _of(self, role: str) -> list[Machine]:
        return [machine for machine in self._machines if machine.role == role]

    @property
    def faults(self) -> Deferred[list[Fault]]:
        """All faults of the attempt."""
        return Deferred.fromCoroutine(self._all_faults())

    async def _all_faults(self) -> list[Fault]:
        found: list[Fault] = []
        more = True
        while more:
            # One message cannot carry thousands.
            told = await self._call("faults", int(found[-1]["id"][1:]) if found else 0)
            found += map(Fault, told["faults"])
            more = bool(told["more"] and told["faults"])
        return found

    def fault(self, which: Fault | str) -> Deferred[Fault]:
        """What became of one fault: by its id, such as ``f3``, or by what the error of a call
        whose answer was lost, `sync.Unknown`, has in ``details["fault"]``.

        :raises NotFound: the job has none such: it was never asked for.
        """
        name = which["id"] if isinstance(which, sync.Fault) else which
        return self._call("show", str(name).encode()).addCallback(Fault)

    async def events(self, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """The job's events, those that were and those to come; ends with the job."""
        while True:
            try:
                events = await self._call("events", after)
            except sync.Revoked:
                return
            for event in events:
                after = event["n"]
                yield event

    # Faults.

    def _call(self, verb: str, *arguments: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._wire.call(verb, *arguments))

    def _fault(self, kind: str, machine: str | None, **values: Any) -> Deferred[Fault]:
        body = json.dumps(sync.fault_body(machine, **values)).encode()
        return self._call(kind, body).addCallback(Fault)

    def kill(self, machine: str, *, for_: str | float | None = None) -> Deferred[Fault]:
        """Kill every process of a machine."""
        return self._fault("kill", machine, for_=for_)

    def revive(self, machine: str, *, with_disk: bool = True) -> Deferred[Fault]:
        """Start a killed machine's target again."""
        return self._fault("revive", machine, with_disk=with_disk)

    def disconnect(self, machine: str, *, for_: str | float | None = None) -> Deferred[Fault]:
        """Cut a machine off from every master and slave, both ways."""
        return self._fault("disconnect", machine, for_=for_)

    def reconnect(self, machine: str) -> Deferred[Fault]:
        """Undo `disconnect`."""
        return self._fault("reconnect", machine)

    def pause(self, machine: str, *, for_: str | float | None = None) -> Deferred[Fault]:
        """Freeze every process of a machine."""
        return self._fault("pause", machine, for_=for_)

    def resume(self, machine: str) -> Deferred[Fault]:
        """Undo `pause`."""
        return self._fault("resume", machine)

    def partition(
        self,
        *groups: str | Sequence[str],
        shape: str = "split",
        one_way: bool = False,
        for_: str | float | None = None,
    ) -> Deferred[Fault]:
        """Let machines of different groups not reach each other."""
        named = [[str(g)] if isinstance(g, str) else [str(m) for m in g] for g in groups]
        values = {"groups": named, "shape": shape, "one_way": one_way}
        return self._fault("partition", None, for_=for_, **values)

    def loss(
        self, machine: str, percent: float, *, for_: str | float | None = None
    ) -> Deferred[Fault]:
        """Lose some percent of the packets that a machine sends."""
        return self._fault("loss", machine, percent=percent, for_=for_)

    def rate(
        self, machine: str, rate: str | float, *, for_: str | float | None = None
    ) -> Deferred[Fault]:
        """Let a machine send only so many bytes per second."""
        return self._fault("rate", machine, rate=rate, for_=for_)

    def delay(
        self, machine: str, delay: str | float, *, for_: str | float | None = None
    ) -> Deferred[Fault]:
        """Hold back what a machine sends."""
        return self._fault("delay", machine, delay=delay, for_=for_)

    def heal(self, fault: Fault | str | None = None) -> Deferred[dict[str, Any]]:
        """Undo one fault, or all."""
        which = fault["id"] if isinstance(fault, dict) else fault
        return self._call("heal", json.dumps({} if which is None else {"id": which}).encode())

    # Faults for the time of a block.

    @contextlib.asynccontextmanager
    async def killed(self, machine: str, *, with_disk: bool = True) -> AsyncIterator[Fault]:
        """A machine is dead within the block, and revived at its end."""
        fault = await self.kill(machine)
        try:
            yield fault
        finally:
            with contextlib.suppress(sync.AlreadyRunning):
                await self.revive(machine, with_disk=with_disk)

    @contextlib.asynccontextmanager
    async def disconnected(self, machine: str) -> AsyncIterator[Fault]:
        """A machine is cut off within the block."""
        fault = await self.disconnect(machine)
        try:
            yield fault
        finally:
            await self.reconnect(machine)

    @contextlib.asynccontextmanager
    async def paused(self, machine: str) -> AsyncIterator[Fault]:
        """A machine is frozen within the block."""
        fault = await self.pause(machine)
        try:
            yield fault
        finally:
            await self.resume(machine)

    @contextlib.asynccontextmanager
    async def _healed(self, doing: Deferred[Fault]) -> AsyncIterator[Fault]:
        fault = await doing
        try:
            yield fault
        finally:
            await self.heal(fault)

    def partitioned(
        self, *groups: str | Sequence[str], shape: str = "split", one_way: bool = False
    ) -> contextlib.AbstractAsyncContextManager[Fault]:
        """The machines are partitioned within the block."""
        return self._healed(self.partition(*groups, shape=shape, one_way=one_way))

    def lossy(self, machine: str, percent: float) -> contextlib.AbstractAsyncContextManager[Fault]:
        """A machine loses packets within the block."""
        return self._healed(self.loss(machine, percent))

    def throttled(
        self, machine: str, rate: str | float
    ) -> contextlib.AbstractAsyncContextManager[Fault]:
        """A machine sends slowly within the block."""
        return self._healed(self.rate(machine, rate))

    def delayed(
        self, machine: str, delay: str | float
    ) -> contextlib.AbstractAsyncContextManager[Fault]:
        """A machine sends late within the block."""
        return self._healed(self.delay(machine, delay))

    # What was seen.

    def timed(self, op: str) -> sync.Timed:
        """Measure a block of code."""
        return sync.Timed(self.sample, op)

    def sample(self, op: str, ms: float, *, ok: bool = True, t: float | None = None) -> None:
        """Note one measurement; it is sent soon, with others."""
        self._samples.add(sync.sample_line(op, ms, ok, t))

    def flush(self) -> Deferred[None]:
        """Send the samples that were noted so far."""
        return Deferred.fromCoroutine(self._samples.flush())

    def mark(self, name: str) -> Deferred[dict[str, Any]]:
        """Note a moment among the job's events."""
        return self._call("mark", json.dumps({"name": name}).encode())

    def finish(
        self, passed: bool = True, score: float | None = None, notes: str = ""
    ) -> Deferred[dict[str, Any]]:
        """The client is done; samples are sent before."""
        return Deferred.fromCoroutine(self._finish(passed, score, notes))

    async def _finish(self, passed: bool, score: float | None, notes: str) -> dict[str, Any]:
        await self._samples.flush()
        told = sync.result_body(passed, score, notes)
        finished: dict[str, Any] = await self._wire.call("finish", json.dumps(told).encode())
        return finished

    def close(self) -> Deferred[None]:
        """Send the samples that are left, and end the connection."""
        return Deferred.fromCoroutine(self._close())

    def _end(self) -> Deferred[None]:
        self._at_exit = None
        return self.close().addErrback(
            lambda failure: log.warn(
                "samples were not sent: {why}",
                why=failure.trap(sync.SyndicateError) and failure.value,
            )
        )

    async def _close(self) -> None:
        if self._at_exit is not None:
            self._wire.reactor.removeSystemEventTrigger(self._at_exit)
            self._at_exit = None
        try:
            await self._samples.flush()
        finally:
            await self._wire.close()


def connect(
    reactor: Any, path: str | None = None, timeout: float = sync.TIMEOUT
) -> Deferred[Client]:
    """Knock on the door of this client.

    :param path: the door's directory or its socket; None for what ``SYNDICATE_SOCKET`` says.
    :param timeout: seconds that an answer may take.
    :raises NoDoor: this is no benchmark client, or there is nobody behind the door.
    """
    return Deferred.fromCoroutine(_connect(reactor, path, timeout))


async def _connect(reactor: Any, path: str | None, seconds: float) -> Client:
    wire = Wire(reactor, path, seconds)
    return Client(wire, await wire.call("job"))
