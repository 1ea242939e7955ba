"""A volunteer gets its certificate, keeps it fresh, and shows it whenever it dials."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.tls import client_options, own
from syndicate.domain.errors import BY_CODE, Invalid, SyndicateError, Unauthorized, Unavailable

log = Logger()

#: Seconds for the manager to answer, and between two looks at the certificate's age.
DEADLINE = 20.0
LOOK = 3600.0
#: Bytes of an answer that are looked at.
LONGEST = 64 << 10


@implementer(IPolicyForHTTPS)
@attrs.frozen
class _Pinned:
    """Only the manager of our authority will do, whatever it is called here."""

    authority: bytes

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """What makes the TLS end of a connection."""
        return client_options(self.authority)


@attrs.define(eq=False)
class Enrolment:
    """Asks the manager's HTTPS door for certificates.

    :param authority: the file with the only authority that is trusted.
    :param join_token: reads the join token; it is needed for the first certificate only.
    """

    _reactor: Any
    _manager: str
    _api_port: int
    authority: Path
    identity: VolunteerIdentity
    join_token: Callable[[], str]

    def pinned(self) -> bytes:
        """The authority's certificate in PEM.

        :raises Invalid: it cannot be read.
        """
        try:
            return self.authority.read_bytes()
        except OSError as error:
            raise Invalid(
                f"The authority {self.authority} cannot be read: {error.strerror}. Copy "
                "authority/ca.pem of the manager's state directory there."
            ) from error

    async def certificate(self) -> x509.Certificate:
        """The certificate that can be shown now; asked for if there is none.

        :raises SyndicateError: there is none, and the manager gave none.
        """
        now = self._reactor.seconds()
        found = self.identity.certificate(now)
        if found is None:
            await self.ask(self.join_token())
            found = self.identity.certificate(now)
        if found is None:
            raise Unauthorized(
                f"The certificate that the manager gave to {self.identity.name} is not good now; "
                "compare the clocks of both hosts."
            )
        return found

    async def ask(self, secret: str) -> None:
        """Ask for a certificate, and keep it.

        :param secret: the join token, or the session of a connection that is joined.
        :raises SyndicateError: the manager gave none; the message says why.
        """
        asked = {"name": self.identity.name, "request": self.identity.request()}
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent(self._reactor, _Pinned(self.pinned()), connectTimeout=DEADLINE, pool=pool)
        host = f"[{self._manager}]" if ":" in self._manager else self._manager
        try:
            answer = await agent.request(
                b"POST",
                f"https://{host}:{self._api_port}/v1/certificates".encode(),
                Headers({"Authorization": [f"Bearer {secret}"]}),
                FileBodyProducer(BytesIO(json.dumps(asked).encode())),
            ).addTimeout(DEADLINE, self._reactor)
            collected = _Body()
            answer.deliverBody(collected)
            body = await collected.whole.addTimeout(DEADLINE, self._reactor)
        except CancelledError:
            raise
        except Exception as error:
            raise Unavailable(f"The manager gave no certificate: {_why(error)}") from error
        told = _object(body)
        if answer.code != 201 or not isinstance(told.get("certificate"), str):
            raise _refusal(answer.code, told)
        self.identity.keep(told["certificate"])
        log.info(
            "{name} has a certificate until {until}.",
            name=self.identity.name,
            until=told.get("expires_at"),
        )


class _Body(Protocol):
    """The body of an answer, which is short."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        """Take some more."""
        self._data = (self._data + data)[:LONGEST]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """That was all of it, or all that came."""
        if not self.whole.called:
            self.whole.callback(self._data)


def _why(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _why(reasons[0].value)
    if isinstance(error, TimeoutError):
        return "it does not answer."
    return str(error) or type(error).__name__


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _refusal(status: int, told: dict[str, Any]) -> SyndicateError:
    error = told.get("error")
    if isinstance(error, dict) and error.get("code") in BY_CODE:
        return BY_CODE[error["code"]](str(error.get("message")))
    return Unavailable(f"The manager answered a request for a certificate with {status}.")


@implementer(IStreamClientEndpoint)
@attrs.define(eq=False, repr=False)
class EnrolledEndpoint:
    """Connects to the manager's wire, showing the certificate; asks for one first if need be."""

    _reactor: Any
    _manager: str
    _wire_port: int
    enrolment: Enrolment
    _complaint: str = ""

    def __repr__(self) -> str:
        """For Twisted's log."""
        return f"<the manager at {self._manager}:{self._wire_port}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See `IStreamClientEndpoint`."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        try:
            identity = self.enrolment.identity
            shown = own(identity, await self.enrolment.certificate())
            context = client_options(self.enrolment.pinned(), shown)
        except SyndicateError as error:
            # Said once, not at every one of endless tries.
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("This volunteer has no certificate: {why} Trying on.", why=str(error))
            raise
        self._complaint = ""
        inner = HostnameEndpoint(self._reactor, self._manager, self._wire_port)
        return await wrapClientTLS(context, inner).connect(factory)

    def refused(self, error: Exception) -> None:
        """The manager did not let us join; a certificate that it does not take is of no use."""
        if isinstance(error, Unauthorized) or not isinstance(error, SyndicateError | OSError):
            self.enrolment.identity.forget()


@attrs.define(eq=False)
class Renewal(Service):
    """Renews the certificate of a volunteer that is joined, long before it expires.

    :param session: the secret of the present connection, or an empty text.
    """

    _reactor: Any
    _enrolment: Enrolment
    _session: Callable[[], str]
    _timer: IDelayedCall | None = None
    _asking: Deferred[None] | None = None

    def startService(self) -> None:
        """Look now and then."""
        super().startService()
        self._timer = self._reactor.callLater(LOOK, self._look)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _look(self) -> None:
        self._timer = self._reactor.callLater(LOOK, self._look)
        now = self._reactor.seconds()
        identity, secret = self._enrolment.identity, self._session()
        certificate = identity.certificate(now)
        if certificate is None or not secret or not identity.is_old(certificate, now):
            return
        self._asking = Deferred.fromCoroutine(self._enrolment.ask(secret))
        self._asking.addErrback(
            lambda failure: log.warn(
                "The certificate could not be renewed, which is tried again: {why}",
                why=failure.getErrorMessage(),
            )
        )
