"""Who is asking: bearer tokens, and volunteers' sessions."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from syndicate.credentials.interface import ROLES
from syndicate.domain.errors import Forbidden, Invalid, Unauthorized
from syndicate.manager.service import Manager, User
from syndicate.manager.views import timestamp


@attrs.frozen
class Access:
    """Lets requests in."""

    _clock: IReactorTime
    _manager: Manager

    def user(self, request: Request) -> User:
        """The person (or script) behind a request.

        :raises Unauthorized: no good token.
        :raises Forbidden: a volunteer's token.
        """
        token = self._manager.tokens.check(bearer(request))
        if token.role == "volunteer":
            raise Forbidden("A volunteer's token only joins volunteers; use a user's.")
        address = getattr(request.getClientAddress(), "host", "")
        return User(token.user, token.role, token.id, address)

    def volunteer(self, request: Request) -> str:
        """The name of the volunteer whose session a request shows.

        :raises Unauthorized: no live session.
        """
        return self._manager.fleet.session(bearer(request)).name

    def anybody(self, request: Request) -> str:
        """The name of a user, or of a volunteer with a live session.

        :raises Unauthorized: neither.
        """
        secret = bearer(request)
        try:
            return self._manager.fleet.session(secret).name
        except Unauthorized:
            return self.user(request).name

    async def new_token(self, by: User, role: Any, user: Any, expires_in: Any) -> dict[str, Any]:
        """Make a token; its secret is told this once.

        :param expires_in: seconds, or None for one that does not expire.
        """
        if role not in ROLES:
            raise Invalid(f"{role!r} is no role; roles are {', '.join(ROLES)}.")
        if role == "operator" and by.role != "operator":
            raise Forbidden("Only operators make tokens for operators.")
        if not isinstance(user, str) or not user.isprintable() or not 0 < len(user) <= 100:
            raise Invalid(f"{user!r} is no name of a user.")
        if "/" in user:
            raise Invalid(f"{user!r}: a user's name has no slash.")
        if expires_in is not None and (
            type(expires_in) not in (int, float) or not 0 < expires_in < 1e10
        ):
            raise Invalid(f"{expires_in!r} is not a number of seconds.")
        expires_at = None if expires_in is None else self._clock.seconds() + expires_in
        secret, token = await self._manager.new_token(role, user, expires_at)
        return {
            "secret": secret,
            "id": token.id,
            "role": token.role,
            "user": token.user,
            "expires_at": timestamp(token.expires_at),
        }


def bearer(request: Request) -> str:
    """The secret that a request shows.

    :raises Unauthorized: it shows none.
    """
    kind, _, secret = (request.getHeader("authorization") or "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise Unauthorized(
            "This needs a token; set SYNDICATE_TOKEN, or send 'Authorization: Bearer …'."
        )
    return secret.strip()
