"""The manager's HTTPS door for blobs and logs without a manager, and a link to it that breaks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.protocols.portforward import (
    ProxyClient,
    ProxyClientFactory,
    ProxyFactory,
    ProxyServer,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from syndicate.blobs.interface import IBlobStore, ILogStore
from syndicate.blobs.serve import Gathered, Upload, begin_upload, let_in, send_blob
from syndicate.blobs.streaming import Sink, StreamingRequest, StreamingSite
from syndicate.credentials.authority import Authority
from syndicate.domain.errors import SyndicateError, Unauthorized

#: Most bytes of a portion of a log.
PORTION = 1 << 20


def tls(authority: Authority, factory: Any) -> TLSMemoryBIOFactory:
    """The factory, behind the authority's certificate."""
    # Not of Twisted's own classes, which pyOpenSSL warns of.
    key: Any = load_pem_private_key(authority.key_file.read_bytes(), None)
    certificate: Any = load_pem_x509_certificate(authority.certificate_file.read_bytes())
    options = CertificateOptions(
        privateKey=key, certificate=certificate, raiseMinimumTo=TLSVersion.TLSv1_2
    )
    return TLSMemoryBIOFactory(options, False, factory)


@attrs.define(eq=False)
class Door:
    """Serves two stores over HTTPS on a port of its own."""

    reactor: Any
    authority: Authority
    blobs: IBlobStore
    logs: ILogStore
    #: The only token that is good.
    token: str = "good"
    #: Errors to answer the next requests with.
    refusals: list[SyndicateError] = attrs.field(factory=list)
    #: Method, path and the headers that matter, of each request so far.
    requests: list[tuple[str, str, str | None]] = attrs.field(factory=list)
    connections: int = 0
    ports: list[IListeningPort] = attrs.field(factory=list)
    #: What uploads wait for, with their size told.
    admit: Callable[[int], Awaitable[None]] = let_in
    port: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        site = StreamingSite(_Tree(self), self._begin, refuse, self.reactor)
        site.log = lambda request: None  # type: ignore[method-assign]
        self.port = self.listen(tls(self.authority, _Counting(self, site)))

    def listen(self, factory: Any) -> int:
        """Listen on a port until `close`."""
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.ports.append(port)
        return int(port.getHost().port)

    def weak_link(self, *limits: int | None) -> int:
        """A port that leads here: each connection breaks after so many bytes towards its client,
        or never; those past the last limit never do.
        """
        return self.listen(_WeakLink(self.port, list(limits)))

    async def close(self) -> None:
        """Listen no more."""
        for port in self.ports:
            await maybeDeferred(port.stopListening)

    def _begin(self, request: StreamingRequest, length: int | None) -> Sink | Deferred[Sink] | None:
        position = request.getHeader("range") or request.getHeader("x-syndicate-offset")
        self.requests.append((request.method.decode(), request.uri.decode(), position))
        if request.getHeader("authorization") != f"Bearer {self.token}":
            raise Unauthorized("The token is not known here.")
        if self.refusals:
            raise self.refusals.pop(0)
        if request.method != b"PUT":
            return None
        if request.path.startswith(b"/v1/blobs/"):
            name = request.path.decode().split("/")[-1]
            begun = begin_upload(request, length, self.blobs, name, self.admit)
            return Deferred.fromCoroutine(begun)
        return Gathered(PORTION)


class _Tree(Resource):
    isLeaf = True

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    def render(self, request: StreamingRequest) -> int:
        def told(result: bytes | Failure) -> None:
            if isinstance(result, Failure):
                if request._disconnected:
                    return
                error = result.value
                assert isinstance(error, SyndicateError), result.getTraceback()
                result = refuse(request, error)
            if not request._disconnected:
                request.write(result)
                request.finish()

        Deferred.fromCoroutine(self._answer(request)).addBoth(told)
        return NOT_DONE_YET

    async def _answer(self, request: StreamingRequest) -> bytes:
        kind, *names = request.path.decode().removeprefix("/v1/").split("/")
        if kind == "logs":
            assert isinstance(request.sink, Gathered)
            job, attempt, machine = names
            name = int(job), int(attempt), machine.replace("%5B", "[").replace("%5D", "]")
            offset = int(request.args[b"offset"][0])
            length = self._door.logs.append(*name, offset, bytes(request.sink.data))
            return json.dumps({"length": length}).encode()
        if request.method == b"PUT":
            assert isinstance(request.sink, Upload)
            await request.sink.finish()
            request.setResponseCode(201)
            return b"{}"
        return await send_blob(request, self._door.blobs, names[0])


def refuse(request: StreamingRequest, error: SyndicateError) -> bytes:
    """An error as the manager tells it."""
    request.setResponseCode(error.status)
    told = {"code": error.code, "message": error.message, "details": dict(error.details)}
    return json.dumps({"error": told}).encode()


class _Counting(Factory):
    """Counts the connections to a site."""

    def __init__(self, door: Door, site: StreamingSite) -> None:
        self._door, self._site = door, site

    def doStart(self) -> None:
        self._site.doStart()

    def doStop(self) -> None:
        self._site.doStop()

    def buildProtocol(self, address: Any) -> Any:
        self._door.connections += 1
        return self._site.buildProtocol(address)


class _ToTheDoor(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        weak: Any = self.peer
        weak.pass_on(data)


class _ToTheDoorFactory(ProxyClientFactory):
    protocol = _ToTheDoor
    noisy = False


class _Weak(ProxyServer):
    """Passes on so many bytes, then breaks."""

    clientProtocolFactory = _ToTheDoorFactory
    #: Those left; None passes on all.
    limit: int | None = None

    def pass_on(self, data: bytes) -> None:
        """Bytes from the door."""
        transport: Any = self.transport
        transport.write(data[: self.limit])
        if self.limit is not None:
            self.limit -= min(self.limit, len(data))
            if self.limit == 0:
                transport.unregisterProducer()
                transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        peer: Any = self.peer
        if peer is not None and peer.transport is not None:
            peer.transport.abortConnection()


class _WeakLink(ProxyFactory):
    noisy = False

    def __init__(self, port: int, limits: list[int | None]) -> None:
        super().__init__("127.0.0.1", port)
        self._limits = limits

    def buildProtocol(self, address: Any) -> _Weak:
        weak = _Weak()
        weak.factory = self
        weak.limit = self._limits.pop(0) if self._limits else None
        return weak


class Silent(Factory):
    """Takes connections, and says nothing on them."""

    protocol = Protocol
    noisy = False


def token_of(*tokens: str) -> Callable[[], str]:
    """A bearer whose token is another one each time; the last stays."""
    left = list(tokens)
    return lambda: left.pop(0) if len(left) > 1 else left[0]
