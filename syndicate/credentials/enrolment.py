"""A volunteer gets its certificate, and shows it whenever it dials."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from syndicate.credentials.identity import VolunteerIdentity
from syndicate.credentials.refusals import meaning_of, said_by_openssl, tls_failure
from syndicate.credentials.tls import client_options, own
from syndicate.domain.errors import (
    BY_CODE,
    Forbidden,
    Invalid,
    SyndicateError,
    TooManyLogins,
    Unauthorized,
    Unavailable,
)

log = Logger()

#: Seconds for the manager to answer.
DEADLINE = 20.0
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
    :param join_token_file: has the join token, which is needed for the first certificate only.
    """

    _reactor: Any
    _manager: str
    _api_port: int
    authority: Path
    identity: VolunteerIdentity
    join_token_file: Path
    #: What was said last of a certificate that is not shown.
    _told: str = attrs.field(init=False, default="")

    @property
    def where(self) -> str:
        """The manager's HTTPS door, for people to read."""
        return f"the manager at {self._manager}:{self._api_port}"

    @property
    def how_to_join(self) -> str:
        """A sentence on where a join token is to be had."""
        return (
            f"Copy tokens/join of the manager's state directory to {self.join_token_file}, or put "
            "a token there that staff make for this volunteer: syndicate token new --role "
            f"volunteer --host {self.identity.name}."
        )

    def join_token(self) -> str:
        """The join token.

        :raises Invalid: it cannot be read.
        """
        try:
            return self.join_token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Invalid(
                f"The join token {self.join_token_file} cannot be read: {why}. {self.how_to_join}"
            ) from error

    def pinned(self) -> bytes:
        """The authority's certificate in PEM.

        :raises Invalid: it cannot be read, or is none.
        """
        try:
            found = self.authority.read_bytes()
            x509.load_pem_x509_certificates(found)
        except ValueError as error:
            raise Invalid(
                f"The authority {self.authority} holds no certificate. Copy "
                "authority/ca.pem of the manager's state directory there."
            ) from error
        except OSError as error:
            raise Invalid(
                f"The authority {self.authority} cannot be read: {error.strerror}. Copy "
                "authority/ca.pem of the manager's state directory there."
            ) from error
        return found

    async def certificate(self) -> x509.Certificate:
        """The certificate that can be shown now; asked for if there is none.

        :raises SyndicateError: there is none, and the manager gave none.
        """
        now = self._reactor.seconds()
        found = self.identity.certificate(now)
        if found is None:
            self._tell_flaw(now)
            await self._join()
            found = self.identity.certificate(now)
        if found is None:
            raise Unauthorized(
                f"The certificate that the manager gave to {self.identity.name} is not good now; "
                "compare the clocks of both hosts."
            )
        self._told = ""
        return found

    def _tell_flaw(self, now: float) -> None:
        flaw = self.identity.flaw(now)
        if flaw and flaw != self._told:  # said once, not at every one of endless tries
            self._told = flaw
            log.warn(
                "The certificate {file} is not shown: {why} A new one is asked for with the join "
                "token {token}.",
                file=self.identity.certificate_file,
                why=flaw,
                token=self.join_token_file,
            )

    async def _join(self) -> None:
        try:
            await self.ask(self.join_token())
        except TooManyLogins as error:
            raise TooManyLogins(f"{_capital(self.where)}: {error}") from error
        except Unauthorized as error:
            raise Unauthorized(
                f"{_capital(self.where)} does not take the join token {self.join_token_file}: "
                f"{error} {self.how_to_join}"
            ) from error
        except Forbidden as error:
            raise Forbidden(
                f"{_capital(self.where)} gave none: {error} Where that is a token: it belongs into "
                f"{self.join_token_file}."
            ) from error

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
            raise Unavailable(f"{_capital(self.where)} gave none: {self._why(error)}") from error
        told = _object(body)
        if answer.code != 201 or not isinstance(told.get("certificate"), str):
            raise _refusal(answer.code, told)
        self.identity.keep(told["certificate"])
        log.info(
            "{name} has a certificate until {until}.",
            name=self.identity.name,
            until=told.get("expires_at"),
        )

    def _why(self, error: Exception) -> str:
        reasons = getattr(error, "reasons", None)
        if reasons:
            return self._why(reasons[0].value)
        if isinstance(error, TimeoutError):
            return "it does not answer; is it up, and can it be reached from here?"
        if isinstance(error, SSL.Error):
            return tls_failure(error, self.authority)
        return str(error) or type(error).__name__


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


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

    def refused(self, error: Exception) -> str:
        """The manager did not let us join; a certificate that it does not take is of no use.

        :returns: what happened, where, and what to do, as sentences.
        """
        where = f"The manager at {self._manager}:{self._wire_port}"
        if isinstance(error, SSL.Error):
            words = said_by_openssl(error)
            if "alert" not in words:
                return f"{where}: {tls_failure(error, self.enrolment.authority)}"
            return (
                f"{where} refuses this volunteer's certificate: {meaning_of(words)} {self._anew()}"
            )
        if isinstance(error, Unauthorized):
            return f"{where} refuses this volunteer's certificate: {error} {self._anew()}"
        if isinstance(error, ConnectionClosed | TimeoutError):
            return (
                f"{where} hung up, or did not answer ({str(error).rstrip('.')}). It may be "
                "starting or stopping, or too many logins from this address have failed: its log "
                "tells."
            )
        return f"{where}: {error}"

    def _anew(self) -> str:
        self.enrolment.identity.forget()
        return (
            "This volunteer asks for a new one, with the join token "
            f"{self.enrolment.join_token_file}."
        )
