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


class ITokens(Interface):
    """Makes and checks tokens; the manager keeps them in its store."""

    def make(role: str, user: str, expires_at: float | None) -> tuple[str, Token]:
        """A new secret and its token, which is not known until it is added.

        :param expires_at: epoch seconds, or None for never.
        """

    def describe(secret: str, role: str, user: str) -> Token:
        """The token of a secret that was made elsewhere; it never expires."""

    def add(tokens: Iterable[Token]) -> None:
        """Know these tokens."""

    def check(secret: str) -> Token:
        """The token of a secret.

        :raises Unauthorized: there is none, or it has expired.
        """
