"""The tokens that the manager knows, by the digest of their secrets."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import attrs
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from syndicate.credentials.interface import ITokens, Token
from syndicate.credentials.tokens import hash_secret, new_secret
from syndicate.domain.errors import Unauthorized


@implementer(ITokens)
@attrs.define(eq=False)
class TokenRegistry:
    """All tokens, in memory; the manager keeps them in its store."""

    _clock: IReactorTime
    _tokens: dict[str, Token] = attrs.field(init=False, factory=dict)

    def make(
        self, role: str, user: str, expires_at: float | None, host: str = ""
    ) -> tuple[str, Token]:
        """See `ITokens.make`."""
        secret = new_secret()
        token = self.describe(secret, role, user)
        return secret, attrs.evolve(token, expires_at=expires_at, host=host)

    def describe(self, secret: str, role: str, user: str) -> Token:
        """See `ITokens.describe`."""
        digest = hash_secret(secret)
        return Token(digest[:12], role, user, digest, self._clock.seconds())

    def add(self, tokens: Iterable[Token]) -> None:
        """See `ITokens.add`."""
        self._tokens.update({token.sha256: token for token in tokens})

    def known(self) -> tuple[Token, ...]:
        """See `ITokens.known`."""
        return tuple(sorted(self._tokens.values(), key=lambda token: token.created_at))

    def check(self, secret: str) -> Token:
        """See `ITokens.check`."""
        digest = hash_secret(secret)
        # The look-up leaks at most how the digest of a guess compares, which tells nothing of
        # the secret; the comparison that decides takes the same time for all.
        token = self._tokens.get(digest)
        if token is None or not hmac.compare_digest(token.sha256, digest):
            raise Unauthorized(
                "The token is not known here; check SYNDICATE_TOKEN or the token file, and that "
                "it is of this cluster."
            )
        state = token.state(self._clock.seconds())
        if state == "revoked":
            raise Unauthorized(
                f"The token {token.id} of {token.user} was revoked by {token.revoked_by}; ask "
                "staff for a new one (syndicate token new)."
            )
        if state == "expired":
            raise Unauthorized(
                f"The token {token.id} of {token.user} has expired; ask staff for a new one "
                "(syndicate token new)."
            )
        return token
