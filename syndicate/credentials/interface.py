"""Port of the credentials room: who holds a secret, and what it lets its holder do."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from zope.interface import Interface

#: The name that every client checks the manager's certificate for, wherever that runs.
SERVER_NAME = "syndicate-manager"

#: What a token's holder may do; doc/operating lists it.
ROLES = ("volunteer", "user", "staff", "operator")


@attrs.frozen
class Token:
    """What the manager knows of a token: never its secret."""

    id: str
    role: str
    user: str
    #: Of the whole secret, in hexadecimal.
    sha256: str
    #: Epoch seconds; None never expires.
    created_at: float
    expires_at: float | None = None
    #: Of a volunteer's: the only name that may be joined by; empty for any that is free.
    host: str = ""
    revoked_at: float | None = None
    revoked_by: str = ""

    def state(self, now: float) -> str:
        """``good``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        over = self.expires_at is not None and self.expires_at <= now
        return "expired" if over else "good"


@attrs.frozen
class Identity:
    """Who a peer is, by the certificate that it has proved to hold the key of."""

    #: The volunteers that it may be; one, but for simulations.
    names: frozenset[str]
    #: Of the certificate, in hexadecimal.
    serial: str


@attrs.frozen
class Enrolled:
    """What the manager knows of a volunteer that it has signed a certificate for."""

    name: str
    #: Of the certificates that it may show, the newest first; others of the name are void.
    serials: tuple[str, ...]
    #: Digest of its public key, in hexadecimal.
    key: str
    #: Of the newest certificate, in epoch seconds.
    issued_at: float
    expires_at: float
    #: Where that was asked for from.
    address: str = ""
    revoked_at: float | None = None
    revoked_by: str = ""

    def state(self, now: float) -> str:
        """``good``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at <= now else "good"


class ITokens(Interface):
    """Makes and checks tokens; the manager keeps them in its store."""

    def make(role: str, user: str, expires_at: float | None, host: str = "") -> tuple[str, Token]:
        """A new secret and its token, which is not known until it is added.

        :param expires_at: epoch seconds, or None for never.
        :param host: see `Token.host`.
        """

    def describe(secret: str, role: str, user: str) -> Token:
        """The token of a secret that was made elsewhere; it never expires."""

    def add(tokens: Iterable[Token]) -> None:
        """Know these tokens, in the place of those with the same secrets."""

    def known() -> tuple[Token, ...]:
        """All tokens, the oldest first."""

    def check(secret: str) -> Token:
        """The token of a secret.

        :raises Unauthorized: there is none, or it has expired or was revoked.
        """


class IIssuer(Interface):
    """Signs the certificates of volunteers."""

    def issue(name: str, request: str, now: float) -> tuple[str, Enrolled]:
        """A certificate in PEM, for the key that a signing request in PEM is signed with; and
        what is to be known of it.

        What else the request says is not looked at: the name comes from whoever has found out
        that it may be given.

        :param now: epoch seconds.
        :raises Invalid: the request is none, or its key is not of a kind that is taken.
        """

    def key_of(request: str) -> str:
        """The digest of the public key in a request, as in `Enrolled.key`.

        :raises Invalid: see `issue`.
        """
